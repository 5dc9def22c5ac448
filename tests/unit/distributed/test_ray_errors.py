"""What a user can put right is found in whatever Ray makes of it."""

from __future__ import annotations

import errno
import os

import pytest
import ray
from ray.exceptions import OutOfDiskError, RayTaskError, UserCodeException
from ray.train import ControllerError, WorkerGroupError

from tokenfocus_ray.distributed.ray_errors import user_error_in
from tokenfocus_ray.errors import BackboneError, OutputError, UserError

#: What Ray Data adds to whatever a stage raises.
ADVICE = (
    "Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s).\n"
    "To change retry attempts, backoff, or which errors are retried, configure ..."
)
FULL = "No space left on device"


def task(cause: Exception) -> Exception:
    """As ``ray.get`` raises it."""
    error = RayTaskError("f", "a trace\nof many lines", cause, "title", 1, "10.0.0.1")
    raised: Exception = error.as_instanceof_cause()
    return raised


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OutputError("full"), OutputError("full")),
        (task(BackboneError("no 'head'")), BackboneError("no 'head'")),
        (task(OutputError(f"full; choose another\n{ADVICE}")), OutputError("full; choose another")),
        (raised_from(task(OutputError("full")), RuntimeError("Ray's own")), OutputError("full")),
        (
            task(WorkerGroupError("text", {1: task(OutputError("full"))})),
            OutputError("full"),
        ),
        (
            task(ControllerError(OSError(errno.ENOSPC, FULL, "run/snapshot.json"))),
            OutputError(f"{FULL}: 'run/snapshot.json'; free space on its disk, or choose another"),
        ),
        (
            task(OSError(errno.EIO, "Input/output error", "weights")),
            OutputError(
                "Input/output error: 'weights'; check the path, its permissions and the disk"
            ),
        ),
        (
            task(OSError(errno.ENOSPC, FULL, ADVICE)),  # in place of the name
            OutputError(f"{FULL}; free space on its disk, or choose another"),
        ),
        (
            task(OutOfDiskError("Local disk is full\nadvice")),
            OutputError(
                "Ray's object store is full, or the disk that it spills to: OutOfDiskError: Local "
                "disk is full; free space there (RAY_TMPDIR says where), and launch the same "
                "command again"
            ),
        ),
    ],
    ids=["bare", "task", "advice", "outer", "workers", "controller", "system", "name", "spill"],
)
def test_what_a_user_can_put_right(error: Exception, expected: UserError) -> None:
    found = user_error_in(error)
    assert type(found) is type(expected)
    assert str(found).startswith(str(expected))


def test_a_denied_request_of_a_store() -> None:
    found = user_error_in(
        task(OSError("When writing: AWS Error ACCESS_DENIED during PutObject: no"))
    )
    assert str(found) == (
        "AWS Error ACCESS_DENIED during PutObject: no; check AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, and what they may do in the bucket"
    )


@pytest.mark.parametrize(
    "error",
    [
        task(RuntimeError("a mistake")),
        task(UserCodeException("UDF failed to process a data block.")),
        task(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x")),
        ray.exceptions.ActorDiedError(),
    ],
    ids=repr,
)
def test_nothing_that_a_user_could_put_right(error: Exception) -> None:
    assert user_error_in(error) is None


def test_a_mistake_made_while_an_error_is_handled_is_not_hidden() -> None:
    error = KeyError("a mistake")
    error.__context__ = OutputError("full")
    assert user_error_in(error) is None
