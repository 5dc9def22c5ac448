"""How fast a launch is, how long it will take, and how a line says so."""

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


def line_of(progress: Progress) -> str:
    """Where scoring stands, in a line.

    >>> line_of(Progress("scoring", 30, 90, new=20, rate=2.0, eta=30.0, codes={"ok": 20}))
    '20 rows in this launch, 2.0 rows/s, 2.0 images/s, 60 of 90 left, about 0.5 min'
    """
    text = f"{progress.new:,} rows in this launch"
    if progress.rate is not None:
        no_image = sum(n for c, n in progress.codes.items() if c.startswith("image_"))
        images = progress.rate * (progress.new - no_image) / progress.new if progress.new else 0.0
        text += f", {progress.rate:.1f} rows/s, {images:.1f} images/s"
    if progress.part:
        text = f"{progress.part}: {text}"
    if progress.total is not None:
        text += f", {progress.total - progress.done:,} of {progress.total:,} left"
    if progress.eta is not None:
        text += f", about {progress.eta / 60:.1f} min"
    bad = ", ".join(f"{code} {n}" for code, n in progress.unscored.items())
    return text + (f"; unscored: {bad}" if bad else "")
