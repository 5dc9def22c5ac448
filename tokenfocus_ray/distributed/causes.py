"""What a Ray error carries, and how to be rid of it."""

from __future__ import annotations

import gc
import re
import traceback

import ray

from tokenfocus_ray.errors import UserError


def let_go(error: BaseException) -> None:
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


def cause_of(error: BaseException) -> str:
    """What Ray says first, and what it quotes last: the exception of the process that died."""
    first, *more = f"{type(error).__name__}: {error}".strip().splitlines()
    last = next((line.strip() for line in reversed(more) if line.strip()), "")
    return f"{first} ({last})" if re.match(r"[\w.]+(Error|Exception): ", last) else first


def own_error(error: BaseException | None) -> UserError | None:
    """The error of ours that a Ray error carries, if any."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        # Ray's wrapper is of our class too, with a trace for its text
        if isinstance(error, UserError) and not isinstance(error, ray.exceptions.RayError):
            # which also adds advice to the text, about settings that we do not hand on
            return type(error)(str(error).partition("\nFailed to apply UDF transform")[0])
        seen.add(id(error))
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None
