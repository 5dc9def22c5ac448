"""Training survives the death of a worker and of the driver, and says what it cannot survive."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import yaml

from tests.support.processes import driver, end, in_background, stop, titled, wait_for
from tests.support.train import (
    BACKBONE,
    MEMBERS,
    N_STEPS,
    Reference,
    adapter,
    assert_same_adapter,
    backbone_run,
    metrics,
    n_reports,
    reference_run,
    small_config,
    take_member,
    written,
)
from tokenfocus_ray.backbones.registry import WEIGHTS
from tokenfocus_ray.distributed.train.job import train_members
from tokenfocus_ray.errors import TrainingError

# trainings, on a machine that may be busy
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
FIRST, SECOND = MEMBERS
#: Name of Ray Train's worker actors, as their processes are titled.
WORKER = "ray::RayTrainWorker"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """An undisturbed run."""
    return reference_run(tmp_path_factory.getbasetemp())


def steps_saved(out: Path, member: str) -> int:
    """Steps of the latest checkpoint that Ray Train knows of."""
    path = out / "members" / member / "checkpoint_manager_snapshot.json"
    with contextlib.suppress(OSError, ValueError):  # not there yet, or half written
        latest = json.loads(path.read_text())["latest_checkpoint_result"]
        return int(latest["checkpoint_dir_name"].rpartition("-")[2]) if latest else 0
    return 0


def assert_as_undisturbed(out: Path, reference: Reference) -> None:
    """Members, metrics and out-of-fold scores equal those of the undisturbed run."""
    for name in MEMBERS:
        assert_same_adapter(adapter(out, name), adapter(reference.out, name), relative=1e-5)
        mine, theirs = metrics(out, name), metrics(reference.out, name)
        assert [r["step"] for r in mine] == [r["step"] for r in theirs]
        for record, expected in zip(mine, theirs, strict=True):
            assert record["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    table, wanted = (pd.read_parquet(o / "oof.parquet") for o in (out, reference.out))
    assert list(table["sample_id"]) == list(wanted["sample_id"])
    assert table["sample_id"].is_unique
    column = f"m_{BACKBONE}"
    np.testing.assert_allclose(table[column], wanted[column], atol=1e-5, rtol=0)


def test_a_killed_worker_goes_on_from_its_checkpoint(reference: Reference, tmp_path: Path) -> None:
    """SIGKILL in the middle of the first epoch."""
    out = tmp_path / "run"
    take_member(reference.out, out, FIRST)

    def kill() -> int:
        wait_for(lambda: steps_saved(out, SECOND))
        (worker,) = titled(WORKER, os.getpid())
        worker.kill()
        return steps_saved(out, SECOND)

    with in_background(kill) as killed:
        train_members(small_config(reference.data, checkpoint_steps=1), str(out), say=str)
    assert killed[0] < N_STEPS
    # a step that was saved is not trained again
    assert n_reports(out, SECOND) == N_STEPS
    assert_as_undisturbed(out, reference)


def test_a_killed_driver_is_launched_again(reference: Reference, tmp_path: Path) -> None:
    """Asked to end as it starts; SIGKILL in the middle of the second member; then once more."""
    config = small_config("data/train.parquet", parallel=1, checkpoint_steps=1)
    shutil.copytree(reference.data.parent, tmp_path / "data")
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    out = tmp_path / "run"
    command = ["train", "--config", "train.yaml", "--out", "run"]
    with driver(command, tmp_path) as process:
        text = tmp_path / "output.txt"
        wait_for(lambda: f"{FIRST}: starts" in text.read_text() or process.poll() is not None)
        assert stop(process, signal.SIGTERM) == 143, text.read_text()[-3000:]
    assert text.read_text().splitlines()[-1] == "stopped; launch the same command again to go on"
    assert not (out / "members" / FIRST / "member.json").exists()
    with driver(command, tmp_path) as process:
        wait_for(lambda: steps_saved(out, SECOND) or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "output.txt").read_text()[-3000:]
        end(psutil.Process(process.pid))
    saved = steps_saved(out, SECOND)
    assert 0 < saved < N_STEPS
    assert (out / "members" / FIRST / "member.json").exists()
    assert not (out / "members" / SECOND / "member.json").exists()
    assert not (out / "oof.parquet").exists()
    before = written(out, FIRST)

    with driver(command, tmp_path) as process:
        assert process.wait(timeout=900) == 0, (tmp_path / "output.txt").read_text()[-3000:]
    lines = (tmp_path / "output.txt").read_text().splitlines()
    assert f"{FIRST}: finished before, left as it is" in lines
    assert f"{SECOND}: starts, 8 steps at the most" in lines
    assert not any(line.startswith("looking at") for line in lines)
    assert lines[-1].startswith("members=2 skipped=0 ")
    assert written(out, FIRST) == before
    assert n_reports(out, SECOND) == N_STEPS
    assert_as_undisturbed(out, reference)


def test_a_member_that_always_fails_is_named_and_the_others_are_kept(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that cannot be read; put back, the same command goes on from it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(WEIGHTS / BACKBONE, tmp_path / "models" / "mine")
    out, first, second = tmp_path / "run", "mine-bag0", "mine-bag1"
    # as if killed between the last checkpoint and the member's result
    folder = out / "members" / second
    shutil.copytree(reference.out / "members" / SECOND, folder)
    for path in (folder / "member.json", folder / "held_out.parquet"):
        path.unlink()
    shutil.rmtree(folder / "adapter")
    state = folder / f"step-{N_STEPS:08d}" / "state.pt"
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RuntimeError) as unreadable:
        torch.load(state, weights_only=True)
    # a relative folder: Ray Train's workers stand in another
    config = small_config(reference.data, backbones={"models/mine": backbone_run()}, max_failures=1)
    lines: list[str] = []
    with pytest.raises(TrainingError) as caught:
        train_members(config, str(out), say=lines.append)
    cause = (
        f"TrainingError: {state} is not what training wrote ({unreadable.value!s:.200}); delete "
        f"{folder} and launch the same command again, which trains the member anew"
    )
    assert str(caught.value) == (
        f"1 of 2 members could not be trained, first {second}: {cause}. The others are kept; "
        f"unless that is put right, the same command would end the same"
    )
    assert f"{second}: failed: {cause}" in lines
    assert not (folder / "member.json").exists()
    assert not (out / "oof.parquet").exists()
    before = written(out, first)

    state.write_bytes(whole)
    lines.clear()
    summary = train_members(config, str(out), say=lines.append)
    assert lines[:2] == [
        f"{first}: finished before, left as it is",
        f"{second}: starts, 8 steps at the most",
    ]
    assert written(out, first) == before
    assert [m["member"] for m in summary.members] == [first, second]
    assert n_reports(out, second) == n_reports(reference.out, SECOND)
    for name, member in ((first, FIRST), (second, SECOND)):
        assert_same_adapter(adapter(out, name), adapter(reference.out, member), relative=1e-6)


def test_a_member_that_diverges_is_not_started_again(reference: Reference, tmp_path: Path) -> None:
    """Else it would be, ten thousand times; the other member is kept."""
    out = tmp_path / "run"
    take_member(reference.out, out, FIRST)
    config = small_config(
        reference.data,
        optimizer={"learning_rate": 1e30, "warmup": 0},
        checkpoint_steps=1,
        max_failures=10_000,
    )
    with pytest.raises(TrainingError) as caught:
        train_members(config, str(out), say=str)
    found = re.fullmatch(
        rf"1 of 2 members could not be trained, first {SECOND}: DivergedError: step (\d): the loss "
        r"is \S+ and its gradient's norm \S+, with rows '\w+', '\w+', '\w+'; lower "
        r"optimizer\.learning_rate \(1e\+30\), and choose another --out, or look at the rows\. The "
        r"others are kept; unless that is put right, the same command would end the same",
        str(caught.value),
    )
    assert found, str(caught.value)
    assert n_reports(out, SECOND) == int(found[1]) > 0
    assert not (out / "members" / SECOND / "member.json").exists()
    assert (out / "members" / FIRST / "member.json").exists()
