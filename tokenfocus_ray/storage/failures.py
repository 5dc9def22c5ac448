"""What clients of stores raise -> OSErrors, and whether the store or the request is to blame."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

#: What may be a secret in a client's message: values of a URL's query, and a user before a host.
_SECRETS = re.compile(r"(?<=[?&])([\w.-]+=)[^&\s'\")]+|(?<=://)[^/\s'\"@]+:[^/\s'\"@]+@")
#: How clients put a busy or broken store into system errors.
_BUSY = (errno.EBUSY, errno.EIO, errno.EAGAIN)
_KEPT = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
_KEYS = re.compile("auth|credential|refresh", re.IGNORECASE)


class StoreFailedError(OSError):
    """The store is to blame rather than the request: down, slow, busy or broken."""


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Turns whatever a client raises into an ``OSError`` without secrets."""
    try:
        yield
    except _KEPT:
        raise
    except Exception as error:
        raise translated(error) from error


def translated(error: Exception) -> OSError:
    """The error as an ``OSError``.

    >>> translated(TimeoutError("read of https://host/a?sig=abc timed out"))
    StoreFailedError('read of https://host/a?sig=*** timed out')

    Args:
        error: Of a client, each of which has classes of its own; what they agree on is HTTP's
            status.
    """
    if isinstance(error, StoreFailedError):
        return error
    own = error.strerror if isinstance(error, OSError) else None
    text = " ".join(str(own or error).split()) or type(error).__name__
    text = _SECRETS.sub(lambda found: f"{found[1] or ''}***{'' if found[1] else '@'}", text)
    status = _status(error)
    if status == 404:
        return FileNotFoundError(text)
    if isinstance(error, PermissionError) or status in (401, 403):
        return PermissionError(text)
    if _is_failure(error, status):
        return StoreFailedError(text)
    if isinstance(error, OSError) and error.errno:
        return OSError(error.errno, text, error.filename)
    return OSError(text)


def _is_failure(error: Exception, status: int | None) -> bool:
    if status is not None:
        return status >= 500 or status in (408, 429)
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if isinstance(error, OSError) and error.errno:
        return error.errno in _BUSY
    # what is no OSError is of a client's network library, but for what it says of keys
    return not isinstance(error, (OSError, ValueError, TypeError, NotImplementedError)) and not (
        _KEYS.search(type(error).__name__)
    )


def _status(error: Exception) -> int | None:
    for name in ("status", "status_code", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) and 100 <= value < 600:
            return value
    return None
