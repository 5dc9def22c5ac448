"""The README's examples run as they stand there."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
from PIL import Image

from tokenfocus_ray import ScoreRow

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat.png", "a.png", "b.png"):
        Image.new("RGB", (40, 30), "orange").save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    scope: dict[str, Any] = {}
    exec(example, scope)
    (row,) = scope["rows"]
    assert isinstance(row, ScoreRow)
    assert 1 <= row.score <= 5
    assert len(row.element_scores) == 3
    matrix = scope["scorer"](images=["a.png", "missing.png"], texts=["a cat", "a dog"])
    assert tuple(matrix.shape) == (2, 2)
    assert [math.isnan(v) for v in matrix.flatten().tolist()] == [False, False, True, True]


@pytest.mark.timeout(900)
def test_commands(tmp_path: Path) -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    commands = [line.split() for line in lines if line.startswith(".venv/bin/tokenfocus")]
    assert [c[1] for c in commands] == [
        "data", "score", "evaluate", "train", "train", "stack", "score", "evaluate", "select",
        "pairs", "report",
    ]  # fmt: skip
    # on the session that is there: starting one is what tests/integration/test_terminal.py does
    address = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    environment = os.environ | address | {"PYTHONPATH": str(ROOT)}
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    outputs = []
    for _, *arguments in commands:
        done = subprocess.run(
            [sys.executable, "-m", "tokenfocus_ray.cli.app", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        outputs.append(done.stdout)
    assert outputs[0].strip() == "train=180 test=60 out=runs/shapes"
    last = outputs[1].strip().splitlines()[-1]
    assert re.fullmatch(
        r"rows=60 scored=60 unscored=0 seconds=[\d.]+ out=runs/shapes-scores", last
    ), last
    assert "SRCC" in outputs[2]
    assert "2 members" in outputs[3]
    last = outputs[4].strip().splitlines()[-1]
    assert re.fullmatch(
        r"members=2 skipped=0 gpu_hours=0.00 seconds=[\d.]+ out=.*/runs/members", last
    ), last
    assert "180 rows, 30 groups, 2 columns" in outputs[5]
    last = outputs[6].strip().splitlines()[-1]
    assert last.startswith("rows=60 scored=60 unscored=0 "), last
    assert "coverage of intervals" in outputs[7]
    assert len(list((tmp_path / "runs" / "plots").glob("*.png"))) == 4
