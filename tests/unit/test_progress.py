"""Where a job stands, and the lines that say so."""

from __future__ import annotations

import pytest

from tokenfocus_ray import progress
from tokenfocus_ray.progress import Progress, every_line


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


def test_rows_with_and_without_a_score() -> None:
    found = Progress("scoring", codes={"prompt_empty": 1, "ok": 7, "image_corrupt": 2})
    assert found.scored == 7
    assert found.unscored == {"image_corrupt": 2, "prompt_empty": 1}
    assert Progress("scoring").scored == 0


def test_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = Clock(monkeypatch), list[str]()
    watch = every_line(said.append, lambda p: f"{p.new} rows")
    for seconds, new in ((11, 0), (0, 2), (9, 4), (2, 6), (1, 8), (10, 10)):
        clock.now += seconds
        watch(Progress("scoring", new, 20, new=new))
    assert said == ["2 rows", "6 rows", "10 rows"]
    assert progress.LINE_SECONDS == 10
