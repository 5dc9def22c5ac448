"""What Ray Train starts again, and what it must not."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
import torch
from ray.train.v2._internal.callbacks.user_callback import UserCallbackHandler
from ray.train.v2._internal.execution.failure_handling import (
    DefaultFailurePolicy,
    FailureDecision,
)
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from tokenfocus_ray.distributed.ray_errors import root_cause
from tokenfocus_ray.distributed.score.failures import Action
from tokenfocus_ray.distributed.train.failures import (
    EndAtOnce,
    decide_member,
    failure_of,
    in_words,
)
from tokenfocus_ray.errors import (
    AdapterError,
    ConfigError,
    DivergedError,
    ImageDecodeError,
    OutputError,
)

DIVERGED = DivergedError("step 3: the loss is nan")
AGAIN: list[Exception] = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    torch.OutOfMemoryError("CUDA out of memory"),
    OutputError("cannot write to 's3://b/run': connection refused"),
    ImageDecodeError("image_missing", "gone"),
    OSError("connection reset"),
]
NEVER: list[Exception] = [
    DIVERGED,
    FloatingPointError("nan"),
    ConfigError("lora.targets: 'qkv' is no linear layer"),
    AdapterError("the adapter was made for another backbone"),
]


def decision(error: Exception, others: dict[int, Exception] | None = None) -> FailureDecision:
    """What Ray Train decides, as its controller goes about it."""
    errors = {1: error, **(others or {})}
    policy = DefaultFailurePolicy(FailureConfig(max_failures=3))
    context: Any = SimpleNamespace()
    handler = UserCallbackHandler([EndAtOnce()], context)
    status: Any = SimpleNamespace(errors=errors)
    raised: TrainingFailedError = WorkerGroupError("failed", errors)
    try:
        handler.after_worker_group_poll_status(status)
    except TrainingFailedError as ended:
        raised = pickle.loads(pickle.dumps(ended))
    assert root_cause(raised).args == error.args
    return policy.make_decision(raised)


@pytest.mark.parametrize("error", NEVER, ids=lambda e: type(e).__name__)
def test_what_would_happen_again_is_not_tried_again(error: Exception) -> None:
    assert decide_member(error).action is Action.STOP
    assert decision(error) is FailureDecision.RAISE
    collateral: dict[int, Exception] = {0: RuntimeError("Connection closed by peer")}
    assert decision(error, collateral) is FailureDecision.RAISE


@pytest.mark.parametrize("error", AGAIN, ids=lambda e: type(e).__name__)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    assert decide_member(error).action is Action.LEAVE
    assert decision(error) is FailureDecision.RETRY


def test_a_failed_member_is_named_with_what_helps() -> None:
    """Launching again helps where something may have passed, and not where all would diverge."""
    ended = ray.train.ControllerError(DIVERGED)
    died = ray.train.WorkerGroupError("failed", {0: RuntimeError("a\nb")})
    assert (in_words(ended), in_words(died)) == (
        "DivergedError: step 3: the loss is nan",
        "RuntimeError: b",
    )
    assert str(failure_of({"m0": ended}, 3)) == (
        "1 of 3 members could not be trained, first m0: DivergedError: step 3: the loss is nan. "
        "The others are kept; unless that is put right, the same command would end the same"
    )
    assert str(failure_of({"m0": ended, "m2": died}, 3)) == (
        "2 of 3 members could not be trained, first m0: DivergedError: step 3: the loss is nan. "
        "The others are kept; launch the same command again to train those that are missing"
    )
