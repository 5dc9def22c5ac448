"""What training reads: the samples, checked before any GPU is asked for, and each worker's rows.

Rows reach the workers in the order of the :class:`~tokenfocus_ray.training.schedule.Schedule`, so
which samples a step takes depends on neither the number of workers nor on an interruption. Ray
Train's own split deals blocks to whichever worker asks first; ``StepSharding`` replaces it at the
place that Ray Train has for that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import ray
import ray.data
import ray.train

from tokenfocus_ray.backbones.base import ImageSpec
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.datasets.asked import as_asked, by_type, check_file
from tokenfocus_ray.datasets.evalmuse import read_evalmuse
from tokenfocus_ray.datasets.manifest import Columns, find_columns
from tokenfocus_ray.datasets.schemas import unified
from tokenfocus_ray.datasets.sources import File, footer
from tokenfocus_ray.datasets.text import ERROR_CODE, ERROR_MESSAGE, TextOptions
from tokenfocus_ray.datasets.text_tables import read_small
from tokenfocus_ray.distributed.causes import carry_errors, own_errors
from tokenfocus_ray.distributed.stages import PrepareStage
from tokenfocus_ray.errors import ManifestError, RowError
from tokenfocus_ray.scoring.fetch import fetch
from tokenfocus_ray.scoring.image import decode
from tokenfocus_ray.storage import Store, public
from tokenfocus_ray.training.bags import make_bags
from tokenfocus_ray.training.samples import (
    SAMPLE_COLUMNS,
    SAMPLES,
    SKIPPED,
    check_disjoint,
    check_weights,
    index_samples,
)
from tokenfocus_ray.training.schedule import Schedule, Step

SAMPLES_FILE = "samples.parquet"
SKIPPED_FILE = "skipped.parquet"
_THREADS = 16
#: Rows of a block of the training stream: enough to amortise a task, few enough to stay in step.
CHUNK_ROWS = 32
#: Logical CPUs of a task that fetches, decodes and resizes.
DATA_CPUS = 0.5
#: More bad rows than this share of a manifest is no accident.
MOST_SKIPPED = 0.5


@dataclass(frozen=True, slots=True)
class Manifest:
    """A labelled manifest, without its images.

    Attributes:
        path: As the user gave it.
        table: Every column but image bytes.
        columns: Which column is what.
        base: Folder that relative image paths start from.
    """

    path: str
    table: pa.Table
    columns: Columns
    base: str

    @property
    def fingerprint(self) -> str:
        """Hash of what is trained on: prompts, labels and references to images."""
        names = [n for n in (*SAMPLES.names, "prompt_id") if n in self.table.column_names]
        c = self.columns
        names += [n for n in (c.prompt, c.image_uri, c.elements, c.sample_id) if n]
        digest = hashlib.sha256()
        for name in dict.fromkeys(names):
            digest.update(name.encode())
            for value in self.table[name].to_pylist():
                digest.update(repr(value).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


def read_manifest(
    path: str, images: str | None, mapping: Mapping[str, str], encoding: str | None = None
) -> Manifest:
    """Reads a labelled manifest, all columns but image bytes.

    Args:
        path: Parquet (a file or a folder of them), ``.jsonl`` or EvalMuse's ``.json``; local or
            s3://.
        images: Folder that relative image paths start from; the manifest's own by default.
        mapping: Role -> column name.
        encoding: Of text; None: UTF-8.

    Raises:
        ManifestError: it cannot be read, or lacks columns.
        ConfigError: there is no such encoding.
    """
    remote, text = "://" in path, TextOptions(encoding)
    suffix = Path(path).suffix
    if not remote and not Path(path).exists():
        raise ManifestError(f"manifest {path!r} does not exist")
    if suffix == ".json" or (suffix == ".jsonl" and not remote):
        if suffix == ".json":
            table = read_evalmuse(path, encoding=text.encoding)
        else:
            table = read_small(Path(path), mapping, text)
        columns = by_type(find_columns(table.column_names, mapping, path), table.schema, mapping)
        check_file(table.schema, table.schema, columns, path, table.num_rows)
    elif suffix in (".parquet", "") or (not remote and Path(path).is_dir()):
        store = Store.of(path)
        try:
            data = pads.dataset(store.root, filesystem=store.filesystem, format="parquet")
            scheme = "" if store.is_local else "s3://"
            files = [File(f"{scheme}{name}", path, 0) for name in data.files]
            with ThreadPoolExecutor(_THREADS) as pool:
                footers = list(pool.map(footer, files))
            schema = unified(files, footers)
            columns = by_type(find_columns(schema.names, mapping, path), schema, mapping)
            for file, own in zip(files, footers, strict=True):
                kinds = own.schema.to_arrow_schema()
                check_file(kinds, schema, columns, public(file.uri), own.num_rows)
            whole = pads.dataset(data.files, schema, filesystem=store.filesystem, format="parquet")
            table = whole.to_table(columns=[n for n in schema.names if n != columns.image])
        except (OSError, pa.ArrowException) as error:
            raise ManifestError(f"{path}: cannot be read as Parquet: {error}") from error
    else:
        raise ManifestError(
            f"manifest {path!r}: cannot tell its format from {suffix!r}; wanted .parquet, .jsonl "
            f"(local) or .json (EvalMuse)"
        )
    if table.num_rows == 0:
        raise ManifestError(f"manifest {path!r} has no rows")
    is_folder = suffix != ".parquet" and suffix not in (".json", ".jsonl")
    base = images or (path if is_folder else path.rpartition("/")[0] or ".")
    if "://" not in base:
        base = os.path.abspath(base)
    return Manifest(path, as_asked(table, columns, encoding), columns, base)


_INSPECTED_COLUMNS: dict[str, pa.DataType] = {
    "row": pa.int64(),
    "uri": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "code": pa.string(),
    "message": pa.string(),
}
_INSPECTED = pa.schema(_INSPECTED_COLUMNS)


@dataclass(frozen=True, slots=True)
class _Inspect:
    """Decodes an image as training will, and puts bytes of a manifest where workers find them."""

    columns: Columns
    specs: tuple[ImageSpec, ...]
    base: str
    keep: Store

    def __call__(self, table: pa.Table) -> pa.Table:
        image = self.columns.image
        out: list[dict[str, Any]] = []
        for row in as_asked(table, self.columns).to_pylist():
            result: dict[str, Any] = {"row": row["row"], "uri": row["uri"]}
            try:
                if row[ERROR_CODE] is not None:
                    raise RowError(row[ERROR_CODE], row[ERROR_MESSAGE])
                value = row[image] if image else None
                if isinstance(value, Mapping):
                    value = value.get("path") if value.get("bytes") is None else value["bytes"]
                data = value if isinstance(value, bytes) else fetch(value or row["uri"], self.base)
                pixels = decode(data, where=f"row {row['row']}")
                result |= {"width": pixels.shape[1], "height": pixels.shape[0]}
                for spec in self.specs:
                    spec.plan(pixels.shape[1], pixels.shape[0])
                if isinstance(value, bytes):
                    name = hashlib.sha256(value).hexdigest()[:32]
                    if not self.keep.exists(name):
                        self.keep.write_bytes(name, value)
                    result["uri"] = self.keep.child(name).uri
                elif value:
                    result["uri"] = value
            except RowError as error:
                result |= {"code": error.code, "message": error.message}
            out.append(result)
        return pa.Table.from_pylist(out, schema=_INSPECTED)


def prepare_samples(
    manifest: Manifest, config: TrainConfig, specs: Sequence[ImageSpec], store: Store
) -> tuple[pa.Table, pa.Table]:
    """The samples, every image decoded once and every prompt fit to ask; written to the run.

    Args:
        manifest: What to train on.
        config: Levels, and the test manifest that must be disjoint.
        specs: How each backbone wants its images.
        store: The run's folder.

    Returns:
        Samples and rows left out, see :mod:`~tokenfocus_ray.training.samples`.

    Raises:
        ManifestError: nothing is left, more than half is left out, or a test prompt is among them.
    """
    from tokenfocus_ray.training.plan import unaskable  # needs torch, which data tasks do not

    samples, skipped = index_samples(manifest.table, manifest.columns, config, manifest.path)
    if config.test:
        test = read_manifest(config.test, config.images, config.map, config.encoding)
        prompts = test.table[test.columns.prompt].to_pylist()
        check_disjoint(samples, prompts, manifest.path, config.test)
    check_weights(samples, config)
    groups: list[Any] = samples["group"].to_pylist()
    make_bags(groups, config.bags)  # too few prompts: said before an image is read
    inspect = _Inspect(manifest.columns, tuple(specs), manifest.base, store.child("images"))
    dataset = _with_images(manifest, samples, inspect)
    carry_errors(dataset)
    with own_errors():
        seen = {row["row"]: row for row in dataset.take_all()}
    decoded = [row for row in samples.to_pylist() if seen[row["row"]]["code"] is None]
    sizes = {r["row"]: (seen[r["row"]]["width"], seen[r["row"]]["height"]) for r in decoded}
    for number, error in unaskable(config, decoded, sizes).items():
        seen[number] |= {"code": error.code, "message": error.message}
    bad = [row for row in samples.to_pylist() if seen[row["row"]]["code"] is not None]
    more = [
        {"row": r["row"], "sample_id": r["sample_id"]}
        | {k: seen[r["row"]][k] for k in ("code", "message")}
        for r in bad
    ]
    skipped = pa.concat_tables([skipped, pa.Table.from_pylist(more, schema=SKIPPED)])
    good = pc.invert(
        pc.is_in(samples["row"], value_set=pa.array([r["row"] for r in bad], pa.int64()))
    )
    samples = samples.filter(good)
    uris = [seen[row]["uri"] for row in samples["row"].to_pylist()]
    index = samples.schema.get_field_index("image_uri")
    samples = samples.set_column(index, SAMPLES.field("image_uri"), pa.array(uris, pa.string()))
    total = samples.num_rows + skipped.num_rows
    if skipped.num_rows > MOST_SKIPPED * total:
        first = skipped.slice(0, 1).to_pylist()[0]
        raise ManifestError(
            f"{manifest.path}: {skipped.num_rows} of {total} rows cannot be trained on; the first, "
            f"row {first['row']}: {first['code']}: {first['message']}"
        )
    for name, table in ((SKIPPED_FILE, skipped), (SAMPLES_FILE, samples)):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        store.write_bytes(name, sink.getvalue().to_pybytes())
    return samples, skipped


def _with_images(manifest: Manifest, samples: pa.Table, inspect: _Inspect) -> ray.data.Dataset:
    """The inspected rows: of the samples, or of a manifest with image bytes, all of them."""
    options: dict[str, Any] = {"batch_format": "pyarrow", "num_cpus": DATA_CPUS}
    if manifest.columns.image is None:
        small = samples.select(["row", "image_uri"]).rename_columns(["row", "uri"])
        one: Any = inspect
        return ray.data.from_arrow(_chunks(small)).map_batches(
            one, batch_size=CHUNK_ROWS, **options
        )
    store = Store.of(manifest.path)
    files = pads.dataset(store.root, filesystem=store.filesystem, format="parquet")
    groups, start = [], 0
    for fragment in files.get_fragments():
        for group in fragment.row_groups:
            groups.append({"file": fragment.path, "group": group.id, "start": start})
            start += group.num_rows
    whole: Any = _InspectGroups(inspect, store)
    return ray.data.from_items(groups).map_batches(whole, batch_size=1, **options)


@dataclass(frozen=True, slots=True)
class _InspectGroups:
    """The same for a row group of a Parquet file with image bytes, a few rows in memory."""

    inspect: _Inspect
    store: Store

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        image = self.inspect.columns.image
        assert image is not None
        for item in table.to_pylist():
            row = item["start"]
            with pq.ParquetFile(item["file"], filesystem=self.store.filesystem) as file:
                for batch in file.iter_batches(
                    CHUNK_ROWS, row_groups=[item["group"]], columns=[image]
                ):
                    numbers = pa.array(range(row, row + batch.num_rows), pa.int64())
                    row += batch.num_rows
                    nothing = pa.nulls(batch.num_rows, pa.string())
                    yield self.inspect(
                        pa.table({"row": numbers, "uri": nothing, image: batch.column(0)})
                    )


def read_samples(store: Store) -> pa.Table:
    """The samples of a run, as :func:`prepare_samples` wrote them."""
    return pq.read_table(pa.BufferReader(store.read_bytes(SAMPLES_FILE)))


def _chunks(table: pa.Table) -> Any:
    size = CHUNK_ROWS
    # combined: a slice of a chunked table would carry all of it to the object store
    return [table.slice(i, size).combine_chunks() for i in range(0, max(1, table.num_rows), size)]


@dataclass(frozen=True, slots=True)
class TrainRows:
    """The training stream from the latest checkpoint on.

    Ray Train calls it at each start of a member's workers, so what was trained on already is
    neither read nor decoded again.

    Attributes:
        run: The run's folder.
        member: Name of the member.
        schedule: Its steps.
    """

    run: Store
    member: str
    schedule: Schedule

    def __call__(self) -> ray.data.Dataset:
        """Rows of :data:`SAMPLES` with ``step`` and ``position`` in the step."""
        start = latest_step(self.run, self.member)
        steps = self.schedule.steps(start)
        order = [(s.index, p, i) for s in steps for p, i in enumerate(s.samples)]
        # of a member that was trained to its end and then died, nothing is left
        table = read_samples(self.run).take(pa.array([i for *_, i in order], pa.int64()))
        table = table.append_column("step", pa.array([s for s, *_ in order], pa.int64()))
        table = table.append_column("position", pa.array([p for _, p, _ in order], pa.int32()))
        return ray.data.from_arrow(_chunks(table))


@dataclass(frozen=True, slots=True)
class FixedRows:
    """Some samples in their order: for validation and out-of-fold predictions."""

    run: Store
    indices: tuple[int, ...]

    def __call__(self) -> ray.data.Dataset:
        """Rows of :data:`SAMPLES` with their ``position``."""
        table = read_samples(self.run).take(pa.array(self.indices, pa.int64()))
        numbers = pa.array(range(table.num_rows), pa.int32())
        return ray.data.from_arrow(_chunks(table.append_column("position", numbers)))


def latest_step(run: Store, member: str) -> int:
    """Steps that the member's latest checkpoint has behind it."""
    folder = run.child("members", member)
    try:
        result = ray.train.Result.from_path(folder.root, storage_filesystem=folder.filesystem)
    except RuntimeError:  # no checkpoint as yet
        return 0
    return step_of(result.checkpoint.path) if result.checkpoint else 0


def checkpoint_name(steps_done: int) -> str:
    """Folder of a checkpoint."""
    return f"step-{steps_done:08d}"


def step_of(checkpoint_path: str) -> int:
    """The inverse of :func:`checkpoint_name`.

    >>> step_of("runs/a/members/b/step-00000120")
    120
    """
    return int(checkpoint_path.rstrip("/").rpartition("-")[2])


@dataclass(frozen=True, slots=True)
class _PrepareShare:
    """Keeps one worker's rows and prepares their images."""

    prepare: PrepareStage
    rank: int
    workers: int

    def __call__(self, table: pa.Table) -> pa.Table:
        position = table["position"].to_numpy()
        return self.prepare(table.filter(pa.array(position % self.workers == self.rank)))


class StepSharding(ray.train.DataConfig):
    """Deals every step's rows to the workers by their position in the step."""

    def __init__(self, spec: ImageSpec, base: str) -> None:
        """Keeps how images are prepared.

        Args:
            spec: How the backbone wants its images.
            base: Folder that relative image paths start from.
        """
        super().__init__()
        self._prepare = PrepareStage(SAMPLE_COLUMNS, {0: spec}, base)

    def configure(
        self,
        datasets: dict[str, ray.data.Dataset],
        world_size: int,
        worker_handles: Any,
        worker_node_ids: Any,
        **kwargs: Any,
    ) -> list[dict[str, ray.data.DataIterator]]:
        """See ``ray.train.DataConfig``."""
        shards: list[dict[str, ray.data.DataIterator]] = [{} for _ in range(world_size)]
        for name, dataset in datasets.items():
            for rank, shard in enumerate(shards):
                share: Any = _PrepareShare(self._prepare, rank, world_size)
                mine = dataset.map_batches(
                    share, batch_size=None, batch_format="pyarrow", num_cpus=DATA_CPUS
                )
                options = self._resolve_execution_options(name)
                options.preserve_order = True
                mine.context.execution_options = options
                carry_errors(mine)
                shard[name] = mine.iterator()
        return shards


class StepReader:
    """A worker's rows, step by step, from an iterator over blocks."""

    def __init__(self, blocks: Any, rank: int, workers: int) -> None:
        """Keeps them; ``blocks`` yields Arrow tables in the order of the schedule."""
        self._blocks = iter(blocks)
        self._rows: list[pa.Table] = []
        self._rank, self._workers = rank, workers

    def take(self, step: Step) -> pa.Table | None:
        """This worker's rows of a step; None where it has none."""
        wanted = len(step.share(self._rank, self._workers))
        if not wanted:
            return None
        while sum(t.num_rows for t in self._rows) < wanted:
            self._rows.append(next(self._blocks))
        table = pa.concat_tables([t for t in self._rows if t.num_rows])
        mine, rest = table.slice(0, wanted), table.slice(wanted)
        self._rows = [rest]
        assert set(mine["step"].to_pylist()) == {step.index}, "rows came out of order"
        return mine
