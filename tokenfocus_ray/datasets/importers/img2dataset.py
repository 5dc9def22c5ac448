"""img2dataset's output: shards of downloads, and what became of each.

``00000.tar`` (or the folder ``00000/``) has what was fetched, ``00000.parquet`` a row for each url
with ``key, status, error_message, width, height, ...``; in its parquet form the image bytes lie in
a column ``jpg``, ``png`` or ``webp``. A url that failed stays a row, with its reason.
Format: https://github.com/rom1504/img2dataset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from tokenfocus_ray.datasets.files import File, unreadable
from tokenfocus_ray.datasets.footers import read_footers
from tokenfocus_ray.datasets.importers.base import ROWS, ROWS_WITH_BYTES, Format, Plan, Request
from tokenfocus_ray.datasets.importers.hf_parquet import check_generator
from tokenfocus_ray.datasets.importers.rows import spoiled, to_manifest
from tokenfocus_ray.datasets.manifest import CONVENTIONS
from tokenfocus_ray.datasets.names import is_image
from tokenfocus_ray.datasets.sources import source_of
from tokenfocus_ray.datasets.units import Source, Unit, read_unit
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.schema import sample_id
from tokenfocus_ray.storage import Store, public

_NEEDED = ("key", "status")
_ID = "id of this row"
_IMAGES = ("jpg", "png", "webp")


def plan(request: Request) -> Plan:
    """Finds the shards, in whichever of the three forms.

    Raises:
        ManifestError: there are none.
    """
    request.refuse("img2dataset", images="since they lie beside its tables")
    mapping, generator = request.roles()
    store, where = Store.of(request.src), public(request.src)
    if not store.is_folder():
        raise ManifestError(f"{where}: wanted the folder of the shards; name it")
    try:
        infos = store.filesystem.get_file_info(fs.FileSelector(store.root))
    except OSError as error:
        raise unreadable(store, error) from error
    sizes = {info.base_name: info.size or 0 for info in infos}
    names = sorted(sizes)
    tables = [name for name in names if name.endswith(".parquet") and not name.startswith("_")]
    tars = [name for name in names if name.endswith(".tar")]
    if not tables:
        raise ManifestError(
            f"{where}: there is no table of what was fetched, such as 00000.parquet; import tar "
            f"shards without one as webdataset"
        )
    files = _files(store, tables, sizes)
    _, schema, fingerprint = read_footers(files)
    missing = [name for name in _NEEDED if name not in schema.names]
    if missing:
        raise ManifestError(
            f"{where}: its tables have no column {missing[0]!r}; found {', '.join(schema.names)}: "
            f"img2dataset writes key and status, import other Parquet as hf-parquet"
        )
    check_generator(generator, schema.names, where)
    if tars:
        shards = source_of(
            _files(store, tars, sizes), _without_prompt(mapping), where, request.text.encoding
        )
        units = _of_shards(request, store, tars, tables, shards)
        told = {f"tables.{name}": value for name, value in fingerprint.items()}
        known = frozenset(name.removesuffix(".parquet") for name in tables)
        own = (mapping.get("prompt"), *CONVENTIONS["prompt"])
        prompt = next((name for name in own if name in schema.names), None)
        whole = replace(shards, units=(), inputs={})
        both = FromTars(whole, schema, known, prompt, generator)
        return Plan(units, both, {**shards.fingerprint, **told}, has_bytes=True)
    has_bytes = any(name in schema.names for name in (mapping.get("image"), *_IMAGES))
    if not has_bytes:
        mapping.setdefault("image_uri", "key")
    source = source_of(files, mapping, where, request.text.encoding)
    if has_bytes and "image_uri" not in mapping:  # the url, which is no place to read from
        source = replace(source, columns=replace(source.columns, image_uri=None))
    convert = FromTables(replace(source, units=(), inputs={}), generator, not has_bytes)
    return Plan(source.units, convert, fingerprint, has_bytes=has_bytes)


def _files(store: Store, names: list[str], sizes: Mapping[str, int]) -> list[File]:
    return [File(store.child(name).absolute, store.absolute, sizes[name]) for name in names]


def _without_prompt(mapping: Mapping[str, str]) -> dict[str, str]:
    """Roles of ``KEY.json``: the caption is ``KEY.txt``, and in the tables has another name."""
    return {role: name for role, name in mapping.items() if role != "prompt"}


def _of_shards(
    request: Request, store: Store, tars: list[str], tables: list[str], source: Source
) -> tuple[Unit, ...]:
    """A unit for each shard, and for each table whose shard is not there."""
    shards = dict(zip((name.removesuffix(".tar") for name in tars), source.units, strict=True))
    known = {name.removesuffix(".parquet") for name in tables}
    if lone := [name for name in shards if name not in known]:
        request.say(
            f"{public(request.src)}: {len(lone)} shards have no table, such as {lone[0]}.tar: what "
            f"could not be fetched for them is not known"
        )
    units = []
    for number, stem in enumerate(sorted({*shards, *known})):
        table = store.child(f"{stem}.parquet").absolute
        unit = shards.get(stem) or Unit(number, table, (), 0, None, store.absolute)
        units.append(replace(unit, number=number))
    return tuple(units)


@dataclass(frozen=True, slots=True)
class FromTables:
    """Rows of the parquet form, and of the form of files.

    Attributes:
        source: What is read.
        generator: Column of the generator's name, where it is called otherwise.
        beside: Whether images are files beside the tables.
    """

    source: Source
    generator: str | None
    beside: bool

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        """Yields tables of a manifest."""
        source = self.source
        store = Store.of(unit.uri.removesuffix(".parquet"))
        stem = store.root.rpartition("/")[2]
        files = {}
        if self.beside:
            files = {name.partition(".")[0]: name for name in store.names() if is_image(name)}
        columns = source.columns
        for table in read_unit(
            source.schema, unit, ROWS if self.beside else ROWS_WITH_BYTES, source.encoding
        ):
            keys: list[Any] = table["key"].to_pylist()
            if self.beside:
                paths = [f"{stem}/{files[k]}" if k in files else None for k in map(str, keys)]
                table = table.append_column("path of this row", pa.array(paths, pa.string()))
                columns = replace(columns, image_uri="path of this row")
                there: list[Any] = [path is not None for path in paths]
            else:
                there = table[source.columns.image or ""].is_valid().to_pylist()
            prompts: list[Any] = table[source.columns.prompt].to_pylist()
            reasons = [
                reason(row, inside, stem) for row, inside in zip(_status(table), there, strict=True)
            ]
            table = spoiled(table, reasons)
            if source.columns.sample_id is None:
                table = table.append_column(_ID, _ids(keys, prompts))
                columns = replace(columns, sample_id=_ID)
            yield to_manifest(table, columns, unit.base, source.encoding, self.generator)


@dataclass(frozen=True, slots=True)
class FromTars:
    """Rows of tar shards, and then those of their tables that are in none.

    Attributes:
        source: Of the shards.
        schema: Of the tables.
        tables: Names of the shards that have one, without ending.
        prompt: Column of the tables with the caption.
        generator: Column of the tables with the generator's name.
    """

    source: Source
    schema: pa.Schema
    tables: frozenset[str]
    prompt: str | None
    generator: str | None

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        """Yields tables of a manifest."""
        stem = unit.uri.rpartition("/")[2].removesuffix(".tar").removesuffix(".parquet")
        known = self._table(unit, stem)
        every = [str(key) for key in known["key"].to_pylist()]
        places = {key: i for i, key in enumerate(every)}
        seen: set[str] = set()
        if unit.uri.endswith(".tar"):
            for shard in read_unit(self.source.schema, unit, ROWS_WITH_BYTES, self.source.encoding):
                keys = [str(key).rpartition("/")[2] for key in shard["key"].to_pylist()]
                seen.update(keys)
                rows = known.take(pa.array([places.get(key) for key in keys], pa.int64()))
                yield self._joined(shard, rows, keys, unit)
        left = [i for i, key in enumerate(every) if key not in seen or places[key] != i]
        for start in range(0, len(left), ROWS):
            rows = known.take(pa.array(left[start : start + ROWS], pa.int64()))
            keys = [str(key) for key in rows["key"].to_pylist()]
            shard = pa.table(
                {f.name: pa.nulls(rows.num_rows, f.type) for f in self.source.schema},
                schema=self.source.schema,
            )
            for name, values in (("key", keys), ("shard", [f"{stem}.tar"] * len(keys))):
                at = shard.column_names.index(name)
                shard = shard.set_column(at, name, pa.array(values, pa.string()))
            shard = spoiled(shard, [reason(row, False, f"{stem}.tar") for row in _status(rows)])
            yield self._joined(shard, rows, keys, unit)

    def _table(self, unit: Unit, stem: str) -> pa.Table:
        """The table of a shard; without rows where it has none."""
        if stem not in self.tables:
            return self.schema.empty_table()
        store = Store.of(f"{unit.base}/{stem}.parquet")
        try:
            found = pq.read_table(store.root, filesystem=store.filesystem, partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(store, error) from error
        missing = [field for field in self.schema if field.name not in found.column_names]
        for field in missing:
            found = found.append_column(field, pa.nulls(found.num_rows, field.type))
        return found.select(self.schema.names).cast(self.schema)

    def _joined(self, shard: pa.Table, rows: pa.Table, keys: list[str], unit: Unit) -> pa.Table:
        """Rows of a manifest, of what the shard and what the table has."""
        metadata = shard.schema.metadata
        prompts: list[Any] = shard["prompt"].to_pylist()
        if self.prompt is not None:
            told: list[Any] = rows[self.prompt].cast(pa.string()).to_pylist()
            prompts = [own or other for own, other in zip(prompts, told, strict=True)]
            at = shard.column_names.index("prompt")
            shard = shard.set_column(at, "prompt", pa.array(prompts, pa.string()))
        if self.tables:  # which say all that KEY.json does
            shard = shard.drop_columns(["json"])
        taken = {*shard.column_names, self.prompt}
        for name in rows.column_names:
            if name not in taken:
                shard = shard.append_column(name, rows[name])
            elif name not in ("key", self.prompt):
                shard = shard.append_column(f"input_{name}", rows[name])
        columns = self.source.columns
        if columns.sample_id is None:
            shard = shard.append_column(_ID, _ids(keys, prompts))
            columns = replace(columns, sample_id=_ID)
        shard = shard.replace_schema_metadata(metadata)
        return to_manifest(shard, columns, unit.base, self.source.encoding, self.generator)


def reason(row: Mapping[str, Any], is_there: bool, shard: str) -> tuple[str, str] | None:
    """Why a row has no image.

    >>> reason({"status": "success", "error_message": None}, True, "00000.tar")
    >>> reason({"status": "failed_to_download", "error_message": "HTTP 404"}, False, "00000.tar")
    ('image_missing', 'img2dataset says failed_to_download: HTTP 404')

    Args:
        row: What the table says of it.
        is_there: Whether its image is.
        shard: Where it should lie.
    """
    status, message = row["status"], row["error_message"]
    if status == "success" and is_there:
        return None
    if status == "success":
        return "image_missing", f"img2dataset says success, but {shard} has no image of it"
    told = f": {message}" if message else ""
    return "image_missing", f"img2dataset says {status}{told}"


def _status(table: pa.Table) -> list[dict[str, Any]]:
    names = [name for name in ("status", "error_message") if name in table.column_names]
    return [{"error_message": None, **row} for row in table.select(names).to_pylist()]


def _ids(keys: list[Any], prompts: list[Any]) -> pa.Array[Any]:
    """Keys are told apart within a data set, urls and images may come twice."""
    pairs = zip(keys, prompts, strict=True)
    return pa.array([sample_id(str(key), str(prompt or "")) for key, prompt in pairs], pa.string())


IMG2DATASET = Format("folder of shards and their tables, any of its forms", plan)
