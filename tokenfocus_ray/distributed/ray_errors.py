"""What a Ray error carries, and how to be rid of it."""

from __future__ import annotations

import gc
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from tokenfocus_ray.errors import OutputError, UserError
from tokenfocus_ray.storage import system_error

#: Ray's own of a full disk or a full object store; a line each is long enough.
_FULL = (ray.exceptions.OutOfDiskError, ray.exceptions.ObjectStoreFullError)
#: What Ray adds to the text of an exception: advice about settings that we do not hand on.
_ADVICE = re.compile(r"\n?Failed to apply UDF transform after .*", re.DOTALL)


def keep_exceptions(dataset: ray.data.Dataset) -> None:
    """Has a data set hand its tasks' errors on as they are; else they arrive as text."""
    dataset.context.raise_original_map_exception = True


@contextmanager
def unwrapped_errors() -> Iterator[None]:
    """Errors of Ray's leave as those of ours that they carry, if any."""
    try:
        yield
    except ray.exceptions.RayError as error:
        release_frames(error)
        if (own := user_error_in(error)) is not None:
            raise own from error
        raise


def release_frames(error: BaseException) -> None:
    """Frees what the frames of a failed pipeline hold: its actors end once nobody refers to them.

    Else they would keep their CPUs and GPUs for as long as a caller keeps the exception.
    """
    traceback.clear_frames(error.__traceback__)
    causes, seen = [error.__cause__, error.__context__], {id(error)}
    while causes:
        cause = causes.pop()
        if cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            cause.__traceback__ = None  # frames of Ray's threads, and those that called them
            causes += [cause.__cause__, cause.__context__]
    gc.collect()


def cause_in_words(error: BaseException) -> str:
    """What Ray says first, and what it quotes last: the exception of the process that died."""
    first, *more = _lines(error)
    last = next((line.strip() for line in reversed(more) if line.strip()), "")
    return f"{first} ({last})" if re.match(r"[\w.]+(Error|Exception): ", last) else first


def user_error_in(error: BaseException | None) -> UserError | None:
    """What an error says that the user can put right, as an error of ours; None if nothing.

    Looks at what it was raised from, Ray's wrappers included: for an error of ours, else for one of
    the system's, such as a full disk, wherever it was met.
    """
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, UserError):
            return type(one)(_ADVICE.sub("", str(one)))
    for one in chain:
        if isinstance(one, _FULL):
            return OutputError(
                f"Ray's object store is full, or the disk that it spills to: {_lines(one)[0]}; "
                f"free space there (RAY_TMPDIR says where), and launch the same command again"
            )
        if isinstance(one, OSError) and (own := system_error(_plain(one))) is not None:
            return own
    return None


def root_cause(error: BaseException) -> BaseException:
    """What a process raised, below all of Ray's wrappers; as an error of ours where it is one."""
    *_, innermost = [error, *_chain(error)]
    return user_error_in(error) or innermost


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from; not what was being handled when it was raised."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        # Ray's wrapper is of the class of what it wraps, with a trace for its text
        if not isinstance(error, ray.exceptions.RayTaskError):
            yield error
        error = _wrapped(error) or error.__cause__


def _wrapped(error: BaseException) -> BaseException | None:
    """What Ray's wrappers hold: a task's, Ray Train's controller's, its workers'."""
    cause = getattr(error, "cause", None) or getattr(error, "controller_failure", None)
    failures = getattr(error, "worker_failures", None) or {}
    found = cause or next(iter(failures.values()), None)
    return found if isinstance(found, BaseException) else None


def _plain(error: OSError) -> OSError:
    """Without Ray's advice, which it leaves where the file's name was."""
    if error.errno is None or not _ADVICE.match(str(error.filename)):
        return error
    return OSError(error.errno, error.strerror)


def _lines(error: BaseException) -> list[str]:
    return f"{type(error).__name__}: {error}".strip().splitlines()
