"""Which rows are dropped for how they rank among others: by DuckDB, over narrow columns.

Rows rank by the score as it is stored, from the highest down; ties by sample_id, so that the result
does not depend on how rows lie in files.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokenfocus_ray.config.selection import Selection
from tokenfocus_ray.exports.sql import batches, engine, one_row
from tokenfocus_ray.tables.prompts import prompt_key

if TYPE_CHECKING:
    import duckdb

#: What DuckDB may hold before it goes to disk: at least so many MB, and so many bytes a row, with
#: less of which it does not merge what it has sorted there (tried up to ten million rows).
LEAST_MB, ROW_BYTES = 64, 24
#: Parts a row's element types, as they stand in a group's name before the rarest is known.
SEPARATOR = "\x1f"
#: Rows that rank.
_COLUMNS: dict[str, pa.DataType] = {
    "row": pa.int64(),
    "id": pa.string(),
    "score": pa.float64(),
    "prompt_high": pa.uint64(),
    "prompt_low": pa.uint64(),
    "grp": pa.string(),
}
SCHEMA = pa.schema(_COLUMNS)
_ORDER = "score DESC, id, row"


@dataclass(slots=True)
class Ranking:
    """Rows that passed, ranked.

    Attributes:
        options: What is kept.
        by_types: Whether groups are sets of element types, of which the rarest counts.
        notes: What is worth saying, once they are ranked.
        best: Criterion -> rows kept, of how many, and the lowest score that is kept.
    """

    options: Selection
    by_types: bool
    database: duckdb.DuckDBPyConnection
    notes: list[str] = field(default_factory=list)
    best: dict[str, tuple[int, int, float]] = field(default_factory=dict)

    def add(self, rows: pa.Table) -> None:
        """Takes rows.

        Args:
            rows: Of :data:`SCHEMA`; what is not asked for is null.
        """
        self.database.register("batch", rows)
        self.database.execute("INSERT INTO alive SELECT * FROM batch")
        self.database.unregister("batch")

    def rank(self) -> None:
        """Ranks all rows: of each prompt, then the top share, then by groups and budget."""
        options = self.options
        if options.best_of is not None:
            self._number("PARTITION BY prompt_high, prompt_low", "best_of", options.best_of)
        if options.top is not None:
            n = self._count()
            # of the decimal number that the user wrote: 0.07 * 100 is a little more than 7
            self._best("top", math.ceil(Fraction(repr(options.top)) * n))
        if options.balance is not None:
            self._balance(options.balance)
        elif options.budget is not None:
            self._best("budget", options.budget)

    def decisions(self) -> Iterator[pa.RecordBatch]:
        """Rows that are dropped, in their order: ``row, reason, place, quota, grp``."""
        return batches(self.database, "SELECT * FROM dropped ORDER BY row")

    def _count(self) -> int:
        (n,) = one_row(self.database, "SELECT count(*) FROM alive")
        return int(n)

    def _number(self, partition: str, reason: str, limit: int, quota: str = "NULL") -> None:
        """Numbers rows from the best on; those beyond the limit are dropped."""
        self.database.execute(
            f"CREATE TABLE ranked AS SELECT *, row_number() OVER ({partition} ORDER BY {_ORDER}) "
            f"AS place FROM alive"
        )
        self._drop(reason, f"place > {limit}", quota)

    def _drop(self, reason: str, condition: str, quota: str = "NULL") -> None:
        """Of the table ``ranked``; the others stay alive."""
        self.database.execute(
            f"INSERT INTO dropped SELECT row, '{reason}', place, {quota}, grp FROM ranked "
            f"WHERE {condition}"
        )
        self.database.execute("DROP TABLE alive")
        self.database.execute(
            f"CREATE TABLE alive AS SELECT {', '.join(SCHEMA.names)} FROM ranked "
            f"WHERE NOT ({condition})"
        )
        self.database.execute("DROP TABLE ranked")

    def _best(self, reason: str, limit: int) -> None:
        n = self._count()
        self._number("", reason, limit)
        kept, lowest = one_row(self.database, "SELECT count(*), min(score) FROM alive")
        self.best[reason] = (int(kept), n, math.nan if lowest is None else float(lowest))

    def _balance(self, column: str) -> None:
        if self.by_types:
            self._name_rarest()
        self.database.execute("CREATE TABLE ranked AS SELECT *, NULL AS place FROM alive")
        self._drop("balance", "grp IS NULL")
        groups, least = one_row(
            self.database,
            "SELECT count(*), min(n) FROM (SELECT count(*) AS n FROM alive GROUP BY grp)",
        )
        if not groups:
            return
        (smallest,) = one_row(
            self.database,
            f"SELECT min(grp) FROM (SELECT grp FROM alive GROUP BY grp HAVING count(*) = {least})",
        )
        budget = self.options.budget
        if budget is None:
            self._number("PARTITION BY grp", "balance", least, str(least))
            self.notes.append(
                f"balance by {column}: {groups:,} groups; the smallest, {smallest!r}, has "
                f"{least:,} rows, and so many are kept of each"
            )
            return
        # the best of every group, then the second best, and so on: full groups before the rest
        self.database.execute(
            f"CREATE TABLE placed AS SELECT *, row_number() OVER (PARTITION BY grp ORDER BY "
            f"{_ORDER}) AS place FROM alive"
        )
        self.database.execute(
            f"CREATE TABLE ranked AS SELECT *, row_number() OVER (ORDER BY place, {_ORDER}) "
            f"AS turn FROM placed"
        )
        self.database.execute("DROP TABLE placed")
        self.database.execute(
            f"CREATE TABLE quotas AS SELECT grp, count(*) FILTER (turn <= {budget}) AS quota "
            f"FROM ranked GROUP BY grp"
        )
        low, high = one_row(self.database, "SELECT min(quota), max(quota) FROM quotas")
        quota = "(SELECT quota FROM quotas WHERE quotas.grp = ranked.grp)"
        self._drop("balance", f"turn > {budget}", quota)
        self.notes.append(
            f"balance by {column}: {groups:,} groups; {low:,} to {high:,} rows are kept of each, "
            f"and the smallest, {smallest!r}, has {least:,}"
        )

    def _name_rarest(self) -> None:
        """A row's set of element types -> the rarest of them among the rows that are left."""
        found = self.database.execute(
            "SELECT grp, count(*) FROM alive WHERE grp IS NOT NULL GROUP BY grp"
        ).fetchall()
        counts: Counter[str] = Counter()
        for types, n in found:
            for kind in types.split(SEPARATOR):
                counts[kind] += n
        rarest = [
            min(types.split(SEPARATOR), key=lambda kind: (counts[kind], kind)) for types, _ in found
        ]
        names = pa.table({"types": [t for t, _ in found], "rarest": rarest})
        if not found:
            return
        self.database.register("names", names)
        self.database.execute(
            "UPDATE alive SET grp = names.rarest FROM names WHERE alive.grp = names.types"
        )
        self.database.unregister("names")


def sorting_memory(rows: int) -> str:
    """DuckDB's memory for so many narrow rows.

    >>> sorting_memory(1_000), sorting_memory(100_000_000)
    ('64MB', '2400MB')
    """
    return f"{max(LEAST_MB, rows * ROW_BYTES // 10**6)}MB"


@contextmanager
def ranking(options: Selection, by_types: bool, rows: int) -> Iterator[Ranking]:
    """A place for rows to rank in.

    Args:
        options: What is kept.
        by_types: Whether groups are sets of element types, joined by :data:`SEPARATOR`.
        rows: The most that will be ranked.
    """
    with engine(sorting_memory(rows)) as database:
        database.execute(
            "CREATE TABLE alive(row BIGINT, id VARCHAR, score DOUBLE, prompt_high UBIGINT, "
            "prompt_low UBIGINT, grp VARCHAR)"
        )
        database.execute(
            "CREATE TABLE dropped(row BIGINT, reason VARCHAR, place BIGINT, quota BIGINT, "
            "grp VARCHAR)"
        )
        yield Ranking(options, by_types, database)


def prompt_hashes(prompts: Any, start: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """[N] two halves of a hash of each prompt, case and white space aside.

    A row without a prompt is the only one of its own.

    Args:
        prompts: [N] text, null where there is none.
        start: Number of the first row.
    """
    encoded: Any = prompts.dictionary_encode()
    known = b"".join(_hash(f"p{prompt_key(text)}") for text in encoded.dictionary.to_pylist())
    halves = np.frombuffer(known, ">u8").astype(np.uint64).reshape(-1, 2)
    places = encoded.indices.fill_null(len(halves)).to_numpy(zero_copy_only=False)
    found = np.vstack([halves, np.zeros((1, 2), np.uint64)])[places]
    for i in np.flatnonzero(places == len(halves)):
        found[i] = np.frombuffer(_hash(f"r{start + int(i)}"), ">u8")
    return found[:, 0].copy(), found[:, 1].copy()


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
