"""What to do about an exception in a scoring job: one pure decision."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from tokenfocus_ray.errors import RowError, UserError
from tokenfocus_ray.storage import store_failed

#: Tries of a write to a store whose client has tried eight times each already.
STORE_TRIES = 4
#: Seconds before the second try; doubled each time.
STORE_DELAY = 5.0

_DEVICE = re.compile(
    r"CUDA error|CUDA driver|device-side assert|cuDNN error|CUBLAS_STATUS|ECC|"
    r"illegal memory access|no CUDA-capable device",
    re.IGNORECASE,
)


class Action(Enum):
    """What a stage does next."""

    MARK = "the row leaves unscored, with the error's code"
    ISOLATE = "the rows are tried one by one, to find which is to blame"
    RETRY = "the same again, after a pause"
    LEAVE = "the process ends; Ray starts another, which gets the rows"
    STOP = "the job ends with the error; what is committed stays"


@dataclass(frozen=True, slots=True)
class Decision:
    """An action with its reason, for the log.

    Attributes:
        action: What to do.
        reason: Why.
        delay: Seconds to wait before a retry; the caller adds jitter.
    """

    action: Action
    reason: str
    delay: float = 0.0


def decide(error: BaseException, attempt: int, *, rows: int = 1) -> Decision:
    """Decides by what an exception says about: the row, the device, the store, or the job.

    Args:
        error: What was raised.
        attempt: How often the same was tried before, from 0.
        rows: How many rows were tried together.
    """
    name = type(error).__name__
    if isinstance(error, RowError):
        return Decision(Action.MARK, f"{error.code}: the row is to blame")
    cause = error.__cause__ if isinstance(error, UserError) else error
    if cause is not None and store_failed(cause):
        if attempt + 1 < STORE_TRIES:
            return Decision(
                Action.RETRY, "the object store failed", STORE_DELAY * float(2**attempt)
            )
        return Decision(Action.STOP, f"the object store failed {STORE_TRIES} times in a row")
    if isinstance(error, UserError):
        return Decision(Action.STOP, f"{name}: the same would happen to every row")
    if isinstance(error, MemoryError) or name == "AcceleratorError" or _DEVICE.search(str(error)):
        return Decision(Action.LEAVE, f"{name}: the process or its device cannot be trusted")
    if not isinstance(error, Exception):
        return Decision(Action.STOP, f"{name}: asked to end")
    if rows > 1:
        return Decision(Action.ISOLATE, f"{name}: one of {rows} rows may be to blame")
    return Decision(Action.MARK, f"scoring_failed: {name} with this row alone")
