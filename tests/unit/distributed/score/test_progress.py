"""How fast a launch is: its start is no part of it."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.clock import Clock
from tokenfocus_ray.distributed.score.progress import progress_of
from tokenfocus_ray.progress import Pace


def test_an_eta_comes_with_the_pieces_after_the_first_of_each_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two workers load for a minute, and then hand in two pieces of 4 rows every 10 seconds."""
    clock, pace, etas = Clock(monkeypatch), Pace(workers=2), []
    for seconds in (60, 0, 10, 0, 10, 0):
        clock.now += seconds
        pace.count(Counter(ok=3, image_corrupt=1))
        etas.append(progress_of(pace, 40, 40 - pace.codes.total(), "").eta)
    # 0.8 rows/s; the third and the fifth piece came before their fellows
    assert etas == [None, None, 28 / 0.4, 24 / 0.8, 20 / 0.6, 16 / 0.8]
    assert pace.rate() == 20 / 20


def test_pieces_that_come_at_once_tell_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pace = Clock(monkeypatch), Pace(workers=1)
    for _ in range(3):
        clock.now += 0.1
        pace.count(Counter(ok=100))
    assert pace.steady() is None


def test_rows_of_earlier_launches_count_as_done() -> None:
    pace = Pace(workers=1)
    pace.count(Counter(ok=5))
    found = progress_of(pace, 100, 35, "qwen")
    assert (found.done, found.total, found.new, found.part) == (65, 100, 5, "qwen")
    assert progress_of(pace, None, 0, "").done == 5
