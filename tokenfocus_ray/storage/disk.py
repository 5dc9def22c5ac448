"""Files of a local disk: written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress

import pyarrow as pa

#: Start of the names of files that are being written; a killed process may leave one behind.
TEMPORARY = ".tmp-"


def write_whole(path: str, data: bytes | pa.Buffer) -> None:
    """Writes a file in place of one that is there; makes its folders.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    # in the same folder, since a rename is atomic on one disk only; not tempfile, whose files
    # only their owner can read
    temporary = os.path.join(folder, f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as local:
            local.write(data)
            local.flush()
            os.fsync(local.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def remove(path: str) -> None:
    """Deletes a file or link, or a folder with all that is in it.

    Raises:
        OSError: it is not there, or cannot be deleted.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def sweep(folder: str) -> None:
    """Deletes files directly below that killed writers left half written.

    Raises:
        OSError: one cannot be deleted.
    """
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if name.startswith(TEMPORARY):
            os.unlink(os.path.join(folder, name))


def free_bytes(path: str) -> int:
    """Space left on the disk of a file or folder, also of one that is yet to be made."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free
