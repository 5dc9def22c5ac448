"""The batch job: manifest -> prepare (CPU tasks) -> score (actors) -> Parquet."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as pads
import ray

from tokenfocus_ray.backbones import registry
from tokenfocus_ray.backbones.base import ImageSpec
from tokenfocus_ray.backbones.lora import check_adapters, check_taught
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.datasets.evalmuse import read_evalmuse
from tokenfocus_ray.datasets.manifest import find_columns, read_small
from tokenfocus_ray.distributed.session import cluster_gpus, ray_session
from tokenfocus_ray.distributed.stages import PrepareStage, ScoreStage
from tokenfocus_ray.errors import ConfigError, ManifestError, OutputError, TokenFocusError
from tokenfocus_ray.scoring.levels import LevelVocabulary
from tokenfocus_ray.scoring.prompt import asked

#: Rows that a decoding task takes at a time: enough to amortise a task, few enough to spread.
PREPARE_ROWS = 32
#: Rows that a scorer takes at a time: several micro-batches, so that sorting by length pays.
SCORE_ROWS = 128
#: Logical CPUs of a scoring actor: a fraction, so that the stages that feed it find a place.
ACTOR_CPUS = 0.5
#: Logical CPUs that reading, decoding and writing need at the least, beside the actors.
FEEDING_CPUS = 2
#: Written beside the Parquet files; readers of a folder skip names that start with an underscore.
RUN_FILE = "_run.json"


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a finished job did.

    Attributes:
        out: The output folder.
        rows: Rows in, which equals rows out.
        scored: Rows with a score.
        unscored: Rows without, by error code.
        seconds: Wall time of the job, start of Ray included.
    """

    out: str
    rows: int
    scored: int
    unscored: dict[str, int]
    seconds: float

    def line(self) -> str:
        """The final line, which a script can read."""
        n_unscored = sum(self.unscored.values())
        codes = ", ".join(f"{code} {n}" for code, n in sorted(self.unscored.items()))
        reasons = f" ({codes})" if codes else ""
        return (
            f"rows={self.rows} scored={self.scored} unscored={n_unscored}{reasons} "
            f"seconds={self.seconds:.1f} out={self.out}"
        )


def score_manifest(
    manifest: str,
    out: str,
    config: ScoringConfig,
    *,
    images: str | None = None,
    mapping: Mapping[str, str] | None = None,
    workers: int | None = None,
    overwrite: bool = False,
) -> RunSummary:
    """Scores every row of a manifest.

    Args:
        manifest: ``.parquet`` (a file or a folder of them), ``.csv``, ``.tsv``, ``.jsonl``, or
            ``.json`` in EvalMuse's form.
        out: Folder for the Parquet files; must be empty or missing.
        config: What to score with.
        images: Folder that relative image paths start from; the manifest's own by default.
        mapping: Role -> column name, see :mod:`~tokenfocus_ray.datasets.manifest`.
        workers: Scoring actors; one a GPU, or one on a machine without.
        overwrite: Whether to delete what is in ``out``.

    Raises:
        ManifestError: the manifest cannot be read or lacks columns.
        OutputError: ``out`` is not empty or not writable.
        BackboneError, AdapterError, LevelError: the scorer cannot be built.
    """
    started = time.monotonic()
    path = Path(manifest)
    if not path.exists():
        raise ManifestError(f"manifest {manifest!r} does not exist")
    base = images or str(path if path.is_dir() else path.parent)
    if not Path(base).is_dir():
        raise ManifestError(f"image folder {base!r} is not a directory")
    folder = check_output(out, overwrite, keep=(path, Path(base)))
    spec = check_scorer(config)
    with ray_session():
        dataset, n_rows = _read(path, mapping or {})
        columns = find_columns(dataset.schema().names, mapping or {}, manifest)
        gpus = cluster_gpus()
        n_actors = workers or gpus or 1
        threads = None if gpus else max(1, (os.cpu_count() or 1) // n_actors)
        _check_budget(n_actors, gpus, ray.cluster_resources().get("CPU", 0))
        _make_output(folder)
        prepare: Any = PrepareStage(columns, spec, os.path.abspath(base))  # Arrow tables only
        prepared = dataset.map_batches(
            prepare,
            batch_size=PREPARE_ROWS,
            batch_format="pyarrow",
        )
        scored = prepared.map_batches(
            ScoreStage,
            fn_constructor_args=(config, columns, "cuda" if gpus else "cpu", threads),
            batch_size=SCORE_ROWS,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=n_actors),
            num_gpus=1 if gpus else 0,
            num_cpus=ACTOR_CPUS,
        )
        try:
            scored.write_parquet(str(folder.resolve()))
        except ray.exceptions.RayError as error:
            cause = _own_error(error)
            if cause is None:
                raise
            raise cause from error
    summary = _summarise(folder, n_rows, time.monotonic() - started)
    record = asdict(summary) | {"manifest": manifest, "config": config.model_dump()}
    (folder / RUN_FILE).write_text(json.dumps(record, indent=2) + "\n")
    return summary


def check_scorer(config: ScoringConfig) -> ImageSpec:
    """Finds what would make every actor fail, before one is started and without the weights.

    Returns:
        How the backbone wants its images.

    Raises:
        BackboneError, AdapterError, LevelError: as the actors would.
    """
    source = registry.resolve(config.backbone, config.revision)
    spec = registry.image_spec(source, config.max_visual_tokens)
    check_adapters(config.adapters)
    check_taught(config.adapters, config.backbone, asked(config))
    tokenizer = registry.load_tokenizer(source)
    context = registry.family_class(source.family).markup.before_answer
    for levels in (config.total_levels, config.element_levels):
        LevelVocabulary.of(levels).token_ids(
            lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]),
            context,
            source.name,
        )
    return spec


def _check_budget(n_actors: int, gpus: int, cpus: float) -> None:
    """A pool that holds every CPU starves the tasks that feed it, and the job waits for ever."""
    needed = n_actors * ACTOR_CPUS + FEEDING_CPUS
    if needed > cpus:
        raise ConfigError(
            f"--workers {n_actors} needs {needed:g} logical CPUs ({ACTOR_CPUS:g} each, "
            f"{FEEDING_CPUS} to feed them), but the session has {cpus:g}; use at most "
            f"{max(0, int((cpus - FEEDING_CPUS) / ACTOR_CPUS))} workers"
        )
    if gpus and n_actors > gpus:
        raise ConfigError(f"--workers {n_actors} needs a GPU each, but the session has {gpus}")


def check_output(out: str, overwrite: bool, keep: Sequence[Path]) -> Path:
    """Refuses an output that cannot be written to, or that holds anything but earlier scores.

    Args:
        out: The output folder.
        overwrite: Whether what an earlier job wrote may be deleted.
        keep: The inputs, which must not lie in it.

    Raises:
        OutputError: naming the folder and what is in the way.
    """
    folder = Path(out)
    if "://" in out:
        raise OutputError(f"output {out!r}: only local folders can be written to as yet")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"output {out!r} is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise OutputError(
            f"output folder {out!r} is not empty; choose another, or add --overwrite to delete "
            f"what is in it"
        )
    for path in keep if folder.is_dir() else ():
        if path.resolve().is_relative_to(folder.resolve()):
            raise OutputError(
                f"output folder {out!r} holds the input {str(path)!r}, which --overwrite would "
                f"delete; choose another"
            )
    if folder.is_dir():
        foreign = [p.name for p in folder.iterdir() if p.name != RUN_FILE and not _is_scores(p)]
        if foreign:
            raise OutputError(
                f"output folder {out!r} holds {sorted(foreign)[0]!r}, which no scoring job wrote; "
                f"--overwrite deletes scores only: choose another folder"
            )
    return folder


def _is_scores(path: Path) -> bool:
    return path.suffix == ".parquet" and path.is_file()


def _make_output(folder: Path) -> None:
    try:
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"output folder {str(folder)!r} cannot be made: {error.strerror}"
        ) from error


def _read(path: Path, mapping: Mapping[str, str]) -> tuple[ray.data.Dataset, int]:
    """The manifest as a data set, and its number of rows."""
    if path.is_dir() or path.suffix == ".parquet":
        try:
            n_rows = pads.dataset(path, format="parquet").count_rows()
        except (OSError, ValueError) as error:
            raise ManifestError(f"{path}: cannot be read as Parquet: {error}") from error
        if n_rows == 0:
            raise ManifestError(f"manifest {str(path)!r} has no rows")
        return ray.data.read_parquet(str(path.resolve())), n_rows
    if path.suffix == ".json":
        table = read_evalmuse(str(path))
    elif path.suffix in (".csv", ".tsv", ".jsonl"):
        table = read_small(path, mapping)
    else:
        raise ManifestError(
            f"manifest {str(path)!r}: cannot tell its format from {path.suffix!r}; wanted "
            f".parquet, .csv, .tsv, .jsonl or .json (EvalMuse)"
        )
    if table.num_rows == 0:
        raise ManifestError(f"manifest {str(path)!r} has no rows")
    return ray.data.from_arrow(table), table.num_rows


def _own_error(error: BaseException | None) -> TokenFocusError | None:
    """The error of ours that a Ray error carries, if any."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, TokenFocusError):
            return error
        seen.add(id(error))
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None


def _summarise(folder: Path, n_rows: int, seconds: float) -> RunSummary:
    table = pads.dataset(folder, format="parquet").to_table(columns=["status", "error_code"])
    if table.num_rows != n_rows:
        raise OutputError(
            f"{folder}: {table.num_rows} rows were written for {n_rows} rows of the manifest; the "
            f"output is incomplete: run again with --overwrite"
        )
    unscored = dict(Counter(code for code in table["error_code"].to_pylist() if code is not None))
    return RunSummary(str(folder), n_rows, n_rows - sum(unscored.values()), unscored, seconds)
