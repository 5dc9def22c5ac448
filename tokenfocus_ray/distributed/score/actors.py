"""The actor that holds a scorer, and what it tells Ray's metrics."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from tokenfocus_ray.distributed.ray_errors import user_error_in
from tokenfocus_ray.distributed.score.failures import Action, decide
from tokenfocus_ray.distributed.score.guard import Guard
from tokenfocus_ray.distributed.score.pieces import codes_of, pack, unpack
from tokenfocus_ray.errors import UserError
from tokenfocus_ray.scoring.stage import ScoreStage
from tokenfocus_ray.scoring.wire import DIED, with_errors

logger = logging.getLogger(__name__)


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
        self._head: dict[str, Any] = {}
        self._metrics = _Metrics(name)
        self._refusal: UserError | None = None
        try:
            self._stage = functools.partial(make(), backbone=index)
        except Exception as error:
            # of an actor that cannot start the driver hears text only, and tries another
            self._refusal = user_error_in(error)
            if self._refusal is None:
                raise

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yields one piece at a time."""
        if self._refusal is not None:
            raise self._refusal
        for head, table in unpack(batch):
            started, self._head = time.perf_counter(), head
            scored = self._guard(head, table, self._scored, self._died)
            seconds = time.perf_counter() - started
            self._metrics.count(codes_of(scored, self._index), seconds)
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
                self._guard.take_back_tries(self._head, f"{type(error).__name__}: {error}")
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
        if set(codes_of(scored, self._index)) == {"scoring_failed"}:
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
