"""The report's options reach the verb, and its last line comes back."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

import tokenfocus_ray
from tokenfocus_ray.cli.app import app
from tokenfocus_ray.distributed.report.job import ReportSummary


def test_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def write_report(scores: str, out: str, **given: Any) -> ReportSummary:
        seen.update(scores=scores, out=out, **given)
        given["say"]("the page will have no images: why")
        return ReportSummary(out, 9, 8, 7, 6, 5_000, 1.25)

    monkeypatch.setattr(tokenfocus_ray, "write_report", write_report)
    monkeypatch.setenv("HOME", "/home/me")
    arguments = ["report", "~/scores", "--out", "page.html", "--labels", "l.json", "--against", "b"]
    arguments += ["--manifest", "m1", "--manifest", "m2", "--images", "i", "--map", "seed=n"]
    result = CliRunner().invoke(app, [*arguments, "--dependencies"])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "the page will have no images: why",
        "rows=9 scored=8 unscored=1 shown=7 images=6 bytes=5000 seconds=1.2 out=page.html",
    ]
    assert {name: value for name, value in seen.items() if name not in ("say", "progress")} == {
        "scores": "/home/me/scores", "out": "page.html", "labels": "l.json", "against": "b",
        "manifests": ["m1", "m2"], "images": "i", "mapping": {"seed": "n"}, "dependencies": True,
    }  # fmt: skip
