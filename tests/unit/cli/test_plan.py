"""What `tokenfocus plan` prints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from tokenfocus_ray.cli.app import app
from tokenfocus_ray.plan.measure import Feeding


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Three rows, one without its image; one core prepares 100 images/s."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    rows = [{"image_uri": uri, "prompt": "a cat"} for uri in ("a.png", "a.png", "none.png")]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    feeding = Feeding(0.01, 2, "a machine")
    monkeypatch.setattr("tokenfocus_ray.plan.scoring.measure_feeding", lambda *_: feeding)
    return str(tmp_path / "m.jsonl")


def planned(*arguments: str) -> str:
    options = ["--backbone", "tiny-internvl"]
    result = CliRunner().invoke(app, ["plan", *arguments, *options], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    return re.sub(r"\x1b\[[0-9;]*m", "", result.output)


def cells(output: str) -> dict[str, str]:
    rows = [re.split("[│┃|]", line) for line in output.splitlines()]
    return {row[1].strip(): row[2].strip() for row in rows if len(row) == 4}


def test_table_remarks_and_last_line(manifest: str) -> None:
    output = planned(manifest, "--gpu", "L4", "--price", "2", "--gpus", "4", "--cpus", "8")
    first, *_, last = output.splitlines()
    assert first == "looking at 3 rows"
    table = cells(output)
    assert table["weights"] == "1,518,464 values, bfloat16"
    assert table["members"] == "1"
    assert table["rows that can be scored"] == "66.7%"
    assert table["efficiency"] == "assumed, 0.2 .. 0.5 of the peak"
    assert table["one CPU core prepares"] == "100 images/s"
    assert {"hours on 4 GPUs", "cost at 2 an hour", "GPU at work with 8 cores"} <= set(table)
    lines = [line for line in output.splitlines() if line.startswith("- ")]
    assert lines[:4] == [
        "- from 3 rows, drawn by a fixed seed from 1 of 1 pieces of the manifest; 3 images were "
        "opened",
        "- tiny-internvl: rows of the sample that cannot be scored: image_missing 1",
        "- tiny-internvl: decoding and resizing was timed on 2 images here (a machine); fetching "
        "them is not in it",
        "- tiny-internvl: the efficiency is an assumption, not measured: docs/planning.md",
    ]
    names = [word.partition("=")[0] for word in last.split()]
    assert names == [
        "rows", "tokens", "flops", "gpu", "fits", "memory_gib", "gpu_hours", "wall_hours", "cost",
        "cpus_per_gpu",
    ]  # fmt: skip


def test_a_card_that_is_too_small(manifest: str) -> None:
    output = planned(manifest, "--gpu", "own=1:0.001")
    table = cells(output)
    assert (table["GPU-hours"], table["one GPU scores"]) == ("-", "-")
    assert table["memory, own has 0.001 GiB"].endswith(" at the least), does not fit")
    assert "- tiny-internvl does not fit: a scorer needs 0.00" in output
    assert " fits=no " in output.splitlines()[-1]


def test_quiet_and_json(manifest: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    output = planned(manifest, "--gpu", "L4", "--quiet", "--json", str(path))
    assert len(output.splitlines()) == 1
    assert json.loads(path.read_text())["rows"] == 3


def test_nothing_can_be_scored(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"image_uri": "none.png", "prompt": "x"}\n')
    table = cells(planned(str(tmp_path / "m.jsonl"), "--gpu", "L4", "--price", "1"))
    assert {table[name] for name in ("operations an image", "GPU-hours", "cost at 1 an hour")} == {
        "-"
    }
