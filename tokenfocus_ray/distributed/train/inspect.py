"""Samples with images that decode, found once before training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import ray
import ray.data
import ray.train

from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.datasets.asked import as_asked
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.distributed.ray_errors import keep_exceptions, unwrapped_errors
from tokenfocus_ray.distributed.train.manifest import Manifest, read_manifest
from tokenfocus_ray.distributed.train.stream import (
    CHUNK_ROWS,
    DATA_CPUS,
    SAMPLES_FILE,
    SKIPPED_FILE,
    in_chunks,
)
from tokenfocus_ray.errors import ManifestError, RowError
from tokenfocus_ray.progress import Progress, Watch, unwatched
from tokenfocus_ray.scoring.fetch import fetch
from tokenfocus_ray.scoring.image import decode
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE
from tokenfocus_ray.training.bags import make_bags
from tokenfocus_ray.training.samples import (
    SAMPLES,
    SKIPPED,
    check_disjoint,
    check_weights,
    index_samples,
)

#: More bad rows than this share of a manifest is no accident.
MOST_SKIPPED = 0.5


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
    manifest: Manifest,
    config: TrainConfig,
    sources: Mapping[str, Source],
    specs: Mapping[str, ImageSpec],
    store: Store,
    watch: Watch = unwatched,
) -> tuple[pa.Table, pa.Table]:
    """The samples, every image decoded once and every prompt fit to ask; written to the run.

    Args:
        manifest: What to train on.
        config: Levels, and the test manifest that must be disjoint.
        sources: What each backbone was resolved to.
        specs: How each wants its images.
        store: The run's folder.
        watch: Is told how many images have been looked at.

    Returns:
        Samples and rows left out, see :mod:`~tokenfocus_ray.training.samples`.

    Raises:
        ManifestError: nothing is left, more than half is left out, or a test prompt is among them.
    """
    from tokenfocus_ray.training.askable import unaskable

    samples, skipped = index_samples(manifest.table, manifest.columns, config, manifest.path)
    if config.test:
        test = read_manifest(config.test, config.images, config.map, config.encoding)
        prompts = test.table[test.columns.prompt].to_pylist()
        check_disjoint(samples, prompts, manifest.path, config.test)
    check_weights(samples, config)
    groups: list[Any] = samples["group"].to_pylist()
    make_bags(groups, config.bags)  # too few prompts: said before an image is read
    inspect = _Inspect(
        manifest.columns, tuple(specs.values()), manifest.base, store.child("images")
    )
    dataset = _with_images(manifest, samples, inspect)
    total = (samples if manifest.columns.image is None else manifest.table).num_rows
    seen = {row["row"]: row for row in _looked_at(dataset, total, watch)}
    decoded = [row for row in samples.to_pylist() if seen[row["row"]]["code"] is None]
    sizes = {r["row"]: (seen[r["row"]]["width"], seen[r["row"]]["height"]) for r in decoded}
    for number, error in unaskable(config, sources, decoded, sizes).items():
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


def _looked_at(dataset: ray.data.Dataset, total: int, watch: Watch) -> Iterator[dict[str, Any]]:
    """The rows of a data set, as they come."""
    keep_exceptions(dataset)
    dataset.context.enable_progress_bars = False
    batches: Any = dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    done = 0
    with unwrapped_errors():
        watch(Progress("looking at the images", 0, total, "images"))
        for batch in batches:
            yield from batch.to_pylist()
            done += batch.num_rows
            watch(Progress("looking at the images", done, total, "images"))


def _with_images(manifest: Manifest, samples: pa.Table, inspect: _Inspect) -> ray.data.Dataset:
    """The inspected rows: of the samples, or of a manifest with image bytes, all of them."""
    options: dict[str, Any] = {"batch_format": "pyarrow", "num_cpus": DATA_CPUS}
    if manifest.columns.image is None:
        small = samples.select(["row", "image_uri"]).rename_columns(["row", "uri"])
        one: Any = inspect
        return ray.data.from_arrow(in_chunks(small)).map_batches(
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
