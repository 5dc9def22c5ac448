"""Where a training stands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.clock import Clock
from tokenfocus_ray.distributed.train.progress import Standings
from tokenfocus_ray.progress import Progress


def job(name: str) -> Any:
    return SimpleNamespace(
        name=name, schedule=SimpleNamespace(n_steps=20), selection=SimpleNamespace(criterion="srcc")
    )


def record(step: int, seconds: float, srcc: float | None = None) -> dict[str, Any]:
    found = {"step": step, "loss": 2 / step, "seconds": seconds}
    return found if srcc is None else found | {"validation_srcc": srcc}


def test_members_and_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step is a member's start: neither its pace nor its ETA knows it."""
    clock, told = Clock(monkeypatch), list[Progress]()
    standings = Standings([job("a"), job("b")], told.append)
    standings.enter("a", "running", 0)
    standings.note("a", [record(1, 30.0)], "srcc")
    assert (told[-1].eta, told[-1].rate) == (None, None)
    clock.now += 8
    standings.note("a", [record(3, 31.0), record(5, 32.0, 0.25)], "srcc")
    (a, b) = told[-1].members
    assert (a.state, a.step, a.loss, a.value, a.step_seconds, a.eta) == (
        "running", 5, 0.4, 0.25, 0.5, 30.0,
    )  # fmt: skip
    assert (b.state, b.step, b.loss, b.eta) == ("waiting", 0, None, None)
    assert (told[-1].stage, told[-1].done, told[-1].total, told[-1].unit) == (
        "training", 5, 40, "steps",
    )  # fmt: skip
    assert (told[-1].rate, told[-1].eta) == (0.5, 70.0)
    clock.now += 2
    standings.note("a", [record(6, 32.5)], "srcc")
    standings.enter("a", "finished", 10)  # it stopped early
    standings.enter("b", "failed")
    assert [(m.state, m.step, m.n_steps, m.eta) for m in told[-1].members] == [
        ("finished", 10, 10, None), ("failed", 0, 20, None),
    ]  # fmt: skip
