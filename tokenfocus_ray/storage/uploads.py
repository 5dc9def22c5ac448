"""Files too large for memory, from this machine to a store."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from typing import BinaryIO

from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.storage.disk import TEMPORARY
from tokenfocus_ray.storage.store import Store

_CHUNK = 8 * 2**20


def upload(file: BinaryIO, target: Store) -> None:
    """Copies a file, from its start, in place of one that is there; makes its folders.

    Args:
        file: On this machine; is read to its end.
        target: On a disk the file is seen once it is whole. In a store what fails may be seen
            until it is deleted or written again: whoever needs to know notes what is done.

    Raises:
        OutputError: it cannot be written, or is not as long as what was read.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        if target.is_local:
            _to_disk(file, target.root)
            return
        with target.filesystem.open_output_stream(target.root, compression=None) as stream:
            while chunk := file.read(_CHUNK):
                stream.write(chunk)
        found = target.filesystem.get_file_info(target.root).size
    except OSError as error:
        cause, remedy = target.explain(error)
        raise OutputError(f"cannot write {target.uri!r}: {cause}; {remedy}") from error
    if found != size:
        raise OutputError(
            f"cannot write {target.uri!r}: {found} of its {size} bytes are there; run again"
        )


def _to_disk(file: BinaryIO, path: str) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as local:
            shutil.copyfileobj(file, local, _CHUNK)
            local.flush()
            os.fsync(local.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
