"""What an import's tasks do: groups of units -> parts of the manifest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tokenfocus_ray.datasets.importers.base import Convert, Index
from tokenfocus_ray.datasets.tars import PASSED_OVER
from tokenfocus_ray.datasets.units import UNIT_ROWS, Unit
from tokenfocus_ray.distributed.layout import JOB
from tokenfocus_ray.distributed.lease import Lease
from tokenfocus_ray.tables.parts import PartSize, cut_parts
from tokenfocus_ray.tables.text import ERROR_CODE

#: Where it is told which groups are written.
GROUPS = f"{JOB}/groups"
#: Rows of a group, after which the next one begins: with image bytes, and without.
GROUP_ROWS = {True: 8_192, False: UNIT_ROWS}
#: A scoring task reads one row group where rows carry images, so that is as much as it commits.
SIZES = {
    True: PartSize(256, 64 * 2**20, 65_536, 128 * 2**20),
    False: PartSize(UNIT_ROWS, 64 * 2**20, 4 * UNIT_ROWS, 128 * 2**20),
}
_UNIT = pa.struct(
    [
        ("number", pa.int64()),
        ("uri", pa.string()),
        ("groups", pa.list_(pa.int32())),
        ("start", pa.int64()),
        ("n_rows", pa.int64()),
        ("base", pa.string()),
    ]
)
_GROUP = pa.schema(
    [("group", pa.int64()), ("units", pa.list_(_UNIT)), ("given", pa.list_(pa.large_binary()))]
)


@dataclass(slots=True)
class Counts:
    """What is in some parts.

    Attributes:
        rows: Rows of the manifest.
        elements: Of all rows.
        spoiled: Rows that cannot be scored, by code.
        passed: What was passed over in shards: reason -> files.
    """

    rows: int = 0
    elements: int = 0
    spoiled: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, record: Any) -> Counts:
        """As it was kept."""
        return cls(
            record["rows"], record["elements"], Counter(record["spoiled"]),
            Counter(record["passed"]),
        )  # fmt: skip

    @classmethod
    def of_text(cls, text: str) -> Counts:
        """As a task hands it back."""
        return cls.of(json.loads(text))

    def record(self) -> dict[str, Any]:
        """To be kept as JSON."""
        return {
            "rows": self.rows,
            "elements": self.elements,
            "spoiled": dict(self.spoiled),
            "passed": dict(self.passed),
        }

    def add(self, other: Counts) -> None:
        """Counts those too."""
        self.rows += other.rows
        self.elements += other.elements
        self.spoiled.update(other.spoiled)
        self.passed.update(other.passed)

    def count(self, table: pa.Table) -> None:
        """Counts rows of a manifest."""
        self.rows += table.num_rows
        if "elements" in table.column_names:
            sizes: Any = pc.list_value_length(table["elements"])
            self.elements += pc.sum(sizes).as_py() or 0
        codes: list[Any] = table[ERROR_CODE].to_pylist()
        self.spoiled.update(code for code in codes if code is not None)
        metadata = table.schema.metadata or {}
        self.passed.update(json.loads(metadata.get(PASSED_OVER, b"{}")))


def group_units(
    units: Sequence[Unit], has_bytes: bool, together: int = 1
) -> list[tuple[Unit, ...]]:
    """Runs of units that one task writes, cut the same way at each launch.

    Args:
        units: In the order of the input.
        has_bytes: Whether rows carry image bytes.
        together: Of how many units of which only reading tells the rows, such as tar shards.
    """
    most = GROUP_ROWS[has_bytes]
    groups: list[tuple[Unit, ...]] = []
    waiting: list[Unit] = []
    rows = 0
    for unit in units:
        size = most // together if unit.n_rows is None else unit.n_rows
        if waiting and rows + size > most:
            groups.append(tuple(waiting))
            waiting, rows = [], 0
        waiting.append(unit)
        rows += size
    return [*groups, tuple(waiting)] if waiting else groups


def to_block(number: int, units: Sequence[Unit], given: Sequence[bytes | None] = ()) -> pa.Table:
    """A group as a block for its task."""
    row = {
        "group": number,
        "units": [asdict(unit) for unit in units],
        "given": list(given) or [None] * len(units),
    }
    return pa.Table.from_pylist([row], schema=_GROUP)


def _of_block(batch: pa.Table) -> Iterator[tuple[int, list[tuple[Unit, bytes | None]]]]:
    for row in batch.to_pylist():
        units = [Unit(**unit | {"groups": tuple(unit["groups"])}) for unit in row["units"]]
        yield row["group"], list(zip(units, row["given"], strict=True))


def pack_table(table: pa.Table) -> bytes:
    """A small table as bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@dataclass(frozen=True, slots=True)
class ScanUnits:
    """Looks at what has to be known of all units first; a task of Ray Data.

    Attributes:
        index: Of the source.
    """

    index: Index

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yields what each unit of a group adds."""
        for _, units in _of_block(batch):
            for unit, _ in units:
                yield self.index.scan(unit)


@dataclass(frozen=True, slots=True)
class WriteGroups:
    """Writes the parts of groups; a task of Ray Data.

    Attributes:
        lease: Of the output folder.
        convert: Makes rows of a unit.
        index: In place of it.
        has_bytes: Whether rows carry image bytes.
    """

    lease: Lease
    convert: Convert | None
    index: Index | None
    has_bytes: bool

    def __call__(self, batch: pa.Table) -> pa.Table:
        """What is in each group, once that is written."""
        found = []
        for number, units in _of_block(batch):
            counts = self._write(number, units)
            record = json.dumps(counts.record()).encode()
            self.lease.confirm()
            self.lease.out.write_bytes(marker(number), record)
            found.append({"group": number, "counts": record.decode()})
        return pa.Table.from_pylist(found)

    def _write(self, number: int, units: Sequence[tuple[Unit, bytes | None]]) -> Counts:
        counts = Counts()
        parts = cut_parts(self._rows(units, counts), SIZES[self.has_bytes])
        for piece, data in enumerate(parts):
            self.lease.confirm()
            self.lease.out.write_bytes(f"part-{number:06d}-{piece:04d}.parquet", data)
        return counts

    def _rows(
        self, units: Sequence[tuple[Unit, bytes | None]], counts: Counts
    ) -> Iterator[pa.Table]:
        for unit, given in units:
            for table in self._of_unit(unit, given):
                counts.count(table)
                yield table.replace_schema_metadata(None)

    def _of_unit(self, unit: Unit, given: bytes | None) -> Iterator[pa.Table]:
        if self.index is None:
            assert self.convert is not None
            return self.convert(unit)
        known = None if given is None else pa.ipc.open_stream(given).read_all()
        return self.index.convert(unit, known)


def marker(number: int) -> str:
    """Name of what tells that a group is written."""
    return f"{GROUPS}/{number:06d}.json"
