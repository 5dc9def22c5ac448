"""Files of a store on this machine's disk, fetched by fsspec: models and adapters need paths.

``TOKENFOCUS_CACHE`` names the folder of what is kept; by default ``~/.cache/tokenfocus``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from pyarrow import fs

from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.storage.explain import system_error
from tokenfocus_ray.storage.failures import as_os_errors
from tokenfocus_ray.storage.fsspec_store import Handler
from tokenfocus_ray.storage.s3 import CONNECT_TIMEOUT, REQUEST_TIMEOUT, S3, S3Settings
from tokenfocus_ray.storage.store import Store

CACHE = "TOKENFOCUS_CACHE"


def copy_files(folder: Store, names: Sequence[str], target: Path) -> None:
    """Copies files of a store's folder to a local folder, several at a time.

    Args:
        folder: In a store.
        names: Of files directly below it, all of which are there.
        target: Is there.

    Raises:
        OutputError: the store fails, or the disk is full.
    """
    client = _client(folder.filesystem)
    try:
        with as_os_errors():
            client.get(
                [f"{folder.root}/{name}" for name in names], [str(target / name) for name in names]
            )
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or error.filename is not None:
            raise system_error(error) or error from error  # this disk's, not the store's
        cause, remedy = folder.explain(error)
        raise OutputError(f"cannot read {folder.uri!r}: {cause}; {remedy}") from error


def local_copy(folder: Store) -> Path:
    """A folder of a store as one of this machine, copied by whichever process comes first.

    What is kept is found by the names, sizes and versions of the files, so a folder that was
    written anew is copied anew.

    Args:
        folder: Of which the files directly below count, but for those whose name begins with a dot.

    Returns:
        The local folder, under the same name.

    Raises:
        OutputError: the store fails, or the disk cannot be written.
    """
    files = {name: size for name, size in _sizes(folder).items() if not name.startswith(".")}
    about = [folder.uri, [(n, s, folder.child(n).version().decode()) for n, s in files.items()]]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]
    place = cache_folder() / key
    copy, half = place / (folder.uri.rpartition("/")[2] or "folder"), place / "half"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / "lock"):
            if not copy.exists():
                shutil.rmtree(half, ignore_errors=True)  # of a process that was killed
                half.mkdir()
                copy_files(folder, list(files), half)
                _check_sizes(folder, files, half)
                half.rename(copy)
    except OSError as error:
        raise system_error(error) or error from error
    return copy


def _sizes(folder: Store) -> dict[str, int]:
    found = folder.filesystem.get_file_info(fs.FileSelector(folder.root, allow_not_found=True))
    files = {f.base_name: f.size for f in found if f.type == fs.FileType.File}
    return dict(sorted(files.items()))


def _check_sizes(folder: Store, files: dict[str, int], copy: Path) -> None:
    for name, size in files.items():
        found = (copy / name).stat().st_size
        if found != size:
            raise OutputError(
                f"cannot read {folder.child(name).uri!r}: {found} of its {size} bytes came; it is "
                f"being written, or the network is broken: run again"
            )


def cache_folder() -> Path:
    """What ``TOKENFOCUS_CACHE`` names, or the default; it may not be there yet."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "tokenfocus")
    return Path(os.environ.get(CACHE) or default).expanduser().absolute()


def _client(filesystem: fs.FileSystem) -> Any:
    """Fsspec's client of the store that Arrow's file system reads."""
    handler = getattr(filesystem, "handler", None)
    if isinstance(handler, Handler):
        return handler.fs
    settings = filesystem.settings if isinstance(filesystem, S3) else S3Settings.from_environment()
    return _s3fs(settings)


def _s3fs(settings: S3Settings) -> Any:
    import s3fs

    return s3fs.S3FileSystem(
        anon=settings.anonymous,
        endpoint_url=settings.endpoint,
        client_kwargs={} if settings.region is None else {"region_name": settings.region},
        config_kwargs={
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": REQUEST_TIMEOUT,
            "retries": {"max_attempts": settings.attempts, "mode": "standard"},
        },
        use_listings_cache=False,
        skip_instance_cache=True,  # an earlier one has the keys of then
    )
