"""The decision about an exception, as a table."""

from __future__ import annotations

import pytest
import torch

from tokenfocus_ray.distributed.score.failures import STORE_TRIES, Action, decide
from tokenfocus_ray.errors import BackboneError, ImageDecodeError, OutputError, PromptError

SLOW = OSError("When writing: AWS Error SLOW_DOWN (HTTP status 503) during PutObject: busy")
DENIED = OSError("When writing: AWS Error ACCESS_DENIED (HTTP status 403) during PutObject: no")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "rows", "action"),
    [
        (ImageDecodeError("image_corrupt", "cut off"), 1, Action.MARK),
        (PromptError("prompt_empty", "nothing"), 8, Action.MARK),
        (SLOW, 1, Action.RETRY),
        (caused(OutputError("cannot write"), SLOW), 1, Action.RETRY),
        (caused(OutputError("cannot write"), DENIED), 1, Action.STOP),
        (OutputError("no space"), 1, Action.STOP),
        (BackboneError("gone"), 8, Action.STOP),
        (torch.AcceleratorError("CUDA error: an illegal memory access"), 8, Action.LEAVE),
        (RuntimeError("CUDA error: device-side assert triggered"), 8, Action.LEAVE),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), 1, Action.LEAVE),
        (MemoryError(), 8, Action.LEAVE),
        (RuntimeError("shapes do not match"), 8, Action.ISOLATE),
        (RuntimeError("shapes do not match"), 1, Action.MARK),
        (torch.OutOfMemoryError("CUDA out of memory"), 8, Action.ISOLATE),
        (KeyboardInterrupt(), 8, Action.STOP),
    ],
    ids=lambda value: value.name if isinstance(value, Action) else None,
)
def test_decision(error: BaseException, rows: int, action: Action) -> None:
    decision = decide(error, 0, rows=rows)
    assert decision.action is action
    assert decision.reason
    assert (decision.delay > 0) == (action is Action.RETRY)


def test_a_store_is_tried_longer_and_longer_and_then_no_more() -> None:
    decisions = [decide(SLOW, attempt) for attempt in range(STORE_TRIES)]
    assert [d.action for d in decisions] == [Action.RETRY] * (STORE_TRIES - 1) + [Action.STOP]
    assert [d.delay for d in decisions] == [5.0, 10.0, 20.0, 0.0]
    assert decisions[-1].reason == "the object store failed 4 times in a row"
