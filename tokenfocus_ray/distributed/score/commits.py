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
changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.distributed.layout import COMMITS, JOB
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.parquet import to_parquet

JOB_FILE = f"{JOB}/job.json"
#: Codes that say nothing about the row: scoring it again may give a score.
RETRIED = ("storage", "scoring_failed", "process_died")


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
