"""A member's checkpoints: what its workers hand to Ray Train, and get back when they go on."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray.train
import torch

from tokenfocus_ray.distributed.train.stream import checkpoint_name, step_of
from tokenfocus_ray.errors import TrainingError

STATE_FILE = "state.pt"
#: Score of a checkpoint within an epoch, below any of an epoch's end: kept as the latest only.
NOT_VALIDATED = -2.0
#: What a file that is cut or of something else makes torch raise.
_UNREADABLE = (RuntimeError, EOFError, FileNotFoundError, ValueError, pickle.UnpicklingError)


@dataclass(slots=True)
class History:
    """What a checkpoint carries beside the tensors.

    Attributes:
        steps: Steps done.
        seconds: Time spent training, all starts together.
        scores: Validation score of each epoch, see ``epoch_score``.
        records: The metrics so far.
    """

    steps: int = 0
    seconds: float = 0.0
    scores: list[float] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)


def report(
    state: Mapping[str, Any], history: History, loss: float, score: float, is_first: bool
) -> None:
    """Hands a checkpoint to Ray Train, which keeps the best and the latest; all workers call it.

    Args:
        state: Of the learner.
        history: Of the member.
        loss: Of the latest step.
        score: Of the latest epoch where it has just ended, else :data:`NOT_VALIDATED`.
        is_first: Whether this is the worker that writes.
    """
    metrics = {"steps": history.steps, "loss": loss, "score": score}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = None
        if is_first:
            kept = {**state, "progress": json.dumps(asdict(history))}
            torch.save(kept, Path(folder) / STATE_FILE)
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report(metrics, checkpoint, checkpoint_dir_name=checkpoint_name(history.steps))


def read_state(checkpoint: ray.train.Checkpoint) -> dict[str, Any]:
    """The learner's state.

    Raises:
        TrainingError: the checkpoint is cut or of something else; with how to go on.
    """
    with checkpoint.as_directory() as folder:
        try:
            found = torch.load(Path(folder) / STATE_FILE, map_location="cpu", weights_only=True)
        except _UNREADABLE as error:
            raise _foreign(checkpoint, str(error)) from error
    if not isinstance(found, dict) or not {"model", "optimizer", "progress"} <= found.keys():
        raise _foreign(checkpoint, "it lacks the model, its optimiser or its progress")
    return found


def read_history(checkpoint: ray.train.Checkpoint, state: Mapping[str, Any]) -> History:
    """What the state of a checkpoint carries beside the tensors.

    Raises:
        TrainingError: it is of something else; with how to go on.
    """
    try:
        history = History(**json.loads(state["progress"]))
    except (TypeError, ValueError) as error:
        raise _foreign(checkpoint, str(error)) from error
    if history.steps != step_of(checkpoint.path):
        raise _foreign(checkpoint, f"it has {history.steps} steps behind it")
    return history


def _foreign(checkpoint: ray.train.Checkpoint, what: str) -> TrainingError:
    path = checkpoint.path.rstrip("/")
    return TrainingError(
        f"{path}/{STATE_FILE} is not what training wrote ({what:.200}); delete "
        f"{path.rpartition('/')[0]} and launch the same command again, which trains the member anew"
    )
