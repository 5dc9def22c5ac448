"""Rows that kill the process that works on them are given up after a few tries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from tokenfocus_ray.errors import JobError

#: Times that a piece is tried as a whole.
MAX_TRIES = 2
#: Processes in a row that leave a broken device before the job ends.
MAX_LEFT = 4


@ray.remote(num_cpus=0, max_restarts=-1)
class Attempts:
    """Counts how often rows were begun, which outlives the processes that work on them."""

    def __init__(self) -> None:
        """Nothing was begun."""
        self._begun: Counter[tuple[int, ...]] = Counter()

    def begin(self, *key: int) -> int:
        """Counts one more; returns how many there are."""
        self._begun[key] += 1
        return self._begun[key]

    def end(self, *key: int) -> None:
        """Forgets what has come to its end, and what is below it."""
        for known in [k for k in self._begun if k[: len(key)] == key]:
            del self._begun[known]


@dataclass(frozen=True, slots=True)
class Guard:
    """Keeps a row that kills its process from being tried for ever.

    Ray starts another process and hands it the rows again, however often. From the third time on
    each is tried alone, and one that was tried alone before leaves unscored.

    Attributes:
        stage: Tells one stage's counts from another's.
        attempts: Handle of :class:`Attempts`.
    """

    stage: int
    attempts: Any

    def __call__(
        self,
        head: Mapping[str, Any],
        table: pa.Table,
        work: Callable[[pa.Table], pa.Table],
        mark: Callable[[pa.Table], pa.Table],
    ) -> pa.Table:
        """Works on a piece.

        Args:
            head: Of the piece.
            table: Its rows.
            work: On some rows.
            mark: Makes rows unscored, without looking at them.
        """
        piece = (self.stage, head["unit"], head["piece"])
        if self._begin(*piece) <= MAX_TRIES:
            done = work(table)
        else:
            rows = []
            for i in range(table.num_rows):
                row = table.slice(i, 1)
                if self._begin(*piece, i) > 1:
                    rows.append(mark(row))
                    continue
                rows.append(work(row))
                self._end(*piece, i)
            done = pa.concat_tables(rows)
        self._end(*piece)
        self._end(-1, self.stage)
        return done

    def take_back_tries(self, head: Mapping[str, Any], cause: str) -> None:
        """Takes a piece's tries back, for a process that ends itself through no fault of its rows.

        Args:
            head: Of the piece.
            cause: Why the process ends.

        Raises:
            JobError: processes ended so several times, and not one piece was done between.
        """
        self._end(self.stage, head["unit"], head["piece"])
        count = self._begin(-1, self.stage)
        if count >= MAX_LEFT:
            raise JobError(
                f"the device failed {count} times in a row: {cause}. What is committed is kept; "
                f"check the device and its driver, and launch the same command again"
            )

    def _begin(self, *key: int) -> int:
        try:
            return int(ray.get(self.attempts.begin.remote(*key)))
        except ray.exceptions.RayActorError:  # it was on a node that died: it starts counting anew
            return 1

    def _end(self, *key: int) -> None:
        with suppress(ray.exceptions.RayActorError):
            ray.get(self.attempts.end.remote(*key))  # waited for, since this process may die next
