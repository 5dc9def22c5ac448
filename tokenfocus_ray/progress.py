"""Where a job stands, for whoever shows it: lines, a terminal, a notebook."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

#: What training does before it begins: nothing of it is kept.
LOOKING = "looking at the images"
#: Seconds that are too few to tell a rate from: what is done comes in by chance.
LEAST_SECONDS = 1.0

MemberState: TypeAlias = Literal["waiting", "running", "finished", "failed"]


@dataclass(frozen=True, slots=True)
class MemberProgress:
    """Where the training of one member stands.

    Attributes:
        name: Of the member.
        n_steps: The most steps that it takes; it may stop early.
        state: What is being done with it.
        step: Steps that are done.
        loss: Of the latest step that was recorded; None before.
        figure: What is measured on the validation images: ``SRCC``, ``loss``.
        value: Its latest value; None before the first epoch's end.
        measured: The step after which that was.
        step_seconds: Of one step, the first that was recorded left out; None until known.
        eta: Seconds until it is finished, at the most; None until known.
    """

    name: str
    n_steps: int
    state: MemberState = "waiting"
    step: int = 0
    loss: float | None = None
    figure: str = "SRCC"
    value: float | None = None
    measured: int | None = None
    step_seconds: float | None = None
    eta: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands.

    Attributes:
        stage: What is being done.
        part: To what, where it is done to several, one after another.
        done: Number of things done, earlier launches included.
        total: Of how many; None where only reading tells.
        unit: What these are.
        new: How many of ``done`` are of this launch.
        rate: Things a second; None until the first of this launch are done, since a start takes
            its time too.
        eta: Seconds that are left; None until known.
        codes: Rows of this launch by error code, ``ok`` among them.
        members: Of a training, in order.
    """

    stage: str
    done: int = 0
    total: int | None = None
    unit: str = "rows"
    part: str = ""
    new: int = 0
    rate: float | None = None
    eta: float | None = None
    codes: Mapping[str, int] = field(default_factory=dict)
    members: tuple[MemberProgress, ...] = ()

    @property
    def scored(self) -> int:
        """Rows of this launch with a score."""
        return self.codes.get("ok", 0)

    @property
    def unscored(self) -> dict[str, int]:
        """Rows of this launch without, by error code."""
        return {code: n for code, n in sorted(self.codes.items()) if code != "ok"}


#: Is told where a job stands, often: it must return soon.
Watch: TypeAlias = Callable[[Progress], None]


def unwatched(progress: Progress) -> None:
    """Shows nothing."""


class Pace:
    """What is done, by code, and how fast it gets done.

    Args:
        workers: How many are at work: each gets ready, and then hands in its first piece.

    Attributes:
        codes: How much is done, by code.
    """

    def __init__(self, workers: int = 1) -> None:
        self.codes: Counter[str] = Counter()
        self._workers = workers
        self._times: list[tuple[float, int]] = []  # of the first pieces, a worker each
        self._last = (0.0, 0)

    def count(self, codes: Mapping[str, int]) -> None:
        """Adds a piece that was done just now."""
        self.codes.update(codes)
        self._last = (time.monotonic(), self.codes.total())
        if len(self._times) < self._workers:
            self._times.append(self._last)

    def rate(self) -> float | None:
        """Things a second from the first piece on."""
        return self._since(self._times[0], 0.0) if self._times else None

    def steady(self) -> float | None:
        """Things a second from when all workers have come to work; None until that can be told."""
        if len(self._times) < self._workers:
            return None
        return self._since(self._times[-1], LEAST_SECONDS)

    def _since(self, start: tuple[float, int], least: float) -> float | None:
        seconds, rows = self._last[0] - start[0], self._last[1] - start[1]
        return rows / seconds if rows > 0 and seconds > least else None

    def progress(
        self, stage: str, total: int | None, *, unit: str = "rows", part: str = "", there: int = 0
    ) -> Progress:
        """Where a job stands.

        Args:
            stage: See :class:`Progress`.
            total: Likewise.
            unit: Likewise.
            part: Likewise.
            there: How many things earlier launches had done.
        """
        new, rate = self.codes.total(), self.steady()
        eta = None if rate is None or total is None else (total - there - new) / rate
        return Progress(stage, there + new, total, unit, part, new, rate, eta)
