"""How fast a launch is, and how long it will take."""

from __future__ import annotations

import time
from collections import Counter

from tokenfocus_ray.progress import LEAST_SECONDS, Progress


class Pace:
    """Rows of a pass, by code, and how fast they come.

    Args:
        workers: Scorers at work: each loads the backbone, and then hands in its first piece.
    """

    def __init__(self, workers: int) -> None:
        self.codes: Counter[str] = Counter()
        self._workers = workers
        self._times: list[tuple[float, int]] = []  # of the first pieces, a worker each
        self._last = (0.0, 0)

    def count(self, codes: Counter[str]) -> None:
        """Adds a piece that was committed just now."""
        self.codes.update(codes)
        self._last = (time.monotonic(), self.codes.total())
        if len(self._times) < self._workers:
            self._times.append(self._last)

    def rate(self) -> float | None:
        """Rows a second from the first piece on."""
        return self._since(self._times[0], 0.0) if self._times else None

    def steady(self) -> float | None:
        """Rows a second from when all workers have come to work; None until that can be told."""
        if len(self._times) < self._workers:
            return None
        return self._since(self._times[-1], LEAST_SECONDS)

    def _since(self, start: tuple[float, int], least: float) -> float | None:
        seconds, rows = self._last[0] - start[0], self._last[1] - start[1]
        return rows / seconds if rows > 0 and seconds > least else None


def progress_of(pace: Pace, total: int | None, left: int, part: str) -> Progress:
    """Where a pass stands.

    Args:
        pace: Its rows so far.
        total: Rows of the manifest, if known.
        left: Those that are still to be scored.
        part: The backbone, where several score one after another.
    """
    new, rate = pace.codes.total(), pace.steady()
    return Progress(
        "scoring",
        done=new if total is None else total - left,
        total=total,
        part=part,
        new=new,
        rate=rate,
        eta=None if rate is None or total is None else left / rate,
        codes=dict(pace.codes),
    )
