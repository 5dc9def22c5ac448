"""Errors of disks and stores in words: the cause, and what can be done about it."""

from __future__ import annotations

import errno
import os

from pyarrow import fs

from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.storage import s3
from tokenfocus_ray.storage.failures import StoreFailedError
from tokenfocus_ray.storage.fsspec_store import Handler, explain_fsspec

_PERMISSIONS = "check its permissions, or choose another folder"
_SPACE = "free space on its disk, or choose another"
_IN_THE_WAY = "a file stands where a folder is needed: move it, or choose another folder"
_CHECK = "check the path, its permissions and the disk"
_FILES = "allow more open files (ulimit -n)"
_REMEDIES = {
    errno.EIO: _CHECK,
    errno.ESTALE: _CHECK,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: "choose a folder on a disk that can be written to",
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.EISDIR: "a folder stands where a file is needed: move it, or choose another name",
}


def explain(error: Exception, filesystem: fs.FileSystem) -> tuple[str, str]:
    """Cause and remedy, in words, of what reading or writing raised.

    Args:
        error: What was raised.
        filesystem: Of what was read or written.
    """
    if isinstance(filesystem, fs.LocalFileSystem):
        number = error.errno if isinstance(error, OSError) else None
        cause = getattr(error, "strerror", None) or str(error)
        return cause, _REMEDIES.get(number or 0, _CHECK)
    handler = getattr(filesystem, "handler", None)
    if isinstance(handler, Handler):
        return explain_fsspec(error, handler)
    return s3.explain(error, filesystem)


def store_failed(error: BaseException) -> bool:
    """Whether the store is to blame rather than the request: down, slow, busy or broken."""
    return isinstance(error, StoreFailedError) or s3.store_failed(error)


def system_error(error: OSError) -> OutputError | None:
    """The system's error in words, where a user can put it right; None for any other.

    >>> print(system_error(OSError(errno.ENOSPC, "No space left on device", "scores/part.parquet")))
    No space left on device: 'scores/part.parquet'; free space on its disk, or choose another

    Args:
        error: What was raised, by whatever opens files without a
            :class:`~tokenfocus_ray.storage.Store`.
    """
    if "AWS Error " in str(error):
        return OutputError("; ".join(s3.explain(error, s3.s3_filesystem())))
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    where = "" if error.filename is None else f": {os.fspath(error.filename)!r}"
    return OutputError(f"{error.strerror}{where}; {remedy}")
