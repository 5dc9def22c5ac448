"""Launches that race for one output folder, without Ray: each row once, one launch at a time."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokenfocus_ray.datasets.units import UNIT_ROWS, Unit
from tokenfocus_ray.distributed import holders, lease
from tokenfocus_ray.distributed.layout import LEASE
from tokenfocus_ray.distributed.score.commits import JOB_FILE, Piece, write_commit
from tokenfocus_ray.distributed.score.ids import digests
from tokenfocus_ray.distributed.score.ledger import Ledger
from tokenfocus_ray.distributed.score.publish import publish
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.wire import rows_to_table
from tokenfocus_ray.storage import Store

#: Each a part of two pieces of two rows.
UNITS = tuple(Unit(i, f"{i}.parquet", (0,), 0, UNIT_ROWS, ".") for i in range(2))
PIECES, ROWS = 2, 2


class Killed(BaseException):
    """What ends a launch that was killed: its lease stays behind."""


class Race:
    """Some launches of one job.

    Attributes:
        commits: How often each piece was scored.
    """

    def __init__(self, store: Store, seed: int, deaths: float) -> None:
        self.store, self.seed, self.deaths = store, seed, deaths
        self.commits: Counter[tuple[int, int]] = Counter()
        self.faults: list[BaseException] = []
        self._inside: list[int] = []

    def run(self, launches: int) -> None:
        """Until every launch has seen the job finished."""
        start = threading.Barrier(launches)
        threads = [
            threading.Thread(target=self._launch, args=(i, start), daemon=True)
            for i in range(launches)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
        assert not self.faults, (self.seed, self.faults)
        assert not any(thread.is_alive() for thread in threads), self.seed

    def check(self) -> None:
        """Each row is there once, and none was scored twice; no lease is left."""
        names = [name for name in self.store.names() if name.endswith(".parquet")]
        found = []
        for name in names:
            found += pq.read_table(pa.BufferReader(self.store.read_bytes(name))).to_pylist()
        expected = [i for u in UNITS for p in range(PIECES) for i in ids(u.number, p)]
        assert [row["sample_id"] for row in found] == expected, self.seed
        assert {row["status"] for row in found} == {"ok"}, self.seed
        assert set(self.commits.values()) == {1}, self.seed
        assert self.store.names(LEASE) == [], self.seed

    def _launch(self, number: int, start: threading.Barrier) -> None:
        points = random.Random(self.seed * 100 + number)
        try:
            start.wait()
            while True:
                try:
                    with lease.hold(self.store, "score", str) as mine, self._alone(number):
                        self._work(mine, points)
                        return
                except OutputError as error:
                    refused = "is being written by another launch" in str(error)
                except Killed:
                    refused = True
                assert refused
                time.sleep(points.uniform(0, 0.02))
        except BaseException as fault:
            self.faults.append(fault)

    @contextmanager
    def _alone(self, number: int) -> Iterator[None]:
        self._inside.append(number)
        assert self._inside == [number]
        try:
            yield
        finally:
            assert self._inside == [number]
            self._inside.remove(number)

    def _work(self, mine: lease.Lease, points: random.Random) -> None:
        mine.confirm()
        if not self.store.exists(JOB_FILE):
            self.store.write_json(JOB_FILE, {})
        ledger = Ledger(self.store, UNITS)
        for unit in ledger.pending():
            for number in set(range(PIECES)) - set(ledger.states[unit.number].pieces):
                self._perhaps_die(points)
                mine.confirm()
                self.commits[unit.number, number] += 1
                table = scored(unit.number, number)
                piece = Piece(unit.number, number, number == PIECES - 1)
                write_commit(self.store, piece, table, None)
                ledger.add(piece, digests(table["sample_id"]).tobytes())
        while ready := ledger.next_part():
            self._perhaps_die(points)
            mine.confirm()
            publish(self.store, ready[0], ledger.pieces_of(ready[0]), ready[1])
            ledger.forget(ready[0])

    def _perhaps_die(self, points: random.Random) -> None:
        time.sleep(points.uniform(0, 0.002))
        if points.random() < self.deaths:
            _DYING.now = True
            raise Killed


_DYING = threading.local()


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses; a launch that was killed forgets its lease rather than gives it up."""
    monkeypatch.setattr(lease, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no machine dies here
    withdraw = lease._release

    def unless_dying(folder: Store, name: str) -> None:
        if getattr(_DYING, "now", False):
            _DYING.now = False
            holders.OWN_LEASES.discard(name)
        else:
            withdraw(folder, name)

    monkeypatch.setattr(lease, "_release", unless_dying)


def ids(unit: int, piece: int) -> list[str]:
    """Of the rows of a piece."""
    return [f"{unit}.{piece}.{row}" for row in range(ROWS)]


def scored(unit: int, piece: int) -> pa.Table:
    """Its rows."""
    rows: list[Any] = [ScoreRow(i, "ok", score=2.5) for i in ids(unit, piece)]
    return rows_to_table(rows)
