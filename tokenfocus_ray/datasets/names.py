"""What a file's name says: whether it is an image, which sample it is of, who put it there."""

from __future__ import annotations

import re
from collections import Counter

#: Endings of image files, in folders and tar shards: those of the formats that can be decoded.
IMAGE_ENDINGS = (
    "apng", "avif", "bmp", "dib", "gif", "jfif", "jpe", "jpeg", "jpg", "pbm", "pgm", "png", "pnm",
    "ppm", "tif", "tiff", "webp",
)  # fmt: skip

#: In a folder that an import writes: what it was begun with, and that it is finished.
IMPORT_BEGUN, IMPORT_DONE = "__job/import.json", "__job/done.json"
#: webdataset's rule: the key ends at the first dot of the file's own name.
_KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)


def ending(name: str) -> str:
    """What follows the last dot, in lower case.

    >>> ending("a.b/A Cat.JPG"), ending("a.b/readme")
    ('jpg', '')
    """
    own = name.rpartition("/")[2]
    return own.rpartition(".")[2].lower() if "." in own else ""


def is_image(name: str) -> bool:
    """Whether the ending is one of :data:`IMAGE_ENDINGS`."""
    return ending(name) in IMAGE_ENDINGS


def is_hidden(name: str) -> bool:
    """Whether a system put the file there: ``.DS_Store``, ``._photo.jpg``, all in ``__MACOSX``.

    >>> [is_hidden(n) for n in ("./a/b.jpg", "a/._b.jpg", ".cache/b.jpg", "__MACOSX/a/b.jpg")]
    [False, True, True, True]
    """
    parts = name.split("/")
    return any((p.startswith(".") and p not in (".", "..")) or p == "__MACOSX" for p in parts)


def tar_key(name: str) -> tuple[str, str] | None:
    """Key and ending of a file in a tar shard; None where there is no ending.

    >>> tar_key("a.b/photo.1.PNG"), tar_key("README")
    (('a.b/photo', '1.png'), None)
    """
    match = _KEY.fullmatch(name)
    return (match[1], match[2].lower()) if match else None


def counted(reasons: Counter[str]) -> str:
    """Counts in words.

    >>> counted(Counter({"hidden": 2, ".md": 1}))
    '2 hidden, 1 .md'
    """
    return ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common())
