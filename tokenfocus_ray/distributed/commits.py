"""The files of a scoring job, which let it be killed anywhere and go on.

    OUT/part-NNNNN.parquet         the output: all pieces of some consecutive units
    OUT/__job/job.json             what the scores are made from; another launch must agree
    OUT/__job/run.json             counts and timings, once the job is finished
    OUT/__job/input/N.parquet      text manifests and image folders, as Parquet
    OUT/__job/commits/UNIT-PIECE.parquet   scored rows of a piece, at most ``commit_rows``; the last
                                   piece of a unit ends in ``-last``
    OUT/__job/commits/UNIT-PIECE.scoredN.parquet   its scores by the first N of several backbones,
                                   where these score one after another
    OUT/__job/commits/UNIT-PIECE.kept.parquet   a piece of which some rows are to be scored again

A file is written whole or not at all, and its name says which rows are in it, so writing it twice
changes nothing. Whoever reads the folder as a table passes over names that begin with one
underscore (Arrow, Spark, Ray) or with two (Hugging Face).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.schema import ENSEMBLE_COLUMNS, SCORE_SCHEMA
from tokenfocus_ray.storage import Store

JOB = "__job"
COMMITS, INPUT = f"{JOB}/commits", f"{JOB}/input"
JOB_FILE, RUN_FILE = f"{JOB}/job.json", f"{JOB}/run.json"
#: Key of a part's file metadata: unit, piece and number of rows of each piece in it.
PIECES_KEY = b"tokenfocus.pieces"
#: Codes that say nothing about the row: scoring it again may give a score.
RETRIED = ("storage", "scoring_failed", "process_died")

#: Most pieces in memory while a part is written, and fewest rows of its row groups.
_AHEAD, _GROUP_ROWS = 16, 8192

_NAME = re.compile(r"(\d+)-(\d+)(-last)?(?:\.(kept)|\.scored(\d+))?\.parquet")


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of rows that are committed together, and the file that holds them.

    >>> Piece(12, 3, last=True).name
    '0000012-00003-last.parquet'
    >>> Piece.parse("0000012-00003.scored1.parquet")
    Piece(unit=12, number=3, last=False, kept=False, scored=1)

    Attributes:
        unit: Number of the unit.
        number: Its place in the unit.
        last: Whether the unit ends with it.
        kept: Whether the file is of an earlier launch, and some rows are to be scored again.
        scored: Number of backbones, of several, whose scores the file holds; None: it is finished.
    """

    unit: int
    number: int
    last: bool
    kept: bool = False
    scored: int | None = None

    @property
    def name(self) -> str:
        """Of the file."""
        state = "" if self.scored is None else f".scored{self.scored}"
        state = ".kept" if self.kept else state
        return f"{self.unit:07d}-{self.number:05d}{'-last' if self.last else ''}{state}.parquet"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The inverse of :attr:`name`; None of any other file."""
        if (match := _NAME.fullmatch(name)) is None:
            return None
        scored = None if match[5] is None else int(match[5])
        return cls(int(match[1]), int(match[2]), bool(match[3]), bool(match[4]), scored)


def part_name(part: int) -> str:
    """Name of an output file."""
    return f"part-{part:05d}.parquet"


def write_scored(store: Store, piece: Piece, scores: pa.Table) -> None:
    """Writes a piece's scores by some of several backbones, in place of those by fewer.

    Args:
        store: The output folder.
        piece: Which, with the number of backbones that have scored.
        scores: All their scores.
    """
    commits = store.child(COMMITS)
    commits.write_bytes(piece.name, to_parquet(scores))
    assert piece.scored is not None
    for fewer in range(1, piece.scored):
        commits.delete(replace(piece, scored=fewer).name)


def read_scored(store: Store, piece: Piece) -> pa.Table:
    """What :func:`write_scored` wrote."""
    return read_table(store.child(COMMITS, piece.name))


def write_commit(
    store: Store, piece: Piece, table: pa.Table, positions: Sequence[int] | None, backbones: int = 1
) -> pa.Table:
    """Writes a piece's rows.

    Args:
        store: The output folder.
        piece: Which.
        table: Scored rows.
        positions: Where they stand in the piece, if the rest was kept from an earlier launch.
        backbones: How many have scored; the files of fewer go.

    Returns:
        All rows of the piece.
    """
    commits = store.child(COMMITS)
    kept = replace(piece, kept=True)
    if positions is not None:
        earlier = read_table(commits.child(kept.name))
        order = np.arange(earlier.num_rows)
        order[list(positions)] = earlier.num_rows + np.arange(len(positions))
        metadata = table.schema.metadata
        both = pa.concat_tables([t.replace_schema_metadata(None) for t in (earlier, table)])
        table = both.take(order).replace_schema_metadata(metadata)
    commits.write_bytes(piece.name, to_parquet(table))
    if positions is not None:
        commits.delete(kept.name)
    for fewer in range(1, backbones):
        commits.delete(replace(piece, scored=fewer).name)
    return table


def retried_positions(store: Store, piece: Piece) -> list[int]:
    """Rows of a kept piece that are to be scored again."""
    kept = store.child(COMMITS, replace(piece, kept=True).name)
    codes = read_table(kept, ["error_code"])["error_code"]
    return [i for i, code in enumerate(codes.to_pylist()) if code in RETRIED]


def publish(store: Store, part: int, pieces: Sequence[Piece], duplicates: Sequence[int]) -> None:
    """Writes an output file from its pieces, a few at a time, then deletes them.

    Args:
        store: The output folder.
        part: Number of the part.
        pieces: From :meth:`~tokenfocus_ray.distributed.ledger.Ledger.pieces_of`.
        duplicates: Rows whose id came before, in order: they get other ids, and lose their scores.
    """
    if not store.exists(part_name(part)):  # else a process died while it deleted the pieces
        _write_part(store, part, pieces, np.asarray(duplicates, np.int64))
    for piece in pieces:
        store.delete(f"{COMMITS}/{piece.name}")
    pa.default_memory_pool().release_unused()  # this process may be idle from here on


def _write_part(store: Store, part: int, pieces: Sequence[Piece], duplicates: Any) -> None:
    sink, layout, start = pa.BufferOutputStream(), [], 0
    writer: pq.ParquetWriter | None = None
    schema = pa.schema([])
    for group in _groups(store.child(COMMITS), pieces):
        layout += [[p.unit, p.number, t.num_rows] for p, t in group]
        table = pa.concat_tables([t.replace_schema_metadata(None) for _, t in group])
        stop = start + table.num_rows
        here = duplicates[(start <= duplicates) & (duplicates < stop)] - start
        about = group[0][1].schema.metadata or {}
        merged = ENSEMBLE_COLUMNS if b"tokenfocus.ensemble" in about else {}
        table = _without_duplicates(table, here.tolist(), f"{part}-", start, merged)
        if writer is None:
            schema = table.schema.with_metadata(group[0][1].schema.metadata)
            writer = pq.ParquetWriter(sink, schema, compression="zstd")
        writer.write_table(table.replace_schema_metadata(schema.metadata))
        start = stop
    assert writer is not None
    writer.add_key_value_metadata({PIECES_KEY.decode(): json.dumps(layout)})
    writer.close()
    store.write_bytes(part_name(part), sink.getvalue())


def _groups(commits: Store, pieces: Sequence[Piece]) -> Iterator[list[tuple[Piece, pa.Table]]]:
    """The tables of consecutive pieces, together as large as a row group."""
    group: list[tuple[Piece, pa.Table]] = []
    with ThreadPoolExecutor(_AHEAD) as pool:
        for i in range(0, len(pieces), _AHEAD):
            some = pieces[i : i + _AHEAD]
            tables = pool.map(lambda piece: read_table(commits.child(piece.name)), some)
            group += zip(some, tables, strict=True)
            if sum(t.num_rows for _, t in group) >= _GROUP_ROWS:
                yield group
                group = []
    if group:
        yield group


def _without_duplicates(
    table: pa.Table,
    rows: Sequence[int],
    prefix: str,
    start: int,
    merged: Mapping[str, pa.DataType],
) -> pa.Table:
    """Gives rows whose id came before ids of their own; those with a score lose it.

    A row that failed keeps its own reason, which is what its reader needs to know.
    """
    if not rows:
        return table
    is_copy = np.zeros(table.num_rows, dtype=bool)
    is_copy[rows] = True
    ids: list[Any] = table["sample_id"].to_pylist()
    own = [f"{v}#{prefix}{start + i}" if is_copy[i] else v for i, v in enumerate(ids)]
    table = _set(table, "sample_id", pa.array(own, pa.string()))
    is_scored = [status == "ok" for status in table["status"].to_pylist()]
    mask = pa.array(is_copy & is_scored)
    values: dict[str, Any] = {
        "status": "unscored",
        "error_code": "duplicate_id",
        "error_message": pa.array(
            [
                f"sample_id {v!r} stands in an earlier row too, and is that row's; give each row "
                f"an id of its own"
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
    unknown = [[None] * len(v) for v in lists]
    for name, kind in merged.items():  # without an ensemble they are the input's
        if name in table.column_names:
            of_elements = unknown if name == "element_present" else nothing
            values[name] = (
                pa.array(of_elements, kind) if pa.types.is_list(kind) else pa.scalar(math.nan, kind)
            )
    for name, new in values.items():
        table = _set(table, name, pc.if_else(mask, new, table[name].combine_chunks()))
    return table


def _set(table: pa.Table, name: str, values: Any) -> pa.Table:
    """The table with other values in a column."""
    return table.set_column(table.column_names.index(name), table.schema.field(name), values)


_LISTS = ("member_scores", "level_probs", "level_mass", "entropy", "member_element_scores")


def read_table(store: Store, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file of the job.

    Raises:
        OutputError: it is not there.
    """
    try:
        data = store.read_bytes()
    except FileNotFoundError as error:
        raise OutputError(
            f"{store.uri!r} has gone; another job must be writing to this folder: let one finish, "
            f"and run again"
        ) from error
    return pq.read_table(pa.BufferReader(data), columns=columns)


def to_parquet(table: pa.Table) -> pa.Buffer:
    """A file of one row group."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
