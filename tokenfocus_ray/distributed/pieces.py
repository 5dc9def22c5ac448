"""The batch job's stages over pieces: runs of rows that are read, scored and committed together.

For Ray Data a piece is one row whose ``table`` holds the samples as an Arrow stream. However Ray
merges or splits blocks, a piece stays whole, and with it what is committed at once.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.datasets.sources import Source, Unit, read_unit
from tokenfocus_ray.distributed.commits import (
    Piece,
    read_scored,
    retried_positions,
    write_commit,
    write_scored,
)
from tokenfocus_ray.distributed.failures import Action, decide
from tokenfocus_ray.distributed.finish import finish
from tokenfocus_ray.distributed.guard import Guard
from tokenfocus_ray.distributed.ledger import UnitState, digests
from tokenfocus_ray.distributed.stages import (
    DIED,
    PrepareStage,
    ScoreStage,
    scores_column,
    structs,
    with_errors,
)
from tokenfocus_ray.errors import ManifestError, OutputError
from tokenfocus_ray.storage import Store

logger = logging.getLogger(__name__)

#: Logical CPUs of a task.
READ_CPUS, PREPARE_CPUS, COMMIT_CPUS = 0.25, 1.0, 0.25
#: Images fetched from an object store at a time by one task: most of that is waiting.
FETCHES = 16
#: What the stages hand on, but ``table``, in which each puts its own result.
_HEAD: dict[str, pa.DataType] = {
    "unit": pa.int32(),
    "piece": pa.int32(),
    "last": pa.bool_(),
    "positions": pa.list_(pa.int32()),
    "base": pa.string(),
    "read_s": pa.float64(),
    "prepare_s": pa.float64(),
    "score_s": pa.list_(pa.float64()),  # of each backbone
}
_PIECE: dict[str, pa.DataType] = {**_HEAD, "table": pa.large_binary()}
PIECE = pa.schema(_PIECE)
#: What the driver hears of a piece once it is written.
_COMMITTED: dict[str, pa.DataType] = {
    **_HEAD,
    "commit_s": pa.float64(),
    "n_rows": pa.int32(),
    "codes": pa.string(),
    "ids": pa.binary(),
}
COMMITTED = pa.schema(_COMMITTED)
_UNIT_COLUMNS: dict[str, pa.DataType] = {
    "number": pa.int32(),
    "uri": pa.string(),
    "groups": pa.list_(pa.int32()),
    "start": pa.int64(),
    "n_rows": pa.int64(),
    "base": pa.string(),
    "done": pa.list_(pa.int32()),
    "kept": pa.list_(pa.int32()),
}
_UNIT = pa.schema(_UNIT_COLUMNS)


def unit_table(unit: Unit, state: UnitState, backbones: int | None = None) -> pa.Table:
    """A unit with what is done of it: one row, the input of :class:`ReadPieces`.

    Args:
        unit: Which.
        state: What is done.
        backbones: How many of several are to score in this pass and before; None: all.
    """
    row = {name: getattr(unit, name) for name in Unit.__slots__}
    done = {"done": sorted(state.done(backbones)), "kept": sorted(state.kept)}
    return pa.Table.from_pylist([row | done], schema=_UNIT)


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
                for table in itertools.islice(read_unit(self.source, unit, self.rows), done, None):
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
        if kept:
            positions = retried_positions(self.out, Piece(unit.number, piece, last))
            table = table.take(pa.array(positions, pa.int64()))
        head = {
            "unit": unit.number,
            "piece": piece,
            "last": last,
            "positions": positions,
            "base": unit.base,
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
        broken = (
            table["tokenfocus_shard_error"]
            if "tokenfocus_shard_error" in table.column_names
            else None
        )
        table = self.guard(head, table, functools.partial(_prepared, prepare), prepare.unread)
        if broken is not None:
            for i in prepare.image_specs:
                table = with_errors(table, i, "source_corrupt", broken)
            table = table.drop_columns(["tokenfocus_shard_error"])
        return head | {"prepare_s": time.perf_counter() - started}, table


def _prepared(prepare: PrepareStage, table: pa.Table) -> pa.Table:
    if not _is_remote(prepare, table):
        return prepare(table)
    with ThreadPoolExecutor(FETCHES) as pool:
        rows = (table.slice(i, 1) for i in range(table.num_rows))
        return pa.concat_tables(pool.map(prepare, rows))


def _is_remote(prepare: PrepareStage, table: pa.Table) -> bool:
    """Whether images are to be fetched from an object store."""
    column = prepare.columns.image_uri
    if prepare.columns.image is not None or column is None or table.num_rows < 2:
        return False
    if prepare.base.startswith("s3://"):
        return True
    given: list[Any] = table[column].to_pylist()
    return any(str(uri).startswith("s3://") for uri in given)


class ScorePieces:
    """An actor that scores pieces."""

    def __init__(self, name: str, index: int, make: Callable[[], ScoreStage], guard: Guard) -> None:
        """Loads the scorer.

        Args:
            name: Of the backbone.
            index: Its place among several.
            make: Makes the stage; runs in the actor.
            guard: Against rows that kill the process.
        """
        self._index, self._guard = index, guard
        self._stage = functools.partial(make(), backbone=index)
        self._head: dict[str, Any] = {}
        self._metrics = _Metrics(name)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yields one piece at a time."""
        for head, table in unpack(batch):
            started, self._head = time.perf_counter(), head
            scored = self._guard(head, table, self._scored, self._died)
            seconds = time.perf_counter() - started
            self._metrics.count(_codes(scored, self._index), seconds)
            yield pack(head | {"score_s": [*head["score_s"], seconds]}, scored)

    def _died(self, table: pa.Table) -> pa.Table:
        return self._stage(with_errors(table, self._index, "process_died", DIED))

    def _scored(self, table: pa.Table) -> pa.Table:
        try:
            return self._stage(table)
        except Exception as error:
            decision = decide(error, 0, rows=table.num_rows)
            logger.warning("%d rows: %s; %s", table.num_rows, decision.reason, error)
            if decision.action is Action.LEAVE:
                self._guard.spare(self._head, f"{type(error).__name__}: {error}")
                logging.shutdown()
                os._exit(1)  # not sys.exit, which a broken device can hang
            if decision.action is Action.MARK:
                message = f"{type(error).__name__}: {error}"[:500]
                return self._stage(with_errors(table, self._index, "scoring_failed", message))
            if decision.action is not Action.ISOLATE:
                raise
            first = error
        each = [self._scored(table.slice(i, 1)) for i in range(table.num_rows)]
        scored = pa.concat_tables(each)
        if set(_codes(scored, self._index)) == {"scoring_failed"}:
            raise first  # not the rows' fault
        return scored


class _Metrics:
    """What Prometheus collects from the actors, through Ray."""

    def __init__(self, backbone: str) -> None:
        from ray.util.metrics import Counter as Metric

        about = "Rows by backbone and error code, 'ok' where scored."
        self._rows = Metric("tokenfocus_rows", about, tag_keys=("backbone", "code"))
        self._seconds = Metric(
            "tokenfocus_score_seconds", "Time in the scorer.", tag_keys=("backbone",)
        )
        for metric in (self._rows, self._seconds):
            metric.set_default_tags({"backbone": backbone})

    def count(self, codes: Mapping[str, int], seconds: float) -> None:
        """Adds a piece."""
        for code, n in codes.items():
            self._rows.inc(n, {"code": code})
        if seconds > 0:
            self._seconds.inc(seconds)


def _codes(scored: pa.Table, backbone: int) -> Counter[str]:
    """Number of rows by error code; ``ok`` for those with a score."""
    return _count(structs(scored[scores_column(backbone)]).field("error_code"))


def _count(codes: Any) -> Counter[str]:
    return Counter(code or "ok" for code in codes.to_pylist())


@dataclass(frozen=True, slots=True)
class CommitPieces:
    """Writes pieces.

    Attributes:
        out: The output folder.
        columns: Which column is what.
        backbones: Names of all of them.
        start: Number of backbones that have scored in passes before.
        stop: And with this one; fewer than all: their scores are put aside for the next.
    """

    out: Store
    columns: Columns
    backbones: tuple[str, ...]
    start: int
    stop: int

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns what the driver needs to know of each piece."""
        rows = []
        for head, scored in unpack(batch):
            started = time.perf_counter()
            codes, ids = self._patiently(functools.partial(self._write, head, scored))
            new = {"n_rows": scored.num_rows, "codes": json.dumps(codes), "ids": ids}
            rows.append(head | new | {"commit_s": time.perf_counter() - started})
        return pa.Table.from_pylist(rows, schema=COMMITTED)

    def _write(self, head: Mapping[str, Any], scored: pa.Table) -> tuple[Counter[str], bytes]:
        piece = Piece(head["unit"], head["piece"], head["last"])
        if self.start:
            earlier = read_scored(self.out, replace(piece, scored=self.start))
            for field, column in zip(earlier.schema, earlier.columns, strict=True):
                scored = scored.append_column(field, column)
        if self.stop < len(self.backbones):
            names = [scores_column(i) for i in range(self.stop)]
            write_scored(self.out, replace(piece, scored=self.stop), scored.select(names))
            return _codes(scored, self.stop - 1), b""
        rows = finish(scored, self.columns, self.backbones)
        whole = write_commit(self.out, piece, rows, head["positions"], len(self.backbones))
        return _count(rows["error_code"]), digests(whole["sample_id"]).tobytes()

    def _patiently(self, write: Callable[[], Any]) -> Any:
        for attempt in itertools.count():
            try:
                return write()
            except OutputError as error:
                _pause_or_raise(error, attempt)
        raise AssertionError


def _pause_or_raise(error: Exception, attempt: int) -> None:
    decision = decide(error, attempt)
    if decision.action is not Action.RETRY:
        raise error
    logger.warning("%s; %s; again", error, decision.reason)
    time.sleep(decision.delay * random.uniform(0.5, 1.5))


def pack(head: Mapping[str, Any], table: pa.Table) -> pa.Table:
    """A piece as one row."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    data = sink.getvalue()
    offsets = pa.py_buffer(np.array([0, data.size], np.int64).tobytes())
    column = pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data])  # no copy
    return pa.table({name: [head[name]] for name in _HEAD} | {"table": column}, schema=PIECE)


def unpack(batch: pa.Table) -> Iterator[tuple[dict[str, Any], pa.Table]]:
    """Head and samples of each piece; nothing is copied."""
    heads: Sequence[dict[str, Any]] = batch.select(list(_HEAD)).to_pylist()
    for head, data in zip(heads, batch["table"], strict=True):
        yield head, pa.ipc.open_stream(data.as_buffer()).read_all()


@dataclass(frozen=True, slots=True)
class ScorePool:
    """The actors of one backbone.

    Attributes:
        name: Of the backbone.
        index: Its place among several.
        make: Makes the stage; runs in an actor.
        guard: Against rows that kill the process.
        actors: How many.
        options: What each takes of the cluster.
    """

    name: str
    index: int
    make: Callable[[], ScoreStage]
    guard: Guard
    actors: ray.data.ActorPoolStrategy
    options: Mapping[str, Any]


def piece_pipeline(
    units: Sequence[pa.Table],
    read: ReadPieces,
    prepare: PreparePieces | None,
    pools: Sequence[ScorePool],
    commit: CommitPieces,
) -> ray.data.Dataset:
    """Reading, preparing, scoring and committing as one streaming data set."""
    # different shares of a CPU, so that Ray does not fuse reading with preparing: one unit would
    # then be prepared by one task
    # readers of a manifest without images are light, and Ray would start one a quarter of a CPU
    actors = sum(int(pool.actors.max_size) for pool in pools)
    readers = None if read.prepare else min(actors, len(units))
    dataset = ray.data.from_arrow(list(units)).map_batches(
        _on_arrow(read),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=PREPARE_CPUS if read.prepare else READ_CPUS,
        compute=ray.data.TaskPoolStrategy(readers),
    )
    if prepare is not None:
        dataset = dataset.map_batches(
            _on_arrow(prepare), batch_size=1, batch_format="pyarrow", num_cpus=PREPARE_CPUS
        )
    for pool in pools:
        dataset = dataset.map_batches(
            ScorePieces,
            fn_constructor_args=(pool.name, pool.index, pool.make, pool.guard),
            batch_size=1,
            batch_format="pyarrow",
            compute=pool.actors,
            **pool.options,
        )
    return dataset.map_batches(
        _on_arrow(commit), batch_size=None, batch_format="pyarrow", num_cpus=COMMIT_CPUS
    )


def _on_arrow(stage: Any) -> Any:
    """Ray's types know of batches of any format; ours take Arrow tables only."""
    return stage
