"""The stages around the scorers, as tasks over pieces: reading, preparing and committing."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.datasets.role_values import valid_values
from tokenfocus_ray.datasets.tars import PASSED_OVER
from tokenfocus_ray.datasets.units import Source, Unit, read_unit
from tokenfocus_ray.distributed.lease import Lease
from tokenfocus_ray.distributed.score.commits import (
    Piece,
    read_scored,
    retried_positions,
    write_commit,
    write_scored,
)
from tokenfocus_ray.distributed.score.failures import Action, decide
from tokenfocus_ray.distributed.score.finish import finish_rows
from tokenfocus_ray.distributed.score.guard import Guard
from tokenfocus_ray.distributed.score.ids import digests
from tokenfocus_ray.distributed.score.pieces import COMMITTED, codes_of, count_codes, pack, unpack
from tokenfocus_ray.errors import ManifestError, OutputError
from tokenfocus_ray.scoring.prepare import PrepareStage
from tokenfocus_ray.scoring.wire import scores_column
from tokenfocus_ray.storage import Store, is_remote

if TYPE_CHECKING:
    from tokenfocus_ray.ensemble.bundle import Ensemble

logger = logging.getLogger(__name__)

#: Images fetched from an object store at a time by one task: most of that is waiting.
FETCHES = 16


@dataclass(frozen=True, slots=True)
class ReadPieces:
    """Cuts units into pieces, and leaves out those that are done.

    Attributes:
        source: Without its units.
        out: The output folder, which holds the pieces that were kept.
        rows: Rows of a piece.
        prepare: Of a source with image bytes: prepares them here, so that no image crosses the
            object store at its full size.
    """

    source: Source
    out: Store
    rows: int
    prepare: PreparePieces | None

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yields one piece at a time."""
        for row in batch.to_pylist():
            done, kept = set(row.pop("done")), set(row.pop("kept"))
            unit = Unit(**row | {"groups": tuple(row["groups"])})
            for piece, last, table, seconds in self._tables(unit):
                if piece not in done:
                    yield self._piece(unit, piece, last, table, seconds, piece in kept)

    def _tables(self, unit: Unit) -> Iterator[tuple[int, bool, pa.Table, float]]:
        tables = self._read(unit)
        started = time.perf_counter()
        table = next(tables, None)
        if table is None:
            table = self.source.schema.empty_table()
        piece = 0
        while table is not None:
            following = next(tables, None)
            seconds = time.perf_counter() - started
            yield piece, following is None, table, seconds
            started = time.perf_counter()
            table, piece = following, piece + 1

    def _read(self, unit: Unit) -> Iterator[pa.Table]:
        """The unit's rows; where the store fails, from the table on at which it did."""
        done = attempt = 0
        while True:
            try:
                for table in itertools.islice(
                    read_unit(self.source.schema, unit, self.rows, self.source.encoding), done, None
                ):
                    yield table
                    done, attempt = done + 1, 0
                return
            except ManifestError as error:
                _pause_or_raise(error, attempt)
                attempt += 1

    def _piece(
        self, unit: Unit, piece: int, last: bool, table: pa.Table, seconds: float, kept: bool
    ) -> pa.Table:
        positions = None
        passed = (table.schema.metadata or {}).get(PASSED_OVER, b"{}").decode()
        if kept:
            positions = retried_positions(self.out, Piece(unit.number, piece, last))
            table = table.take(pa.array(positions, pa.int64()))
        head = {
            "unit": unit.number,
            "piece": piece,
            "last": last,
            "positions": positions,
            "base": unit.base,
            "passed_over": passed,
            "read_s": seconds,
            "prepare_s": 0.0,
            "score_s": [],
        }
        if self.prepare is not None:
            head, table = self.prepare.piece(head, table)
        return pack(head, table)


@dataclass(frozen=True, slots=True)
class PreparePieces:
    """Fetches, decodes and resizes the images of pieces.

    Attributes:
        prepare: How; the folder that relative paths start from is the piece's.
        guard: Against pictures that kill the process.
    """

    prepare: PrepareStage
    guard: Guard

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yields one piece at a time."""
        for head, table in unpack(batch):
            yield pack(*self.piece(head, table))

    def piece(self, head: dict[str, Any], table: pa.Table) -> tuple[dict[str, Any], pa.Table]:
        """One piece."""
        started = time.perf_counter()
        prepare = replace(self.prepare, base=head["base"])
        # of the whole piece, whose rows may go on one by one and must stay of one type
        table = valid_values(table, prepare.columns, prepare.encoding)
        table = self.guard(head, table, functools.partial(_prepared, prepare), prepare.unread)
        return head | {"prepare_s": time.perf_counter() - started}, table


def _prepared(prepare: PrepareStage, table: pa.Table) -> pa.Table:
    if not _is_remote(prepare, table):
        return prepare(table)
    with ThreadPoolExecutor(FETCHES) as pool:
        rows = (table.slice(i, 1) for i in range(table.num_rows))
        return pa.concat_tables(pool.map(prepare, rows))


def _is_remote(prepare: PrepareStage, table: pa.Table) -> bool:
    """Whether images are to be fetched from a store."""
    column = prepare.columns.image_uri
    if prepare.columns.image is not None or column is None or table.num_rows < 2:
        return False
    if is_remote(prepare.base):
        return True
    given: list[Any] = table[column].to_pylist()
    return any(is_remote(str(uri)) for uri in given)


@dataclass(frozen=True, slots=True)
class CommitPieces:
    """Writes pieces.

    Attributes:
        lease: Of the output folder, which another launch may have taken over.
        columns: Which column is what.
        backbones: Names of all of them.
        start: Number of backbones that have scored in passes before.
        stop: And with this one; fewer than all: their scores are put aside for the next.
        ensemble: What makes one score of the members', if anything.
    """

    lease: Lease
    columns: Columns
    backbones: tuple[str, ...]
    start: int
    stop: int
    ensemble: Ensemble | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns what the driver needs to know of each piece."""
        rows = []
        for head, scored in unpack(batch):
            started = time.perf_counter()
            codes, ids = self._with_retries(functools.partial(self._write, head, scored))
            new = {"n_rows": scored.num_rows, "codes": json.dumps(codes), "ids": ids}
            rows.append(head | new | {"commit_s": time.perf_counter() - started})
        return pa.Table.from_pylist(rows, schema=COMMITTED)

    def _write(self, head: Mapping[str, Any], scored: pa.Table) -> tuple[Counter[str], bytes]:
        piece, out = Piece(head["unit"], head["piece"], head["last"]), self.lease.out
        self.lease.confirm()
        if self.start:
            earlier = read_scored(out, replace(piece, scored=self.start))
            for field, column in zip(earlier.schema, earlier.columns, strict=True):
                scored = scored.append_column(field, column)
        if self.stop < len(self.backbones):
            names = [scores_column(i) for i in range(self.stop)]
            write_scored(out, replace(piece, scored=self.stop), scored.select(names))
            return codes_of(scored, self.stop - 1), b""
        rows = finish_rows(scored, self.columns, self.backbones)
        if self.ensemble is not None:
            from tokenfocus_ray.ensemble.apply import merge  # scipy, which few workers need

            rows = merge(self.ensemble, {"the scores": rows})
        whole = write_commit(out, piece, rows, head["positions"], len(self.backbones))
        return count_codes(rows["error_code"]), digests(whole["sample_id"]).tobytes()

    def _with_retries(self, write: Callable[[], Any]) -> Any:
        attempt = 0
        while True:
            try:
                return write()
            except OutputError as error:
                _pause_or_raise(error, attempt)
                attempt += 1


def _pause_or_raise(error: Exception, attempt: int) -> None:
    decision = decide(error, attempt)
    if decision.action is not Action.RETRY:
        raise error
    logger.warning("%s; %s; again", error, decision.reason)
    time.sleep(decision.delay * random.uniform(0.5, 1.5))
