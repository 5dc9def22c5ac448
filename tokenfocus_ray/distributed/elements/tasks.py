"""The stages of the job, as Ray Data calls them: prompts are read, decomposed, joined to rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.datasets.tars import PASSED_OVER
from tokenfocus_ray.datasets.units import Source, Unit, read_unit
from tokenfocus_ray.distributed.elements import files
from tokenfocus_ray.distributed.lease import Lease
from tokenfocus_ray.distributed.ray_errors import user_error_in
from tokenfocus_ray.elements.decomposed import Decomposed
from tokenfocus_ray.elements.rows import Asked, ask, out_schema, with_results
from tokenfocus_ray.elements.usage import Usage
from tokenfocus_ray.errors import UserError
from tokenfocus_ray.storage import Store

#: Rows that a task holds at a time; with image bytes among them, fewer.
ROWS, ROWS_WITH_BYTES = 8_192, 64
#: Bytes of an output file after which the next is begun.
FILE_BYTES = 128 * 2**20
#: Different reasons that are counted of a unit.
_REASONS = 50


class Decompose(Protocol):
    """Makes elements."""

    def __call__(self, prompts: Sequence[str]) -> Iterator[Decomposed]:
        """What becomes of each prompt, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class ReadPrompts:
    """Units -> their different prompts that are to be decomposed; a task.

    Attributes:
        source: Without its units.
        replace: Whether rows with elements get new ones too.
    """

    source: Source
    replace: bool

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yields prompts by unit, in the order in which they first come there."""
        for row in batch.to_pylist():
            unit = unit_of(row)
            seen: dict[str, int] = {}
            for table in _rows(self.source, unit, light=True):
                new: dict[str, int] = {}
                for asked in ask(table, self.source.columns, self.source.encoding, self.replace):
                    if asked.prompt is not None and asked.prompt not in seen:
                        seen[asked.prompt] = new[asked.prompt] = len(seen)
                if new:
                    yield pa.table(
                        {
                            "unit": pa.array([unit.number] * len(new), pa.int64()),
                            "place": pa.array(list(new.values()), pa.int64()),
                            "prompt": pa.array(list(new), pa.large_string()),
                        }
                    )


@dataclass(frozen=True, slots=True)
class MakeElements:
    """Files of prompts -> what became of them; a task.

    Attributes:
        lease: Of the output folder.
        decompose: How.
    """

    lease: Lease
    decompose: Decompose

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns how many prompts are done."""
        chunks: list[Any] = batch["chunk"].to_pylist()
        return pa.table({"prompts": [self.make(chunk) for chunk in chunks]})

    def make(self, chunk: int) -> int:
        """Makes one file; returns its number of prompts."""
        out = self.lease.out
        prompts: list[Any] = files.read_column(out, files.prompts_name(chunk)).to_pylist()
        results = list(self.decompose(prompts))
        assert len(results) == len(prompts)
        self.lease.confirm()
        files.write_made(out, chunk, results)
        return len(prompts)


class MakeInActor:
    """:class:`MakeElements` by what takes long to make, and is made once an actor.

    Args:
        lease: Of the output folder.
        make: Makes what decomposes.
    """

    def __init__(self, lease: Lease, make: Callable[[], Decompose]) -> None:
        self._refusal: UserError | None = None
        try:
            self._decompose = make()
        except Exception as error:
            # of an actor that cannot start the driver hears text only, and tries another
            self._refusal = user_error_in(error)
            if self._refusal is None:
                raise
            return
        self._make = MakeElements(lease, self._decompose)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns how many prompts are done, and what that used."""
        if self._refusal is not None:
            raise self._refusal
        usage = getattr(self._decompose, "usage", None)
        before = Usage() if usage is None else replace(usage)
        made = self._make(batch)
        after = before if usage is None else usage
        used = {name: getattr(after, name) - getattr(before, name) for name in Usage.__slots__}
        for name, value in used.items():
            made = made.append_column(name, pa.array([value] + [0] * (made.num_rows - 1)))
        return made


@dataclass(frozen=True, slots=True)
class WriteRows:
    """Units -> their rows with elements; a task.

    Attributes:
        lease: Of the output folder.
        source: Without its units.
        replace: Whether rows with elements got new ones too.
        chunk: Prompts of a file.
    """

    lease: Lease
    source: Source
    replace: bool
    chunk: int

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns how many rows are written."""
        rows: list[Any] = batch.to_pylist()
        return pa.table({"rows": [self._write(unit_of(row)) for row in rows]})

    def _write(self, unit: Unit) -> int:
        out, source = self.lease.out, self.source
        schema = out_schema(source.schema, source.columns)
        results = _Results(out, unit.number, self.chunk)
        parts = _Parts(self.lease, unit.number, schema)
        statuses: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        passed: Counter[str] = Counter()
        elements = 0
        for table in _rows(source, unit, light=False):
            passed.update(json.loads((table.schema.metadata or {}).get(PASSED_OVER, b"{}")))
            table = table.replace_schema_metadata(None)
            each = results.of(ask(table, source.columns, source.encoding, self.replace))
            statuses.update(one.status for one in each)
            reasons.update(one.reason for one in each if one.reason is not None)
            elements += sum(len(one.elements) for one in each)
            parts.write(with_results(table, source.columns, each, schema))
        parts.close()
        self.lease.confirm()
        record = {
            "rows": parts.rows,
            "parts": parts.number,
            "elements": elements,
            "statuses": dict(statuses),
            "reasons": dict(reasons.most_common(_REASONS)),
            "passed_over": dict(passed),
        }
        out.write_json(files.done_name(unit.number), record)
        return parts.rows


class _Results:
    """What became of a unit's prompts, looked up as its rows come.

    Args:
        store: The output folder.
        unit: Which.
        chunk: Prompts of a file.
    """

    def __init__(self, store: Store, unit: int, chunk: int) -> None:
        self._seen: dict[str, int] = {}
        self._made: pa.Table | None = None
        if store.exists(files.numbers_name(unit)):
            numbers: Any = files.read_column(store, files.numbers_name(unit)).to_numpy()
            self._made = files.read_made(store, numbers, chunk)

    def of(self, asked: Sequence[Asked]) -> list[Decomposed]:
        """What became of rows; they are asked for in the order of the unit."""
        at = [
            None if one.prompt is None else self._seen.setdefault(one.prompt, len(self._seen))
            for one in asked
        ]
        new = sorted({place for place in at if place is not None})
        found: dict[int, Decomposed] = {}
        if new:
            assert self._made is not None
            rows = self._made.take(pa.array(new, pa.int64()))
            found = dict(zip(new, files.results_of(rows), strict=True))
        return [one.result or found[place or 0] for one, place in zip(asked, at, strict=True)]


class _Parts:
    """The output files of a unit.

    Args:
        lease: Of the output folder.
        unit: Which.
        schema: Of the rows.
    """

    def __init__(self, lease: Lease, unit: int, schema: pa.Schema) -> None:
        self._lease, self._unit, self._schema = lease, unit, schema
        self._sink: Any = None
        self._writer: pq.ParquetWriter | None = None
        self.rows = self.number = 0

    def write(self, table: pa.Table) -> None:
        """Adds rows."""
        if not table.num_rows:
            return
        if self._writer is None:
            self._sink = pa.BufferOutputStream()
            self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._writer.write_table(table)
        self.rows += table.num_rows
        if self._sink.tell() > FILE_BYTES:
            self.close()

    def close(self) -> None:
        """Writes what was added."""
        if self._writer is None:
            return
        self._writer.close()
        self._lease.confirm()
        name = files.rows_name(self._unit, self.number)
        self._lease.out.write_bytes(name, self._sink.getvalue())
        self.number += 1
        self._writer = None


def _rows(source: Source, unit: Unit, *, light: bool) -> Iterator[pa.Table]:
    """The unit's rows; without image bytes, where these can be left out."""
    schema = source.schema
    if light and unit.groups:
        schema = pa.schema([f for f in schema if f.name != source.columns.image])
    has_bytes = source.has_bytes and not (light and unit.groups)
    rows = ROWS_WITH_BYTES if has_bytes else ROWS
    return read_unit(schema, unit, rows, source.encoding)


def unit_of(row: dict[str, Any]) -> Unit:
    """A unit from a row of :func:`unit_table`."""
    return Unit(**row | {"groups": tuple(row["groups"])})


def unit_table(unit: Unit) -> pa.Table:
    """A unit as a row."""
    row = {name: getattr(unit, name) for name in Unit.__slots__}
    kinds: dict[str, pa.DataType] = {
        "number": pa.int32(),
        "uri": pa.string(),
        "groups": pa.list_(pa.int32()),
        "start": pa.int64(),
        "n_rows": pa.int64(),
        "base": pa.string(),
    }
    return pa.Table.from_pylist([row], schema=pa.schema(kinds))
