"""Which failures of a member Ray Train answers with another start, and which end it at once.

Left to itself it starts a member anew whatever its workers raised. What the same steps on the same
rows would raise again only costs as many starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray.train

from tokenfocus_ray.distributed.ray_errors import root_cause
from tokenfocus_ray.distributed.score.failures import Action, Decision
from tokenfocus_ray.errors import OutputError, TrainingError, UserError


def in_words(error: BaseException) -> str:
    """The innermost reason, on one line."""
    inner = root_cause(error)
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[-1] if lines else ''}"


def failure_of(failed: Mapping[str, Exception], n_members: int) -> TrainingError:
    """What to say of the members that could not be trained.

    Args:
        failed: Member -> why.
        n_members: Of the whole run.
    """
    name, error = next(iter(failed.items()))
    again = any(decide_member(root_cause(e)).action is not Action.STOP for e in failed.values())
    remedy = (
        "launch the same command again to train those that are missing"
        if again
        else "unless that is put right, the same command would end the same"
    )
    return TrainingError(
        f"{len(failed)} of {n_members} members could not be trained, first {name}: "
        f"{in_words(error)}. The others are kept; {remedy}"
    )


def decide_member(error: BaseException) -> Decision:
    """Decides by what a worker raised.

    ``LEAVE``: Ray Train starts the member from its latest checkpoint, up to ``max_failures`` times.
    """
    name = type(error).__name__
    if isinstance(error, OutputError):
        return Decision(Action.LEAVE, f"{name}: the storage may be back")
    if isinstance(error, (UserError, FloatingPointError)):
        return Decision(Action.STOP, f"{name}: the same steps would end the same")
    return Decision(Action.LEAVE, f"{name}: the process or its device may be to blame")


class EndAtOnce(ray.train.UserCallback):
    """Ends a run whose failure another start would meet again.

    Ray Train calls it between a failure and its own decision, and does not retry an error of its
    controller, which is what is raised here.
    """

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """See ``ray.train.UserCallback``."""
        for error in worker_exceptions.values():
            if decide_member(error).action is Action.STOP:
                raise ray.train.ControllerError(error)
