"""What is done of a scoring job, what is left, and which rows repeat an id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tokenfocus_ray.datasets.units import UNIT_ROWS, Unit
from tokenfocus_ray.distributed.layout import COMMITS, part_name
from tokenfocus_ray.distributed.score.commits import Piece
from tokenfocus_ray.distributed.score.ids import DIGEST, SeenIds, digests
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.storage import Store

_PART = re.compile(r"part-(\d+)\.parquet")
_THREADS = 16


def parts_of(units: Sequence[Unit]) -> list[range]:
    """Which units make up each output file: about ``UNIT_ROWS`` rows, or one tar shard."""
    parts, start, rows = [], 0, 0
    for i, unit in enumerate(units):
        if i > start and (unit.n_rows is None or rows + unit.n_rows > UNIT_ROWS):
            parts.append(range(start, i))
            start, rows = i, 0
        rows += UNIT_ROWS if unit.n_rows is None else unit.n_rows
    return [*parts, range(start, len(units))] if units else []


@dataclass(slots=True)
class UnitState:
    """What is done of a unit.

    Attributes:
        pieces: Finished pieces with the digests of their ids; None until they are read.
        n_pieces: Number of pieces, once the last is known.
        kept: Pieces of which some rows are to be scored again.
        scored: Of several backbones, how many have scored a piece that is not finished.
    """

    pieces: dict[int, NDArray[np.bytes_] | None] = field(default_factory=dict)
    n_pieces: int | None = None
    kept: set[int] = field(default_factory=set)
    scored: dict[int, int] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether all its pieces are committed."""
        return self.n_pieces is not None and len(self.pieces) == self.n_pieces

    def done(self, backbones: int | None = None) -> set[int]:
        """Pieces that so many backbones have scored; None: that are finished."""
        if backbones is None:
            return set(self.pieces)
        return {*self.pieces, *(p for p, n in self.scored.items() if n >= backbones)}


class Ledger:
    """The job's files, and what they leave to do. Only the driver has one."""

    def __init__(self, store: Store, units: Sequence[Unit]) -> None:
        """Reads what is there.

        Args:
            store: The output folder.
            units: Of the source, as at the first launch.

        Raises:
            OutputError: a part is there that this job does not write.
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
        if foreign := self.published - set(range(len(self.parts))):
            raise OutputError(
                f"output folder {self.store.uri!r} holds {part_name(min(foreign))!r}, but this job "
                f"has {len(self.parts)} parts, from 0 on; move that file away"
            )
        done = {u for part in self.published for u in self.parts[part]}
        self.states = {u.number: UnitState() for u in self.units if u.number not in done}
        found = [p for name in self.commits.names() if (p := Piece.parse(name)) is not None]
        for piece in found:
            if piece.unit in done:  # killed after the part was written
                self.commits.delete(piece.name)
            elif piece.kept:
                self.states[piece.unit].kept.add(piece.number)
            elif piece.scored is None:
                self._note(piece, None)
        for piece in found:
            if piece.scored is None or piece.unit in done:
                continue
            if piece.number in self.states[piece.unit].pieces:  # killed after it was finished
                self.commits.delete(piece.name)
            else:
                self.note_scored(piece)

    def _note(self, piece: Piece, ids: NDArray[np.bytes_] | None) -> None:
        state = self.states[piece.unit]
        state.pieces[piece.number] = ids
        if piece.last:
            state.n_pieces = piece.number + 1

    def note_scored(self, piece: Piece) -> None:
        """Notes a piece that some of several backbones have scored."""
        assert piece.scored is not None
        state = self.states[piece.unit]
        state.scored[piece.number] = max(piece.scored, state.scored.get(piece.number, 0))
        if piece.last:
            state.n_pieces = piece.number + 1

    @property
    def is_finished(self) -> bool:
        """Whether every part is written."""
        return len(self.published) == len(self.parts)

    def done_in_words(self, commit_rows: int) -> str:
        """What is done already, in words.

        Args:
            commit_rows: Rows of a piece.
        """
        sizes = [unit.n_rows for unit in self.units]
        if None in sizes:  # of tar shards, which only reading tells
            pieces = sum(len(state.pieces) for state in self.states.values())
            return (
                f"{len(self.published):,} of {len(self.parts):,} shards are there already, and "
                f"{pieces:,} pieces of at most {commit_rows:,} rows of others"
            )
        rows = 0
        for unit in self.units:
            size, state = unit.n_rows or 0, self.states.get(unit.number)
            if state is None:  # published
                rows += size
            else:
                rows += sum(min(commit_rows, size - piece * commit_rows) for piece in state.pieces)
        return f"{rows:,} of {sum(n or 0 for n in sizes):,} rows are there already"

    def pending(self, backbones: int | None = None) -> list[Unit]:
        """Units of which something is left to do.

        Args:
            backbones: How many of several are to have scored; None: all.
        """
        waiting = []
        for unit in self.units:
            state = self.states.get(unit.number)
            if state is not None and len(state.done(backbones)) != state.n_pieces:
                waiting.append(unit)
        return waiting

    def add(self, piece: Piece, ids: bytes) -> None:
        """Notes a committed piece.

        Args:
            piece: Which.
            ids: Digests of its ids, one after another.
        """
        self._note(piece, np.frombuffer(ids, dtype=f"V{DIGEST}").view(f"S{DIGEST}"))

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
            if not all(self.states[u].is_complete for u in self.parts[part]):
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

    def _ids_of_piece(self, piece: Piece) -> NDArray[np.bytes_]:
        known = self.states[piece.unit].pieces[piece.number]
        return known if known is not None else _read_digests(self.commits.child(piece.name))

    def pieces_of(self, part: int) -> list[Piece]:
        """The pieces of a part that is complete, in order."""
        found = []
        for unit in self.parts[part]:
            count = self.states[unit].n_pieces
            assert count is not None
            found += [Piece(unit, i, i == count - 1) for i in range(count)]
        return found

    def forget(self, part: int) -> None:
        """Notes that a part is written: what was known of its pieces is no longer needed."""
        self.published.add(part)
        for unit in self.parts[part]:
            self.states.pop(unit, None)


def _read_digests(store: Store) -> NDArray[np.bytes_]:
    with store.filesystem.open_input_file(store.root) as file:
        return digests(pq.read_table(file, columns=["sample_id"])["sample_id"])
