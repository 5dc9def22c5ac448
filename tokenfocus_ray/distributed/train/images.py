"""Every image decoded once before training, and bytes of a manifest put where workers find them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray
import ray.data

from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.datasets.role_values import valid_values
from tokenfocus_ray.datasets.units import Source, Unit, read_unit
from tokenfocus_ray.distributed.layout import INPUT
from tokenfocus_ray.distributed.ray_errors import keep_exceptions, unwrapped_errors
from tokenfocus_ray.distributed.session import streamed
from tokenfocus_ray.distributed.train.manifest import Manifest
from tokenfocus_ray.distributed.train.stream import CHUNK_ROWS, DATA_CPUS, in_chunks
from tokenfocus_ray.errors import ImageDecodeError, ManifestError, RowError
from tokenfocus_ray.progress import LOOKING, Pace, Watch
from tokenfocus_ray.scoring.fetch import fetch
from tokenfocus_ray.scoring.image import decode
from tokenfocus_ray.storage import Store, public
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE

#: Folder of a run with the images that its manifest holds as bytes.
IMAGES = "images"
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
class InspectImages:
    """Decodes an image as training will, and puts bytes of a manifest where workers find them.

    A row has ``row``, ``uri``, and of a manifest with bytes ``image`` and what its source says is
    wrong with it.

    Attributes:
        columns: Of the manifest.
        specs: How the backbones want their images.
        base: Folder that relative paths start from.
        confined: Whether only images below it are read.
        keep: Where bytes of the manifest are put.
    """

    columns: Columns
    specs: tuple[ImageSpec, ...]
    base: str
    confined: bool
    keep: Store

    def __call__(self, table: pa.Table) -> pa.Table:
        """What became of each row's image."""
        rows = [self._row(row) for row in table.to_pylist()]
        return pa.Table.from_pylist(rows, schema=_INSPECTED)

    def _row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {"row": row["row"], "uri": row["uri"]}
        try:
            if row.get(ERROR_CODE) is not None:
                raise RowError(row[ERROR_CODE], row[ERROR_MESSAGE])
            value = row.get("image")
            if isinstance(value, Mapping):
                value = value.get("path") if value.get("bytes") is None else value["bytes"]
            if isinstance(value, bytes):
                data = value
            else:
                result["uri"] = uri = value or row["uri"]
                data = self._fetch(uri)
            pixels = decode(data, where=f"row {row['row']}")
            result |= {"width": pixels.shape[1], "height": pixels.shape[0]}
            for spec in self.specs:
                spec.plan(pixels.shape[1], pixels.shape[0])
            if isinstance(value, bytes):
                result["uri"] = self._store(value)
        except RowError as error:
            result |= {"code": error.code, "message": error.message}
        return result

    def _fetch(self, uri: str | None) -> bytes:
        if uri is None or not uri.strip():
            raise ImageDecodeError(
                "image_missing",
                f"the row has no image: column {self.columns.image_uri or self.columns.image!r} is "
                f"empty; give bytes, a path or a URI",
            )
        return fetch(uri, self.base, confined=self.confined)

    def _store(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()[:32]
        if not self.keep.exists(name):
            self.keep.write_bytes(name, data)
        return self.keep.child(name).uri


@dataclass(frozen=True, slots=True)
class InspectUnits:
    """The same for all rows of units with image bytes, a few in memory at a time.

    Attributes:
        inspect: What is done with each.
        source: Where the units are of.
        image: Its column of images.
        starts: See :class:`Manifest`.
    """

    inspect: InspectImages
    source: Source
    image: str
    starts: tuple[int, ...]

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """A few rows at a time of the units that are named."""
        numbers: list[Any] = table["unit"].to_pylist()
        for number in numbers:
            unit, (start, stop) = self.source.units[number], self.starts[number : number + 2]
            row = start
            for part in read_unit(self._schema(unit), unit, CHUNK_ROWS, self.source.encoding):
                yield self.inspect(self._numbered(part, row))
                row += part.num_rows
            if row != stop:
                raise ManifestError(
                    f"{public(unit.uri)} changed while it was read: {row - start} rows now, "
                    f"{stop - start} before; launch the same command again"
                )

    def _schema(self, unit: Unit) -> pa.Schema:
        """Of Parquet the images only; a shard is read whole anyway."""
        wanted = (self.image, self.source.columns.image_uri)
        return pa.schema([f for f in self.source.schema if not unit.groups or f.name in wanted])

    def _numbered(self, part: pa.Table, row: int) -> pa.Table:
        columns, n_rows = self.source.columns, part.num_rows
        part = valid_values(part, columns, self.source.encoding)
        uris: Any = part[columns.image_uri] if columns.image_uri else pa.nulls(n_rows)
        rows = pa.array(range(row, row + n_rows), pa.int64())
        errors: list[Any] = [part[name] for name in (ERROR_CODE, ERROR_MESSAGE)]
        names = ["row", "uri", "image", ERROR_CODE, ERROR_MESSAGE]
        return pa.table([rows, uris, part[self.image], *errors], names=names)


def image_inspector(
    manifest: Manifest, specs: Sequence[ImageSpec], confined: bool, run: Store
) -> InspectImages:
    """How images are looked at.

    Args:
        manifest: With them.
        specs: How the backbones want them.
        confined: Whether only those below the manifest's folder are read.
        run: The run's folder.
    """
    return InspectImages(manifest.columns, tuple(specs), manifest.base, confined, run.child(IMAGES))


def inspect_images(
    manifest: Manifest, samples: pa.Table, inspect: InspectImages, run: Store, watch: Watch
) -> dict[int, dict[str, Any]]:
    """What became of each image.

    Args:
        manifest: With them.
        samples: See :data:`~tokenfocus_ray.training.samples.SAMPLES`.
        inspect: How.
        run: The run's folder.
        watch: Is told how many have been looked at.

    Returns:
        Row of the manifest -> ``uri`` for the workers, ``width``, ``height``; ``code`` and
        ``message`` where it cannot be trained on, else None. Of a manifest with image bytes also
        rows that are no samples.
    """
    dataset = _inspection(manifest, samples, inspect, run)
    total = (samples if manifest.columns.image is None else manifest.table).num_rows
    keep_exceptions(dataset)
    dataset.context.enable_progress_bars = False
    seen: dict[int, dict[str, Any]] = {}
    pace = Pace()
    with unwrapped_errors(), streamed(dataset) as batches:
        watch(pace.progress(LOOKING, total, unit="images"))
        for batch in batches:
            seen |= {row["row"]: row for row in batch.to_pylist()}
            pace.count({"images": batch.num_rows})
            watch(pace.progress(LOOKING, total, unit="images"))
    return seen


def _inspection(
    manifest: Manifest, samples: pa.Table, inspect: InspectImages, run: Store
) -> ray.data.Dataset:
    options: dict[str, Any] = {"batch_format": "pyarrow", "num_cpus": DATA_CPUS}
    image = manifest.columns.image
    if image is None:
        small = samples.select(["row", "image_uri"]).rename_columns(["row", "uri"])
        one: Any = inspect
        return ray.data.from_arrow(in_chunks(small)).map_batches(
            one, batch_size=CHUNK_ROWS, **options
        )
    for name, data in manifest.source.inputs.items():
        run.write_bytes(f"{INPUT}/{name}", data)
    units = [{"unit": number} for number in range(len(manifest.source.units))]
    source = replace(manifest.source, inputs={})
    whole: Any = InspectUnits(inspect, source, image, manifest.starts)
    return ray.data.from_items(units).map_batches(whole, batch_size=1, **options)
