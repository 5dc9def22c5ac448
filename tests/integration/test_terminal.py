"""A person's terminal: one display, no line of Ray's, one line at the end, also after Ctrl-C."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.terminals import Typed, in_terminal

ROWS = 12
#: What Ray says, wherever it goes: its own lines begin with a time, its C++'s with a bracket.
RAYS = re.compile(r"core_worker|WARNING|INFO|Progress bars|Token authentication|https://")


@pytest.fixture
def folder(benchmark_folder: Path, tmp_path: Path) -> Path:
    rows = pq.read_table(benchmark_folder / "train.parquet").slice(0, ROWS)
    pq.write_table(rows, tmp_path / "rows.parquet")
    (tmp_path / "score.yaml").write_text("backbone: tiny-qwen2_5_vl\njob: {commit_rows: 1}\n")
    return tmp_path


def score(folder: Path, images: Path) -> AbstractContextManager[Typed]:
    command = ["-m", "tests.support.slow", "score", "rows.parquet", "--out", "out"]
    options = ["--config", "score.yaml", "--images", str(images)]
    return in_terminal([*command, *options], folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_person_looks_on_stops_it_and_goes_on(folder: Path, benchmark_folder: Path) -> None:
    with score(folder, benchmark_folder) as typed:
        typed.wait_for(r"ETA 0:\d\d:\d\d", 300)
        (bar,) = [line for line in typed.screen if line.startswith("scoring")]
        assert re.fullmatch(
            rf"scoring +[━╸╺]+ +\d+/{ROWS} rows +[\d.]+ rows/s +ETA [-\d]:[-\d]+:[-\d]+", bar
        )
        assert any(re.match(r"\d+ scored, 0 unscored", line) for line in typed.screen)
        typed.type("\x03")
        assert typed.end(300) == 130, typed.screen
        assert typed.screen == ["stopped; launch the same command again to go on"]
        assert not RAYS.search(typed.text)
        assert "\x1b[?25l" not in typed.text  # a cursor that is hidden may stay so

    with score(folder, benchmark_folder) as typed:
        assert typed.end(300) == 0, typed.screen
        there, last = typed.screen
        found = re.fullmatch(rf"(\d+) of {ROWS} rows are there already", there)
        assert found
        assert 2 <= int(found[1]) < ROWS
        assert re.fullmatch(rf"rows={ROWS} scored={ROWS} unscored=0 seconds=[\d.]+ out=out", last)
        assert not RAYS.search(typed.text)

    logs = sorted((folder / "out" / "__job" / "log").iterdir())
    assert [path.name for path in logs] == ["1.txt", "2.txt"]
    for path in logs:
        assert "core_worker.cc" in path.read_text()
