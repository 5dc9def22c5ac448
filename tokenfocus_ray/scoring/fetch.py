"""The reference to an image -> its encoded bytes, from a local disk or a store."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Mapping
from typing import Any

from tokenfocus_ray.errors import ConfigError, ImageDecodeError
from tokenfocus_ray.schema import MAX_IMAGE_BYTES
from tokenfocus_ray.storage import Store, is_remote, public, split_uri, store_failed
from tokenfocus_ray.storage.fsspec_store import MissingClientError
from tokenfocus_ray.storage.s3 import s3_filesystem

#: What can be given as an image, for messages.
WAYS = "a path, encoded bytes, a PIL image, an array or a tensor"


def fetch(
    uri: str | os.PathLike[str],
    base: str | os.PathLike[str] | None = None,
    *,
    where: str = "image",
    confined: bool = False,
) -> bytes:
    """Reads the bytes that a URI names.

    Args:
        uri: A local path, a ``file://`` URI, or one of the stores that
            :mod:`~tokenfocus_ray.storage.schemes` lists.
        base: The folder, or prefix in a store, from which a relative path starts; the working
            folder when None.
        where: How messages name the image.
        confined: Whether only what lies below ``base`` is read, links followed.

    Returns:
        The file's bytes, not looked at.

    Raises:
        ImageDecodeError: image_missing, image_not_a_file, image_unreadable (no permission, an I/O
            error, another scheme), image_too_large (for any image), image_outside, or storage (the
            store failed or has no client here, which says nothing about the image).
        ConfigError: the settings of S3 are wrong.
    """
    label = f"{where} {short(uri)}"
    place = _place(uri, label)
    if not place:
        raise ImageDecodeError("image_missing", f"{where} is missing (an empty path); give {WAYS}")
    if base is not None:
        folder = _place(base, f"{label}: its base folder {short(base)}")
        place = _below(folder, place) if isinstance(place, str) else place
        if confined:
            place = _inside(folder, place, label)
    return _read_local(place, label) if isinstance(place, str) else _read_store(place, label)


def original(
    value: Any, uri: Any, base: str | None, *, column: str | None, confined: bool = False
) -> tuple[bytes, str]:
    """The encoded image of a manifest's row: what the row holds, or what it refers to.

    Args:
        value: Of its image column: bytes, a mapping of ``bytes`` and ``path``, a path, or None.
        uri: Of its column of paths, used where ``value`` is None.
        base: Folder that relative paths start from.
        column: Which is to have a value, for the message.
        confined: Whether only images below ``base`` are read.

    Returns:
        The bytes, not looked at, and how messages name the image.

    Raises:
        ImageDecodeError: as :func:`fetch`; image_missing where the row has neither.
    """
    if isinstance(value, Mapping):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, bytes):
        return value, "image"
    uri = value if value is not None else uri
    if uri is None or not str(uri).strip():
        raise ImageDecodeError(
            "image_missing",
            f"the row has no image: column {column!r} is empty; give bytes, a path or a URI",
        )
    return fetch(str(uri), base, confined=confined), f"image {str(uri)!r}"


def short(value: object) -> str:
    """A reference in quotes for messages: a long one is cut, a secret in it left out."""
    text = repr(public(value) if isinstance(value, (str, os.PathLike)) else value)
    return text if len(text) <= 200 else f"{text[:150]}...{text[-40:]}"


def _place(uri: str | os.PathLike[str], label: str) -> str | Store:
    """A local path, or where in a store."""
    scheme, path = split_uri(uri)
    if not scheme or (scheme == "file" and path.startswith("/")):
        return path
    if is_remote(os.fspath(uri)):
        if scheme == "s3":
            s3_filesystem()  # first, since wrong settings are no row's fault
        try:
            return Store.of(uri)
        except ConfigError as error:
            code = "storage" if isinstance(error, MissingClientError) else "image_unreadable"
            raise ImageDecodeError(code, f"{label} cannot be read: {error}") from error
    raise ImageDecodeError(
        "image_unreadable",
        f"{label} cannot be read: its scheme is {scheme!r}; what works is a local path, a path "
        "relative to the base folder, file:///absolute/path, s3://bucket/key or likewise in "
        "another store",
    )


def _below(base: str | Store, path: str) -> str | Store:
    if isinstance(base, str):
        return os.path.join(base, path)
    if os.path.isabs(path):
        return path  # as with a local base
    # "./" and "../" mean something to a disk only, and ".." does not lead out of a bucket
    scheme, place = split_uri(base.uri)
    host, _, prefix = place.partition("/")
    below = posixpath.normpath(posixpath.join("/", prefix, path))
    bucket = base.root.removesuffix(prefix).rstrip("/")  # as its client names it
    return Store(f"{scheme}://{host}{below}", base.filesystem, f"{bucket}{below}")


def _inside(folder: str | Store, place: str | Store, label: str) -> str | Store:
    """The place with its links followed.

    Raises:
        ImageDecodeError: image_outside.
    """
    found: str | Store | None = None
    if isinstance(folder, str) and isinstance(place, str):
        try:
            top, real = os.path.realpath(folder), os.path.realpath(place)
        except (OSError, ValueError) as error:
            raise _unreadable(label, error) from error
        found = real if os.path.commonpath([top, real]) == top else None
    elif isinstance(folder, Store) and isinstance(place, Store):
        names = (place.root, posixpath.normpath(place.root))  # some servers take ".." for a step
        inside = all(name.startswith(f"{folder.root}/") for name in names)
        found = place if inside and place.filesystem == folder.filesystem else None
    if found is None:
        base = folder if isinstance(folder, str) else folder.uri
        raise ImageDecodeError(
            "image_outside",
            f"{label} leads out of the folder {short(base)}, and only what lies in it may be read; "
            "move the image there, or leave --images-only out",
        )
    return found


def _check_bytes(size: int, label: str) -> None:
    if size > MAX_IMAGE_BYTES:
        raise ImageDecodeError(
            "image_too_large",
            f"{label} has {size} bytes, the limit is {MAX_IMAGE_BYTES}; shrink it first",
        )


def _read_local(path: str, label: str) -> bytes:
    try:
        found = os.stat(path)
        kind = found.st_mode
        if not stat.S_ISREG(kind):  # asked before opening: opening a pipe would wait for ever
            seen = "a directory" if stat.S_ISDIR(kind) else "no regular file"
            raise ImageDecodeError(
                "image_not_a_file", f"{label} is {seen}; give the path of an image file"
            )
        _check_bytes(found.st_size, label)
        with open(path, "rb") as file:
            return file.read()
    except ImageDecodeError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(label, os.path.abspath(path)) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise _unreadable(label, error) from error


def _unreadable(label: str, error: Exception) -> ImageDecodeError:
    reason = getattr(error, "strerror", None) or error
    return ImageDecodeError(
        "image_unreadable",
        f"{label} cannot be read ({reason}); check the path, its permissions and the disk",
    )


def _read_store(store: Store, label: str) -> bytes:
    try:
        with store.filesystem.open_input_file(store.root) as file:
            _check_bytes(file.size(), label)
            return file.read()
    except FileNotFoundError as error:
        raise _missing(label, store.uri) from error
    except ImageDecodeError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a key that cannot be
        cause, remedy = store.explain(error)
        message = f"{label} cannot be read ({cause}); {remedy}"
        if store_failed(error):
            raise ImageDecodeError("storage", message) from error
        raise ImageDecodeError("image_unreadable", message) from error


def _missing(label: str, place: str) -> ImageDecodeError:
    return ImageDecodeError(
        "image_missing",
        f"{label} does not exist (looked for {short(place)}); check the path and the folder that "
        "relative paths start from",
    )
