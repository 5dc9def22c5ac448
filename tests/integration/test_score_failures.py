"""What goes wrong in a job is put right, or said; no row is lost, and none written twice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from ray.exceptions import RayTaskError

from tests.support.processes import driver
from tests.support.standin import SlowStage, run_pixels
from tokenfocus_ray.errors import ConfigError, JobError, OutputError, TokenFocusError
from tokenfocus_ray.scoring.stage import ScoreStage


def manifest(folder: Path, prompts: list[str | None], **columns: list[Any]) -> str:
    """One image for all prompts."""
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (40, 30), "orange").save(folder / "a.png")
    table = pa.table({"prompt": prompts, "path": ["a.png"] * len(prompts), **columns})
    pq.write_table(table, folder / "m.parquet")
    return str(folder / "m.parquet")


def read(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out)


def codes(out: Path) -> list[str]:
    return [c if isinstance(c, str) else "ok" for c in read(out)["error_code"]]


def test_a_row_that_raises_is_found(tmp_path: Path) -> None:
    """The others of its piece are scored; once the cause is gone, so is the row."""
    cure = tmp_path / "cure"
    prompts = ["a", f"until:{cure}", "b", "", "c", "d"]
    path, out = manifest(tmp_path / "in", [*prompts]), tmp_path / "out"
    summary = run_pixels(path, str(out))
    assert codes(out) == ["ok", "scoring_failed", "ok", "prompt_empty", "ok", "ok"]
    assert summary.unscored == {"prompt_empty": 1, "scoring_failed": 1}
    assert read(out)["error_message"][1] == "RuntimeError: not yet"
    before = read(out)

    run_pixels(path, str(out), retry_unscored=True)
    assert codes(out) == ["ok", "scoring_failed", "ok", "prompt_empty", "ok", "ok"]
    cure.touch()
    lines: list[str] = []
    summary = run_pixels(path, str(out), retry_unscored=True, say=lines.append)
    assert lines[0] == "1 rows are scored again"
    assert codes(out) == ["ok", "ok", "ok", "prompt_empty", "ok", "ok"]
    after = read(out)
    kept = [0, 2, 3, 4, 5]
    pd.testing.assert_frame_equal(after.loc[kept], before.loc[kept])
    assert math.isfinite(after["score"][1])
    record = json.loads((out / "__job" / "run.json").read_text())
    assert record["launch"]["rows"] == 1
    assert sorted(p.name for p in out.iterdir()) == ["__job", "part-00000.parquet"]


def test_what_fails_with_every_row_ends_the_job(tmp_path: Path) -> None:
    path = manifest(tmp_path / "in", ["raise:no such kernel", "raise:no such kernel"])
    with pytest.raises(RayTaskError, match="no such kernel"):
        run_pixels(path, str(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_a_job_that_failed_holds_nothing(tmp_path: Path) -> None:
    """In a process of its own: pytest keeps what Ray logs, and with it what the job held."""
    path = manifest(tmp_path / "in", ["raise:no such kernel", "raise:no such kernel"])
    with driver([path, "out", "{}"], tmp_path, module="tests.support.standin") as process:
        process.wait(timeout=200)
    assert (
        "RayTaskError(RuntimeError), and no actor is left" in (tmp_path / "output.txt").read_text()
    )


def test_a_broken_device_is_left(tmp_path: Path) -> None:
    """The actor ends itself; the next one scores its rows."""
    prompts = ["a", "b", f"once:{tmp_path / 'broken'}", "c", "d"]
    path, out = manifest(tmp_path / "in", [*prompts]), tmp_path / "out"
    assert run_pixels(path, str(out)).scored == 5
    assert (tmp_path / "broken").exists()


def test_a_device_that_stays_broken_ends_the_job(tmp_path: Path) -> None:
    """No row is blamed for it, and it is not tried for ever."""
    prompts = ["a", "b", "c", "d", "device:an illegal memory access"]
    path, out = manifest(tmp_path / "in", [*prompts]), tmp_path / "out"
    with pytest.raises(JobError) as caught:
        run_pixels(path, str(out))
    assert str(caught.value) == (
        "the device failed 4 times in a row: RuntimeError: CUDA error: an illegal memory access. "
        "What is committed is kept; check the device and its driver, and launch the same command "
        "again"
    )


class UnbuildableStage(ScoreStage):
    """An actor that cannot start."""

    def __init__(self, *arguments: Any) -> None:
        raise RuntimeError("no such weights")


def test_actors_that_cannot_start_end_the_job(tmp_path: Path) -> None:
    path = manifest(tmp_path / "in", ["a", "b"])
    stage: Any = UnbuildableStage
    with pytest.raises(JobError) as caught:
        run_pixels(path, str(tmp_path / "out"), stage=stage)
    message = str(caught.value)
    assert message.startswith("scoring ended 2 times without a single piece done: ActorDiedError: ")
    assert message.endswith(
        "(RuntimeError: no such weights). What is committed is kept; look at the workers' logs, "
        "and launch the same command again to go on"
    )


def test_a_row_that_kills_its_process_is_given_up(tmp_path: Path) -> None:
    """And nothing else is, though its piece dies with it several times."""
    prompts = ["a", "b", "c", "d", "e", "kill:1", "f", "kill:2", "g"]
    path, out = manifest(tmp_path / "in", [*prompts]), tmp_path / "out"
    summary = run_pixels(path, str(out))
    assert codes(out) == ["ok"] * 5 + ["process_died", "ok", "process_died", "ok"]
    assert summary.unscored == {"process_died": 2}
    assert read(out)["error_message"][5] == (
        "the process that worked on this row died each time; look at the workers' logs, and try "
        "again with --retry-unscored"
    )


def test_the_second_row_of_an_id(tmp_path: Path) -> None:
    """Over pieces and files; without ids, equal image and prompt make one."""
    ids = ["x", "y", "x", "z", "y", "x"]
    path, out = manifest(tmp_path / "in", list("abcdef"), sample_id=ids), tmp_path / "out"
    run_pixels(path, str(out), commit_rows=2)
    assert codes(out) == ["ok", "ok", "duplicate_id", "ok", "duplicate_id", "duplicate_id"]
    assert list(read(out)["sample_id"]) == ["x", "y", "x#0-2", "z", "y#0-4", "x#0-5"]
    run_pixels(manifest(tmp_path / "none", ["a", "b", "a"]), str(tmp_path / "hashed"))
    assert codes(tmp_path / "hashed") == ["ok", "ok", "duplicate_id"]


def refusal(error: type[TokenFocusError], *arguments: Any, **options: Any) -> str:
    with pytest.raises(error) as caught:
        run_pixels(*arguments, **options)
    return str(caught.value)


def test_another_job_in_the_same_folder(tmp_path: Path) -> None:
    """Refused with what differs; ``overwrite`` begins anew."""
    path, out = manifest(tmp_path / "in", ["a", "b", "c"]), str(tmp_path / "out")
    run_pixels(path, out)
    scored = refusal(ConfigError, path, out, stage=SlowStage)
    assert scored == (
        f"{out} was begun with another configuration (scorer: 'PixelStage' there, 'SlowStage' "
        f"now); set it back to go on, or choose another --out"
    )
    assert "(commit_rows: 4 there, 5 now)" in refusal(ConfigError, path, out, commit_rows=5)
    manifest(tmp_path / "in", ["a", "b", "z"])
    assert "(input.bytes: '" in refusal(ConfigError, path, out)
    assert list(read(tmp_path / "out")["prompt"]) == ["a", "b", "c"]
    run_pixels(path, out, overwrite=True)
    assert list(read(tmp_path / "out")["prompt"]) == ["a", "b", "z"]
    (tmp_path / "out" / "note.txt").write_text("mine")
    assert "holds 'note.txt', which no scoring job wrote" in refusal(
        OutputError, path, out, overwrite=True
    )


def test_what_a_job_leaves(tmp_path: Path) -> None:
    path, out = manifest(tmp_path / "in", ["a"]), tmp_path / "out"
    run_pixels(path, str(out))
    # what a killed writer leaves is swept up by the next launch
    (out / ".tmp-0123").write_bytes(b"half")
    lines: list[str] = []
    summary = run_pixels(path, str(out), say=lines.append)
    assert lines == ["already finished: 1 rows are there, nothing is scored"]
    assert (summary.rows, summary.out) == (1, str(out))
    assert sorted(p.name for p in out.iterdir()) == ["__job", "part-00000.parquet"]
    job = json.loads((out / "__job" / "job.json").read_text())
    assert (job["input.files"], job["input.rows"], job["input.column.image_uri"]) == (1, 1, "path")
