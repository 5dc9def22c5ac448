"""What a scoring job keeps on storage, so that it can be killed anywhere and go on.

    OUT/part-NNNNN.parquet         the output: all pieces of some consecutive units
    OUT/__job/job.json             what the scores are made from; another launch must agree
    OUT/__job/run.json             counts and timings, once the job is finished
    OUT/__job/input/N.parquet      text manifests and image folders, as Parquet
    OUT/__job/commits/UNIT-PIECE.parquet   scored rows of a piece, at most ``commit_rows``; the last
                                   piece of a unit ends in ``-last``

A file is written whole or not at all, and its name says which rows are in it, so writing it twice
changes nothing. Whoever reads the folder as a table passes over names that begin with one
underscore (Arrow, Spark, Ray) or with two (Hugging Face).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tokenfocus_ray.datasets.sources import UNIT_ROWS, Unit
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.schema import SCORE_SCHEMA
from tokenfocus_ray.storage import Store

JOB = "__job"
COMMITS, INPUT = f"{JOB}/commits", f"{JOB}/input"
JOB_FILE, RUN_FILE = f"{JOB}/job.json", f"{JOB}/run.json"
#: Key of a part's schema metadata: unit, piece and number of rows of each piece in it.
PIECES_KEY = b"tokenfocus.pieces"
#: Codes that say nothing about the row: scoring it again may give a score.
RETRIED = ("storage", "scoring_failed", "process_died")

_COMMIT = re.compile(r"(\d+)-(\d+)(-last)?(\.kept)?\.parquet")
_PART = re.compile(r"part-(\d+)\.parquet")
_THREADS = 16
_DIGEST = 16  # bytes: among 10^9 ids, two meet by chance with a probability below 10^-20


def commit_name(unit: int, piece: int, last: bool, kept: bool = False) -> str:
    """Name of a piece's file.

    >>> commit_name(12, 3, last=True)
    '0000012-00003-last.parquet'
    """
    return f"{unit:07d}-{piece:05d}{'-last' if last else ''}{'.kept' if kept else ''}.parquet"


def part_name(part: int) -> str:
    """Name of an output file."""
    return f"part-{part:05d}.parquet"


def parts_of(units: Sequence[Unit]) -> list[range]:
    """Which units make up each output file: about ``UNIT_ROWS`` rows, or one tar shard."""
    parts, start, rows = [], 0, 0
    for i, unit in enumerate(units):
        if i > start and (unit.n_rows is None or rows + unit.n_rows > UNIT_ROWS):
            parts.append(range(start, i))
            start, rows = i, 0
        rows += UNIT_ROWS if unit.n_rows is None else unit.n_rows
    return [*parts, range(start, len(units))] if units else []


def digests(ids: pa.ChunkedArray[Any] | pa.Array[Any]) -> NDArray[np.bytes_]:
    """[N] 128-bit hashes of ids."""
    texts: list[Any] = ids.to_pylist()
    each = (
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()
        for text in texts
    )
    return np.frombuffer(b"".join(each), dtype=f"V{_DIGEST}").view(f"S{_DIGEST}")


class SeenIds:
    """Finds ids that came before; 16 bytes for each."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.bytes_]] = []

    def add(self, new: NDArray[np.bytes_]) -> list[int]:
        """Positions of the ids that were there before, earlier in ``new`` included; keeps them."""
        _, first = np.unique(new, return_index=True)
        known = np.ones(len(new), dtype=bool)
        known[first] = False
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, new), len(run) - 1)
            known |= run[at] == new
        self._keep(np.sort(new[~known]))
        return np.flatnonzero(known).tolist()

    def _keep(self, run: NDArray[np.bytes_]) -> None:
        """Few sorted runs, each more than twice as long as the next."""
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)


@dataclass(slots=True)
class UnitState:
    """What is done of a unit.

    Attributes:
        pieces: Finished pieces with the digests of their ids; None until they are read.
        n_pieces: Number of pieces, once the last is known.
        kept: Pieces of which some rows are to be scored again.
    """

    pieces: dict[int, NDArray[np.bytes_] | None] = field(default_factory=dict)
    n_pieces: int | None = None
    kept: set[int] = field(default_factory=set)

    @property
    def is_complete(self) -> bool:
        """Whether all its pieces are committed."""
        return self.n_pieces is not None and len(self.pieces) == self.n_pieces


class Ledger:
    """The job's files, and what they leave to do. Only the driver has one."""

    def __init__(self, store: Store, units: Sequence[Unit]) -> None:
        """Reads what is there.

        Args:
            store: The output folder.
            units: Of the source, as at the first launch.
        """
        self.store, self.commits = store, store.child(COMMITS)
        self.units = units
        self.parts = parts_of(units)
        self.states: dict[int, UnitState] = {}
        self.published: set[int] = set()
        self._next, self._seen = 0, SeenIds()
        self._load()

    def _load(self) -> None:
        matches = (_PART.fullmatch(name) for name in self.store.names())
        self.published = {int(m[1]) for m in matches if m}
        done = {u for part in self.published for u in self.parts[part]}
        self.states = {u.number: UnitState() for u in self.units if u.number not in done}
        for name in self.commits.names():
            match = _COMMIT.fullmatch(name)
            if match is None:
                continue
            unit, piece = int(match[1]), int(match[2])
            if unit in done:  # killed after the part was written
                self.commits.delete(name)
            elif match[4]:
                self.states[unit].kept.add(piece)
            else:
                self._note(unit, piece, bool(match[3]), None)

    def _note(self, unit: int, piece: int, last: bool, ids: NDArray[np.bytes_] | None) -> None:
        state = self.states[unit]
        state.pieces[piece] = ids
        if last:
            state.n_pieces = piece + 1

    @property
    def is_finished(self) -> bool:
        """Whether every part is written."""
        return len(self.published) == len(self.parts)

    def pending(self) -> list[Unit]:
        """Units of which something is left to score."""
        return [u for u in self.units if u.number in self.states and not self._done(u.number)]

    def _done(self, unit: int) -> bool:
        return self.states[unit].is_complete

    def add(self, unit: int, piece: int, last: bool, ids: bytes) -> None:
        """Notes a committed piece.

        Args:
            unit: Number of the unit.
            piece: Number of the piece in it.
            last: Whether the unit ends with it.
            ids: Digests of its ids, one after another.
        """
        found = np.frombuffer(ids, dtype=f"V{_DIGEST}").view(f"S{_DIGEST}")
        self._note(unit, piece, last, found)

    def next_part(self) -> tuple[int, list[int]] | None:
        """The next part that can be written, in order, with its duplicate rows.

        Parts are written in the order of the input, since the first row of an id is the one that
        counts.

        Returns:
            Number of the part and the rows in it whose id came before, or None.
        """
        while self._next < len(self.parts):
            part = self._next
            if part in self.published:
                self._seen.add(self._ids_of_part(part))
                self._next += 1
                continue
            if not all(self._done(u) for u in self.parts[part]):
                return None
            self._next += 1
            return part, self._seen.add(self._ids_of_commits(part))
        return None

    def _ids_of_part(self, part: int) -> NDArray[np.bytes_]:
        return _read_digests(self.store.child(part_name(part)))

    def _ids_of_commits(self, part: int) -> NDArray[np.bytes_]:
        files = self.pieces_of(part)
        with ThreadPoolExecutor(_THREADS) as pool:
            each = list(pool.map(self._ids_of_piece, files))
        return np.concatenate(each)

    def _ids_of_piece(self, key: tuple[int, int, bool]) -> NDArray[np.bytes_]:
        unit, piece, last = key
        known = self.states[unit].pieces[piece]
        return known if known is not None else _read_digests(
            self.commits.child(commit_name(unit, piece, last))
        )  # fmt: skip

    def pieces_of(self, part: int) -> list[tuple[int, int, bool]]:
        """Unit, piece and whether it is the unit's last, in order."""
        found = []
        for unit in self.parts[part]:
            count = self.states[unit].n_pieces
            assert count is not None
            found += [(unit, piece, piece == count - 1) for piece in range(count)]
        return found

    def forget(self, part: int) -> None:
        """Notes that a part is written: what was known of its pieces is no longer needed."""
        self.published.add(part)
        for unit in self.parts[part]:
            self.states.pop(unit, None)


def _read_digests(store: Store) -> NDArray[np.bytes_]:
    with store.filesystem.open_input_file(store.root) as file:
        return digests(pq.read_table(file, columns=["sample_id"])["sample_id"])


def write_commit(
    store: Store,
    unit: int,
    piece: int,
    last: bool,
    table: pa.Table,
    positions: Sequence[int] | None,
) -> pa.Table:
    """Writes a piece's rows.

    Args:
        store: The output folder.
        unit: Number of the unit.
        piece: Number of the piece in it.
        last: Whether the unit ends with it.
        table: Scored rows.
        positions: Where they stand in the piece, if the rest was kept from an earlier launch.

    Returns:
        All rows of the piece.
    """
    commits = store.child(COMMITS)
    kept = commit_name(unit, piece, last, kept=True)
    if positions is not None:
        earlier = _read_table(commits.child(kept))
        order = np.arange(earlier.num_rows)
        order[list(positions)] = earlier.num_rows + np.arange(len(positions))
        metadata = table.schema.metadata
        both = pa.concat_tables([t.replace_schema_metadata(None) for t in (earlier, table)])
        table = both.take(order).replace_schema_metadata(metadata)
    commits.write_bytes(commit_name(unit, piece, last), _to_parquet(table))
    if positions is not None:
        commits.delete(kept)
    return table


def retried_positions(store: Store, unit: int, piece: int, last: bool) -> list[int]:
    """Rows of a kept piece that are to be scored again."""
    kept = store.child(COMMITS, commit_name(unit, piece, last, kept=True))
    codes = _read_table(kept, ["error_code"])["error_code"]
    return [i for i, code in enumerate(codes.to_pylist()) if code in RETRIED]


def publish(
    store: Store, part: int, pieces: Sequence[tuple[int, int, bool]], duplicates: Iterable[int]
) -> None:
    """Writes an output file from its pieces, then deletes them.

    Args:
        store: The output folder.
        part: Number of the part.
        pieces: From :meth:`Ledger.pieces_of`.
        duplicates: Rows whose id came before: they lose their scores and get a reason.
    """
    commits = store.child(COMMITS)
    names = [commit_name(*key) for key in pieces]
    if not store.exists(part_name(part)):  # else a process died while it deleted the pieces
        _write_part(store, part, pieces, names, duplicates)
    for name in names:
        commits.delete(name)


def _write_part(
    store: Store,
    part: int,
    pieces: Sequence[tuple[int, int, bool]],
    names: Sequence[str],
    duplicates: Iterable[int],
) -> None:
    commits = store.child(COMMITS)
    with ThreadPoolExecutor(_THREADS) as pool:
        tables = list(pool.map(lambda name: _read_table(commits.child(name)), names))
    layout = [[u, p, t.num_rows] for (u, p, _), t in zip(pieces, tables, strict=True)]
    metadata = (tables[0].schema.metadata or {}) | {PIECES_KEY: json.dumps(layout).encode()}
    table = pa.concat_tables([t.replace_schema_metadata(None) for t in tables])
    table = _without_duplicates(table, list(duplicates), part)
    store.write_bytes(part_name(part), _to_parquet(table.replace_schema_metadata(metadata)))


def _without_duplicates(table: pa.Table, rows: Sequence[int], part: int) -> pa.Table:
    """Makes unscored rows of those whose id came before, under ids of their own."""
    if not rows:
        return table
    is_copy = np.zeros(table.num_rows, dtype=bool)
    is_copy[rows] = True
    mask = pa.array(is_copy)
    ids: list[Any] = table["sample_id"].to_pylist()
    values: dict[str, Any] = {
        "sample_id": pa.array([f"{v}#{part}-{i}" if is_copy[i] else v for i, v in enumerate(ids)]),
        "status": "unscored",
        "error_code": "duplicate_id",
        "error_message": pa.array(
            [
                f"sample_id {v!r} stands in an earlier row too, which is the one that is scored; "
                f"give each row an id of its own"
                for v in ids
            ]
        ),
        "score": pa.scalar(math.nan, pa.float32()),
    }
    for name in _LISTS:
        values[name] = pa.scalar([], SCORE_SCHEMA.field(name).type)
    lists: list[Any] = table["element_scores"].to_pylist()
    nothing = [[math.nan] * len(v) for v in lists]
    values["element_scores"] = pa.array(nothing, SCORE_SCHEMA.field("element_scores").type)
    for name, new in values.items():
        column = pc.if_else(mask, new, table[name].combine_chunks())
        table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
    return table


_LISTS = ("member_scores", "level_probs", "level_mass", "entropy", "member_element_scores")


def reopen(ledger: Ledger) -> int:
    """Takes published parts apart whose rows are to be scored again.

    Everything that stays is written as commits before the part goes, so nothing is lost on the way.

    Returns:
        Number of rows that will be scored again.
    """
    store, commits, count = ledger.store, ledger.commits, 0
    for part in sorted(ledger.published):
        at = store.child(part_name(part))
        codes = _read_table(at, ["error_code"])["error_code"].to_pylist()
        again = [i for i, code in enumerate(codes) if code in RETRIED]
        if not again:
            continue
        count += len(again)
        table = _read_table(at)
        start, layout = 0, json.loads(table.schema.metadata[PIECES_KEY])
        lasts = {unit: piece for unit, piece, _ in layout}
        for unit, piece, n_rows in layout:
            rows = table.slice(start, n_rows)
            redo = any(start <= i < start + n_rows for i in again)
            name = commit_name(unit, piece, piece == lasts[unit], kept=redo)
            commits.write_bytes(name, _to_parquet(rows))
            start += n_rows
        store.delete(part_name(part))
    return count


def _read_table(store: Store, columns: list[str] | None = None) -> pa.Table:
    try:
        data = store.read_bytes()
    except FileNotFoundError as error:
        raise OutputError(
            f"{store.uri!r} has gone; another job must be writing to this folder: let one finish, "
            f"and run again"
        ) from error
    return pq.read_table(pa.BufferReader(data), columns=columns)


def _to_parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()
