"""Units: the runs of rows that tasks read, cut the same way at each launch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.datasets.tars import read_tar
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store, public

#: Most rows of a unit without image bytes, and so about as many of an output file.
UNIT_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Unit:
    """A run of rows that one task reads.

    Attributes:
        number: Its place among all units.
        uri: The Parquet file or tar shard.
        groups: The file's row groups; none of a tar shard.
        start: First row within the groups.
        n_rows: Number of rows; None of a tar shard, which only reading tells.
        base: Folder that relative image paths start from.
    """

    number: int
    uri: str
    groups: tuple[int, ...]
    start: int
    n_rows: int | None
    base: str


@dataclass(frozen=True, slots=True)
class Source:
    """All rows of a job.

    Attributes:
        where: The manifests, for messages.
        columns: Which column is what.
        schema: Of the rows that units give.
        units: In the order of the input.
        fingerprint: Changes with the files' names, sizes, layout, statistics and content.
        inputs: Parquet files that are to be written before the units are read, by name.
        confined: Whether only images below the folder that relative paths start from are read.
        encoding: Of the text in tar shards and binary columns; None: UTF-8.
    """

    where: str
    columns: Columns
    schema: pa.Schema
    units: tuple[Unit, ...]
    fingerprint: dict[str, Any]
    inputs: dict[str, bytes] = field(default_factory=dict)
    confined: bool = False
    encoding: str | None = None

    @property
    def n_rows(self) -> int | None:
        """Rows in all; None where tar shards leave it open."""
        counts = [unit.n_rows for unit in self.units]
        return None if None in counts else sum(n for n in counts if n is not None)

    @property
    def has_bytes(self) -> bool:
        """Whether the rows carry image bytes."""
        return self.columns.image is not None


def read_unit(
    schema: pa.Schema,
    unit: Unit,
    rows: int,
    encoding: str | None = None,
    data: bytes | None = None,
) -> Iterator[pa.Table]:
    """The unit's rows, at most ``rows`` at a time, in their order.

    Args:
        schema: Of the source or table that the unit is of; of Parquet, columns that are left out
            are not read.
        unit: What to read.
        rows: Most rows of a table; all but the last have as many.
        encoding: Of the text in a tar shard; None: UTF-8.
        data: Of a Parquet file that is not written yet, its content.

    Raises:
        ManifestError: the file cannot be read any more.
    """
    store = Store.of(unit.uri)
    try:
        if not unit.groups:
            yield from read_tar(store, schema, rows, encoding)
            return
        source: Any = store.root if data is None else pa.BufferReader(data)
        filesystem = store.filesystem if data is None else None
        with pq.ParquetFile(source, filesystem=filesystem) as file:
            names = file.schema_arrow.names
            wanted = [name for name in names if name in schema.names]
            columns = wanted if len(wanted) < len(names) else None
            batches = file.iter_batches(rows, row_groups=list(unit.groups), columns=columns)
            yield from _slices(batches, unit, schema, rows)
    except (OSError, pa.ArrowException) as error:
        cause, remedy = store.explain(error)
        where = f", row groups {list(unit.groups)}" if unit.groups else ""
        raise ManifestError(
            f"{public(unit.uri)}{where}: cannot be read: {cause}; {remedy}"
        ) from error


def _slices(batches: Any, unit: Unit, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """Tables of exactly ``rows`` rows from the unit's first row on."""
    assert unit.n_rows is not None
    skip, left = unit.start, unit.n_rows
    waiting = _conform(None, schema)
    for batch in batches:
        table = _conform(pa.Table.from_batches([batch]), schema).slice(skip)
        skip = max(0, skip - batch.num_rows)
        table = table.slice(0, left)
        left -= table.num_rows
        waiting = pa.concat_tables([waiting, table])
        while waiting.num_rows >= rows:
            yield waiting.slice(0, rows)
            waiting = waiting.slice(rows)
        if not left:
            break
    if waiting.num_rows:
        yield waiting


def _conform(table: pa.Table | None, schema: pa.Schema) -> pa.Table:
    """The table with all columns of the schema, in its types."""
    if table is None:
        return schema.empty_table()
    if table.schema.remove_metadata().equals(schema):
        return table.replace_schema_metadata(None)
    names, rows = table.column_names, table.num_rows
    columns = [
        table[f.name].cast(f.type) if f.name in names else pa.nulls(rows, f.type) for f in schema
    ]
    return pa.table(columns, schema=schema)
