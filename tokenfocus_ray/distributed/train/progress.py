"""Where a training stands, from what its members record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokenfocus_ray.distributed.train.member_job import MemberJob
from tokenfocus_ray.progress import (
    LEAST_SECONDS,
    MemberProgress,
    MemberState,
    Progress,
    Watch,
)
from tokenfocus_ray.training.validation import CRITERIA


@dataclass(frozen=True, slots=True)
class _First:
    """The first step of this launch that was seen: what came before is the start's time.

    Attributes:
        step: Its number.
        seconds: Spent on it and all before, by its record.
        at: When it was seen.
    """

    step: int
    seconds: float
    at: float


class Standings:
    """Every member's progress.

    Args:
        jobs: Of all members.
        watch: Is told of each change.
    """

    def __init__(self, jobs: Sequence[MemberJob], watch: Watch) -> None:
        self._watch = watch
        self._members = {job.name: _waiting(job) for job in jobs}
        self._first: dict[str, _First] = {}

    def enter(self, name: str, state: MemberState, step: int | None = None) -> None:
        """Notes that something else is being done with a member.

        Args:
            name: Of the member.
            state: What.
            step: Steps that are done, where that is news.
        """
        member = self._members[name]
        step = member.step if step is None else step
        n_steps = step if state == "finished" else member.n_steps
        self._tell(replace(member, state=state, step=step, n_steps=n_steps, eta=None))

    def note(self, name: str, records: Sequence[Mapping[str, Any]], criterion: str) -> None:
        """Notes new records of a member's metrics: each epoch's end, else the latest step.

        Args:
            name: Of the member.
            records: In order, at least one.
            criterion: What chooses its best epoch.
        """
        now = time.monotonic()
        first = _First(records[0]["step"], records[0]["seconds"], now)
        first = self._first.setdefault(name, first)
        for record in [r for r in records if "validation_srcc" in r] or records[-1:]:
            member = replace(self._members[name], step=record["step"], loss=record["loss"])
            if (value := record.get(f"validation_{criterion}")) is not None:
                member = replace(member, value=value, measured=member.step)
            if (more := member.step - first.step) > 0:
                member = replace(member, step_seconds=(record["seconds"] - first.seconds) / more)
                if now - first.at > LEAST_SECONDS:
                    each = (now - first.at) / more  # validation and checkpoints included
                    member = replace(member, eta=each * (member.n_steps - member.step))
            self._tell(member)

    def _tell(self, member: MemberProgress) -> None:
        self._members[member.name] = member
        self._watch(progress_of(list(self._members.values())))


def _waiting(job: MemberJob) -> MemberProgress:
    figure = CRITERIA[job.selection.criterion]
    return MemberProgress(job.name, job.schedule.n_steps, figure=figure)


def progress_of(members: Sequence[MemberProgress]) -> Progress:
    """Where all of them stand together."""
    done, total = (sum(getattr(m, key) for m in members) for key in ("step", "n_steps"))
    running = [m for m in members if m.state == "running" and m.step < m.n_steps]
    paces = [m.eta / (m.n_steps - m.step) for m in running if m.eta]
    # those that are still to come take the places of those that end
    rate = sum(1 / pace for pace in paces) if paces and len(paces) == len(running) else None
    eta = None if rate is None else (total - done) / rate
    return Progress("training", done, total, "steps", rate=rate, eta=eta, members=tuple(members))
