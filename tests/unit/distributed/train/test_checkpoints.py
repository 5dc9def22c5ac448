"""A checkpoint goes to Ray Train and comes back whole; one that is cut or foreign is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import ray.train
import torch

from tokenfocus_ray.distributed.train.checkpoints import (
    STATE_FILE,
    History,
    read_history,
    read_state,
    report,
)
from tokenfocus_ray.errors import TrainingError

STATE: dict[str, Any] = {"model": {"a": torch.ones(2)}, "optimizer": {}}
HISTORY = History(12, 3.5, [0.25], [{"step": 12, "loss": float("nan")}])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a checkpoint after 12 steps."""
    kept = tmp_path / "member" / "step-00000012"

    def keep(metrics: dict[str, Any], checkpoint: Any, checkpoint_dir_name: str) -> None:
        assert metrics == {"steps": 12, "loss": 0.5, "score": 0.25}
        assert checkpoint_dir_name == kept.name
        shutil.copytree(checkpoint.path, kept)

    monkeypatch.setattr(ray.train, "report", keep)
    report(STATE, HISTORY, 0.5, 0.25, is_first=True)
    return kept


def test_a_checkpoint_comes_back_whole(folder: Path) -> None:
    checkpoint = ray.train.Checkpoint.from_directory(folder)
    state = read_state(checkpoint)
    assert torch.equal(state["model"]["a"], STATE["model"]["a"])
    assert str(read_history(checkpoint, state)) == str(HISTORY)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda data: data[:-100], ""),
        (lambda data: b"", ""),
        (None, "No such file"),
    ],
    ids=["cut", "empty", "gone"],
)
def test_a_state_that_cannot_be_read_is_named(folder: Path, change: Any, what: str) -> None:
    path = folder / STATE_FILE
    data = path.read_bytes()
    path.unlink()
    if change:
        path.write_bytes(change(data))
    with pytest.raises(TrainingError) as caught:
        read_state(ray.train.Checkpoint.from_directory(folder))
    message = str(caught.value)
    assert message.startswith(f"{path} is not what training wrote (")
    assert what in message
    assert message.endswith(
        f"); delete {folder.parent} and launch the same command again, which trains the member anew"
    )


@pytest.mark.parametrize(
    ("progress", "what"),
    [
        (json.dumps({"steps": 11}), "it has 11 steps behind it"),
        (json.dumps({"step": 12}), "History.__init__() got an unexpected keyword argument 'step'"),
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ],
    ids=["steps", "keys", "cut"],
)
def test_a_history_of_something_else_is_named(folder: Path, progress: str, what: str) -> None:
    checkpoint = ray.train.Checkpoint.from_directory(folder)
    with pytest.raises(TrainingError) as caught:
        read_history(checkpoint, {"progress": progress})
    assert f"({what})" in str(caught.value)


def test_other_contents_are_named(folder: Path) -> None:
    torch.save({"weights": torch.ones(1)}, folder / STATE_FILE)
    with pytest.raises(
        TrainingError, match=r"\(it lacks the model, its optimiser or its progress\)"
    ):
        read_state(ray.train.Checkpoint.from_directory(folder))
