"""The demo's order of things, and what of it is shown."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tokenfocus_ray
from tokenfocus_ray import demo as figures
from tokenfocus_ray.cli import demo
from tokenfocus_ray.progress import Progress


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done; nothing is scored or trained."""
    done: list[str] = []

    def score_manifest(test: str, out: str, *_: Any, say: Any, progress: Any, **__: Any) -> Any:
        done.append(f"score {Path(out).name}")
        progress(Progress("scoring", 1, 2, new=1))
        say("said on the way")
        return SimpleNamespace(line=lambda: f"rows=2 out={out}")

    def train_members(config: Any, out: str, say: Any, progress: Any) -> Any:
        done.append(f"train {Path(out).name}")
        return SimpleNamespace(members=[], line=lambda: f"members=0 out={out}")

    @contextlib.contextmanager
    def session(**_: Any) -> Iterator[None]:
        done.append("session")
        yield
        done.append("end of the session")

    def outcome(name: str) -> Any:
        def made(*_: Any, **__: Any) -> Any:
            done.append(name)
            return SimpleNamespace(line=lambda: f"{name} is made")

        return made

    for name in OUTCOMES:
        monkeypatch.setattr(tokenfocus_ray, name, outcome(name))
    bundle = SimpleNamespace(scoring_configs=dict)
    for name, value in {
        "score_manifest": score_manifest, "train_members": train_members, "ray_session": session,
        "Ensemble": SimpleNamespace(load=lambda _: bundle),
    }.items():  # fmt: skip
        monkeypatch.setattr(tokenfocus_ray, name, value)
    monkeypatch.setattr(demo, "fit_and_print", lambda *_, **__: done.append("stack"))
    monkeypatch.setattr(demo, "evaluate_and_print", lambda *_, **__: print("a table"))
    monkeypatch.setattr(figures, "measure_demo", lambda *_: {"figure": 1})
    monkeypatch.setattr(demo, "_print", lambda *_: None)
    return done


OUTCOMES = (
    "import_manifest", "make_elements", "plan_scoring", "select_scores", "export_pairs",
    "write_submission", "write_report",
)  # fmt: skip
ORDER = [
    "session", "score zero-shot", "train training", "stack", "score ensemble", *OUTCOMES,
    "end of the session",
]  # fmt: skip


def test_steps(steps: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    demo.demo(str(out), samples=24)
    assert steps == ORDER
    lines = capfd.readouterr().out.splitlines()
    assert lines.count("said on the way") == 2
    assert "a table" in lines
    assert "report: write_report is made" in lines
    assert lines[-1] == f"report:   {out}/outcomes/report.html"
    assert json.loads((out / "metrics.json").read_text()) == {"figure": 1}


def test_quietly(steps: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    demo.demo(str(out), samples=24, quiet=True)
    assert steps == ORDER
    assert capfd.readouterr() == (f"report:   {out}/outcomes/report.html\n", "")
