"""The reference to an image -> its encoded bytes, from a local disk or an object store."""

from __future__ import annotations

import os
import posixpath
import stat

from tokenfocus_ray.errors import ConfigError, ImageDecodeError
from tokenfocus_ray.s3 import s3_filesystem, store_failed
from tokenfocus_ray.storage import Store, public, split_uri

#: What can be given as an image, for messages.
WAYS = "a path, encoded bytes, a PIL image, an array or a tensor"


def fetch(
    uri: str | os.PathLike[str],
    base: str | os.PathLike[str] | None = None,
    *,
    where: str = "image",
) -> bytes:
    """Reads the bytes that a URI names.

    Args:
        uri: A local path, a ``file://`` or an ``s3://`` URI.
        base: The folder, or ``s3://`` prefix, from which a relative path starts; the working folder
            when None.
        where: How messages name the image.

    Returns:
        The file's bytes, not looked at.

    Raises:
        ImageDecodeError: image_missing, image_not_a_file, image_unreadable (no permission, an I/O
            error, another scheme), or storage (the object store failed, which says nothing about
            the image).
        ConfigError: the settings of S3 are wrong.
    """
    label = f"{where} {short(uri)}"
    place = _place(uri, label)
    if not place:
        raise ImageDecodeError("image_missing", f"{where} is missing (an empty path); give {WAYS}")
    if base is not None and isinstance(place, str):
        place = _below(_place(base, f"{label}: its base folder {short(base)}"), place)
    return _read_local(place, label) if isinstance(place, str) else _read_store(place, label)


def short(value: object) -> str:
    """A reference in quotes for messages: a long one is cut, a secret in it left out."""
    text = repr(public(value) if isinstance(value, (str, os.PathLike)) else value)
    return text if len(text) <= 200 else f"{text[:150]}...{text[-40:]}"


def _place(uri: str | os.PathLike[str], label: str) -> str | Store:
    """A local path, or where in an object store."""
    scheme, path = split_uri(uri)
    if not scheme or (scheme == "file" and path.startswith("/")):
        return path
    if scheme == "s3":
        s3_filesystem()  # first, since wrong settings are no row's fault
        try:
            return Store.of(uri)
        except ConfigError as error:
            message = f"{label} cannot be read: {error}"
            raise ImageDecodeError("image_unreadable", message) from error
    raise ImageDecodeError(
        "image_unreadable",
        f"{label} cannot be read: its scheme is {scheme!r}; what works is a local path, a path "
        "relative to the base folder, file:///absolute/path or s3://bucket/key",
    )


def _below(base: str | Store, path: str) -> str | Store:
    if isinstance(base, str):
        return os.path.join(base, path)
    if os.path.isabs(path):
        return path  # as with a local base
    bucket, _, prefix = base.root.partition("/")
    # "./" and "../" mean something to a disk only, and ".." does not lead out of a bucket
    root = bucket + posixpath.normpath(posixpath.join("/", prefix, path))
    return Store(f"s3://{root}", base.filesystem, root)


def _read_local(path: str, label: str) -> bytes:
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind):  # asked before opening: opening a pipe would wait for ever
            seen = "a directory" if stat.S_ISDIR(kind) else "no regular file"
            raise ImageDecodeError(
                "image_not_a_file", f"{label} is {seen}; give the path of an image file"
            )
        with open(path, "rb") as file:
            return file.read()
    except ImageDecodeError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(label, os.path.abspath(path)) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise ImageDecodeError(
            "image_unreadable",
            f"{label} cannot be read ({reason}); check the path, its permissions and the disk",
        ) from error


def _read_store(store: Store, label: str) -> bytes:
    try:
        with store.filesystem.open_input_file(store.root) as file:
            return file.read()
    except FileNotFoundError as error:
        raise _missing(label, store.uri) from error
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
