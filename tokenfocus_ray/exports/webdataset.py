"""Rows with their images as samples of tar shards: ``KEY.jpg``, ``KEY.txt``, ``KEY.json``.

Layout: https://github.com/webdataset/webdataset and https://github.com/rom1504/img2dataset.
"""

from __future__ import annotations

import base64
import io
import json
import math
import tarfile
from collections.abc import Mapping
from typing import Any

from PIL import Image

from tokenfocus_ray.errors import ImageDecodeError
from tokenfocus_ray.scoring.file_kinds import kind_of

#: Pillow's name of a format -> the usual ending.
_ENDINGS = {
    "AVIF": "avif", "BMP": "bmp", "DIB": "bmp", "GIF": "gif", "JPEG": "jpg", "MPO": "jpg",
    "PNG": "png", "PPM": "ppm", "TIFF": "tif", "WEBP": "webp",
}  # fmt: skip


def image_ending(data: bytes) -> str:
    """The ending of an encoded image's file, by what it is, whatever it was called.

    Raises:
        ImageDecodeError: image_corrupt, where it is none; nothing is decoded to find out.
    """
    Image.init()  # some builds of Pillow lack formats
    formats = [name for name in _ENDINGS if name in Image.OPEN]
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            return _ENDINGS[str(image.format)]
    except (OSError, ValueError, KeyError, SyntaxError) as error:
        raise ImageDecodeError(
            "image_corrupt", f"it is {kind_of(data)} by now, and no image; put back what was scored"
        ) from error


def shard_rows(shard: int, shards: int, rows: int) -> tuple[int, int]:
    """First row of a shard, and the one before which it ends: sizes differ by one at the most.

    >>> [shard_rows(i, 3, 10) for i in range(3)]
    [(0, 3), (3, 6), (6, 10)]
    """
    return shard * rows // shards, (shard + 1) * rows // shards


def sample_key(shard: int, index: int, size: int) -> str:
    """Of a sample, as img2dataset has it: the shard and the place in it, with leading zeros.

    >>> sample_key(3, 17, 1000)
    '000030017'

    Args:
        shard: Number of the shard.
        index: Place in it.
        size: Most samples of a shard.
    """
    return f"{shard:05d}{index:0{max(4, len(str(size - 1)))}d}"


def add_sample(
    tar: tarfile.TarFile, key: str, image: bytes, prompt: str | None, row: Mapping[str, Any]
) -> None:
    """Adds the files of a sample; the same sample gives the same bytes.

    Args:
        tar: Open for writing.
        key: Of the sample.
        image: Encoded.
        prompt: None: there is no ``KEY.txt``.
        row: What ``KEY.json`` says.

    Raises:
        ImageDecodeError: the image is none; nothing was added.
    """
    files = {image_ending(image): image}
    if prompt is not None:
        files["txt"] = prompt.encode("utf-8", "surrogatepass")
    files["json"] = json.dumps(plain(row), ensure_ascii=False, allow_nan=False).encode()
    for ending, data in files.items():
        member = tarfile.TarInfo(f"{key}.{ending}")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))


def plain(value: Any) -> Any:
    """The value as JSON knows it.

    >>> import datetime
    >>> plain({"score": math.nan, "at": datetime.date(2026, 1, 2), "raw": [b"a"]})
    {'score': None, 'at': '2026-01-02', 'raw': ['YQ==']}

    Args:
        value: Of an Arrow column. Numbers that are not finite become null, bytes base64, and what
            JSON has no type for its text.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return base64.b64encode(value).decode()
        case Mapping():
            return {str(k): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
        case _:
            return str(value)
