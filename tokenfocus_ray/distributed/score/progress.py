"""How fast a launch is, and how long it will take."""

from __future__ import annotations

import time
from collections import Counter


class Pace:
    """Rows of a pass, by code, and its rate from the first piece on: start-up is left out."""

    def __init__(self, started: float, rows: int) -> None:
        self._started, self._rows = started, rows
        self._last = started
        self.codes: Counter[str] = Counter()

    def count(self, codes: Counter[str]) -> None:
        """Adds a piece that was committed just now."""
        self.codes.update(codes)
        self._last = time.monotonic()

    def rate(self) -> float | None:
        """Rows a second."""
        if self.codes.total() <= self._rows:
            return None
        return (self.codes.total() - self._rows) / (self._last - self._started)
