"""What tells a file that was written anew from the same one, where size and layout do not."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tokenfocus_ray.datasets.files import File, unreadable
from tokenfocus_ray.storage import Store

#: Local files of at most so many bytes together are read whole: a copy has other times.
HASHED_BYTES = 256 * 2**20
#: What files are watched by; a job that was begun by an earlier version has none of these.
STAMPS = ("bytes", "etags", "mtimes")
_THREADS = 16


def stamps(files: Sequence[File]) -> dict[str, str]:
    """Hashes of the files' content, of S3's ETags, or where the content is large, of times.

    Args:
        files: Of one source.

    Returns:
        Some of :data:`STAMPS` -> a hash over all files that are watched so.

    Raises:
        ManifestError: one cannot be read.
    """
    local = sum(f.size for f in files if f.data is None and Store.of(f.uri).is_local)
    with ThreadPoolExecutor(_THREADS) as pool:
        each = list(pool.map(functools.partial(_stamp, local <= HASHED_BYTES), files))
    found = {}
    for kind in sorted({kind for kind, _ in each}):
        digest = hashlib.sha256()
        for file, (its_kind, stamp) in zip(files, each, strict=True):
            if its_kind == kind:
                name = file.name.encode("utf-8", "surrogateescape")
                digest.update(name + b"\0" + stamp + b"\0")
        found[kind] = digest.hexdigest()[:16]
    return found


def _stamp(are_small: bool, file: File) -> tuple[str, bytes]:
    if file.data is not None:
        return "bytes", hashlib.sha256(file.data).digest()
    store = Store.of(file.uri)
    try:
        if not store.is_local:
            return "etags", store.version()
        if not are_small:
            return "mtimes", str(os.stat(store.root).st_mtime_ns).encode()
        with open(store.root, "rb") as near:
            return "bytes", hashlib.file_digest(near, "sha256").digest()
    except OSError as error:
        raise unreadable(store, error) from error
