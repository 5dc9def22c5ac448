"""Where a job stands, for whoever shows it: lines, a terminal, a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

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
