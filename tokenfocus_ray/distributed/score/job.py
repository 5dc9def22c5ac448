"""The batch job: manifests -> read, prepare (CPU tasks) -> score (actors) -> commit -> Parquet.

Launched again with the same configuration it goes on where it stood; see
:mod:`~tokenfocus_ray.distributed.score.commits` for what makes that exact.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as pads
import ray

from tokenfocus_ray.config import JobConfig, ScoringConfig
from tokenfocus_ray.datasets.recorded import RUN_FILE, RecordedInput
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.units import Source
from tokenfocus_ray.distributed.layout import COMMITS, INPUT
from tokenfocus_ray.distributed.output import OutputFolder, OutputKind
from tokenfocus_ray.distributed.preflight import (
    check_ensemble,
    check_features,
    check_scales,
    check_scorer,
    resolve_config,
    scoring_identity,
)
from tokenfocus_ray.distributed.score.commits import JOB_FILE
from tokenfocus_ray.distributed.score.launch import BatchRun
from tokenfocus_ray.distributed.score.ledger import Ledger
from tokenfocus_ray.distributed.score.pools import Scorer, check_budget
from tokenfocus_ray.distributed.score.reopen import reopen
from tokenfocus_ray.distributed.session import cluster_gpus, ray_session
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.progress import Watch
from tokenfocus_ray.say import Say, in_lines
from tokenfocus_ray.scoring.stage import ScoreStage
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import PLAIN, TextOptions

if TYPE_CHECKING:
    from tokenfocus_ray.ensemble.bundle import Ensemble

SCORES = OutputKind("score", "no scoring job", JOB_FILE)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a finished job did.

    Attributes:
        out: The output folder.
        rows: Rows in, which equals rows out.
        scored: Rows with a score.
        unscored: Rows without, by error code.
        seconds: Wall time of this launch, start of Ray included.
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
    manifest: str | Sequence[str],
    out: str,
    config: ScoringConfig | Mapping[str, ScoringConfig],
    *,
    images: str | None = None,
    images_only: bool = False,
    mapping: Mapping[str, str] | None = None,
    encoding: str | None = None,
    quotes: bool = True,
    job: JobConfig | None = None,
    ensemble: Ensemble | None = None,
    overwrite: bool = False,
    retry_unscored: bool = False,
    say: Say = print,
    progress: Watch | None = None,
) -> RunSummary:
    """Scores every row of some manifests; launched again, what is left of them.

    Args:
        manifest: One or several: see :mod:`~tokenfocus_ray.datasets.sources`.
        out: Folder for the Parquet files, local or ``s3://``; every node must reach it.
        config: What to score with; of several backbones, name -> configuration.
        images: Folder that relative image paths start from; each manifest's own by default.
        images_only: Whether to refuse images outside that folder, row by row; for manifests of
            strangers, which may name any file that the workers can read.
        mapping: Role -> column name, see :mod:`~tokenfocus_ray.datasets.manifest`.
        encoding: Of text without a byte order mark, as Python names it; None: UTF-8.
        quotes: Whether quotes in ``.csv`` and ``.tsv`` stand around values; else they are text.
        job: Workers and pace.
        ensemble: What makes one score of the members', with an interval; see
            :func:`~tokenfocus_ray.ensemble.apply.merge`.
        overwrite: Whether to delete an earlier job's scores in ``out``.
        retry_unscored: Whether to score rows again whose image a store did not hand out.
        say: Takes lines of what happens.
        progress: Is told where the job stands, at each piece; None: ``say`` takes lines of it.

    Raises:
        ManifestError: a manifest cannot be read or lacks columns.
        OutputError: ``out`` is not writable, holds something else, lies in the input folder, or
            another launch is writing to it.
        ConfigError: ``out`` holds scores of another configuration or input; the session is too
            small for the workers; or the ensemble is of other members.
        BackboneError, AdapterError, LevelError: the scorer cannot be built.
        JobError: the job ended before all rows were scored; launching it again goes on.
    """
    given = {config.backbone: config} if isinstance(config, ScoringConfig) else dict(config)
    resolved = {name: resolve_config(one) for name, one in given.items()}
    several = {name: one for name, (one, _) in resolved.items()}
    check_scales(several)
    scorers = [
        Scorer(name, check_scorer(one, source), functools.partial(ScoreStage, one, source))
        for name, (one, source) in resolved.items()
    ]
    each = {name: scoring_identity(one, source) for name, (one, source) in resolved.items()}
    identity = {f"{name}.{k}": v for name, values in each.items() for k, v in values.items()}
    if len(each) == 1:
        (identity,) = each.values()
    made: set[str] = set()
    if ensemble is not None:
        from tokenfocus_ray.tables.features import feature_names

        check_ensemble(ensemble, each)
        identity["ensemble"] = ensemble.fingerprint()
        made = feature_names(
            {
                name if len(several) > 1 else one.backbone: list(one.adapters) or ["base"]
                for name, one in several.items()
            }
        )
    return run_job(
        [manifest] if isinstance(manifest, str) else manifest,
        out, scorers, identity, images=images, images_only=images_only, mapping=mapping or {},
        job=job or JobConfig(), text=TextOptions(encoding, quotes), ensemble=ensemble,
        features=made, overwrite=overwrite,
        retry_unscored=retry_unscored, say=say, progress=progress,
    )  # fmt: skip


def run_job(
    manifests: Sequence[str],
    out: str,
    scorers: Sequence[Scorer],
    identity: Mapping[str, Any],
    *,
    images: str | None,
    images_only: bool = False,
    mapping: Mapping[str, str],
    job: JobConfig,
    text: TextOptions = PLAIN,
    ensemble: Ensemble | None = None,
    features: Collection[str] = (),
    overwrite: bool,
    retry_unscored: bool,
    say: Say,
    progress: Watch | None = None,
) -> RunSummary:
    """:func:`score_manifest` with scorers of the caller's.

    Args:
        manifests: See :func:`score_manifest`.
        out: Likewise.
        scorers: What to score with.
        identity: What the scores depend on, beside the input.
        images: See :func:`score_manifest`.
        images_only: Likewise.
        mapping: Likewise.
        job: Likewise.
        text: How text of the input is read.
        ensemble: Likewise.
        features: Columns to stack that the scorers make.
        overwrite: Likewise.
        retry_unscored: Likewise.
        say: Likewise.
        progress: Likewise.
    """
    started = time.monotonic()
    others = [images] if images else []
    folder = OutputFolder.find(SCORES, out, manifests, others=others, overwrite=overwrite)
    store = folder.store
    source = plan_source(manifests, images, mapping, store.child(INPUT), text, say)
    source = replace(source, confined=images_only)
    if ensemble is not None:
        check_features(ensemble, features, source.schema.names)
    identity = {
        **identity,
        **{f"input.{name}": value for name, value in source.fingerprint.items()},
        **{f"input.column.{role}": name for role, name in asdict(source.columns).items() if name},
        **({"input.encoding": text.encoding} if text.encoding else {}),
        "commit_rows": job.commit_rows,
    }
    if folder.is_begun(identity) and not retry_unscored and _is_finished(store, source):
        folder.sweep()
        summary = _count(store, source.n_rows)
        say(f"already finished: {summary.rows:,} rows are there, nothing is scored")
        return replace(summary, out=out, seconds=time.monotonic() - started)
    with ray_session():
        # first, so that a job that is refused leaves nothing behind
        names = [scorer.name for scorer in scorers]
        check_budget(names, job, cluster_gpus(), ray.cluster_resources().get("CPU", 0))
        with folder.launch(identity, say) as launch:
            ledger = Ledger(store, source.units) if launch.resumes else None
            if ledger and retry_unscored and (again := reopen(ledger)):
                say(f"{again} rows are scored again")
                ledger = Ledger(store, source.units)
            record: dict[str, Any] | None = None
            if ledger is None or not ledger.is_finished:
                if ledger is None:
                    if hint := elements_hint(source):
                        say(hint)
                    launch.clear()
                    launch.keep_inputs(source.inputs)
                    launch.write_record()
                    ledger = Ledger(store, source.units)
                else:
                    say(ledger.done_in_words(job.commit_rows))
                watch = progress or in_lines(say)
                run = BatchRun(launch.lease, source, scorers, job, ledger, say, ensemble, watch)
                run.finish()
                record = run.record()
            launch.finish()
            store.delete(COMMITS)
            summary = _count(store, source.n_rows)
            summary = replace(summary, out=out, seconds=time.monotonic() - started)
            if record or not store.exists(RUN_FILE):
                recorded = RecordedInput.of(manifests, source, images, dict(mapping), text)
                about = {"launch": record, "job": identity, "input": recorded.model_dump()}
                store.write_json(RUN_FILE, asdict(summary) | about)
    return summary


def elements_hint(source: Source) -> str | None:
    """How to make elements, for a manifest that has none; of tar shards only reading tells.

    Args:
        source: What is scored.
    """
    if source.columns.elements is not None:
        return None
    return (
        f"no elements: prompts get a total score only; `tokenfocus data elements {source.where} "
        f"--out FOLDER` makes a manifest with some"
    )


def _is_finished(store: Store, source: Source) -> bool:
    """Whether there is nothing to do or to tidy up: such a folder may be read-only by now."""
    return (
        store.exists(RUN_FILE)
        and not store.exists(COMMITS)
        and Ledger(store, source.units).is_finished
    )


def _count(store: Store, n_rows: int | None) -> RunSummary:
    """Rows of the output by code, a few at a time."""
    data = pads.dataset(store.root, filesystem=store.filesystem, format="parquet")
    codes: Counter[str | None] = Counter()
    for batch in data.to_batches(columns=["error_code"]):
        codes.update(batch.column(0).to_pylist())
    scored, rows = codes.pop(None, 0), codes.total()
    rows += scored
    if n_rows is not None and rows != n_rows:
        raise OutputError(
            f"{store.uri}: {rows} rows were written for {n_rows} rows of the manifest; another job "
            f"must have written to this folder: run again with --overwrite"
        )
    return RunSummary("", rows, scored, {str(c): n for c, n in codes.items()}, 0.0)
