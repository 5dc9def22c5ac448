"""What Pillow gets to see of an encoded file, so that decoding is bounded and minds pixels only.

Pillow bounds the pixels of a picture, but not the work that a file asks for around them: millions
of parts, comments, scans. Here the parts are counted and compared with the picture before they are
decoded. What stands beside the pixels and says nothing about them (text, profiles, thumbnails) is
left out, so that no fault in it spoils a sound picture; what turns the picture upright stays.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zlib

from PIL import Image

from tokenfocus_ray.errors import ImageDecodeError

#: Most parts of a file: tiles or strips of a TIFF, segments of a JPEG.
MAX_PARTS = 65_536
#: Most steps of a loop over a file in Python, beside those over its pixels: below a second.
MAX_STEPS = 2**18
#: Most scans of a progressive JPEG, of which encoders write about ten, and most pixels of all.
MAX_SCANS, MAX_SCANNED_PIXELS = 100, 2**31
#: Most pixels of what Pillow decodes in Python, which takes seconds a million.
MAX_SLOW_PIXELS = 2**20
#: Pixels that a tile of a TIFF may have however small the picture is.
MAX_TILE_PIXELS = 2**22
#: Most bytes of text that may tell how to turn the picture.
_MAX_TEXT = 2**20

#: TIFF's tags of size, strips, planes and tiles.
_LAYOUT = (256, 257, 273, 277, 278, 279, 284, 322, 323, 324, 325)
#: By Pillow's name of the decoder.
_SLOW = {
    "bmp_rle": "a run-length BMP",
    "ppm_plain": "a plain-text PPM",
    "ppm": "a PPM with a maximum of its own",
}
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # restarts are part of a scan
_TEM, _SOI, _EOI, _SOS, _COMMENT = 0x01, 0xD8, 0xD9, 0xDA, 0xFE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
#: JPEG's application segments that matter: JFIF, EXIF and XMP, Adobe's colour transform.
_APPS_KEPT, _APPS = (0xE0, 0xE1, 0xEE), range(0xE0, 0xF0)


class Reader(io.BytesIO):
    """A file in memory that can be read a limited number of times.

    Whatever Pillow does in a loop over a file, it reads in each step.

    Args:
        data: The file.
        where: Named in the error.
    """

    def __init__(self, data: bytes, where: str) -> None:
        super().__init__(data)
        self.left, self._where = MAX_STEPS, where

    def read(self, size: int | None = -1, /) -> bytes:
        """See ``io.BytesIO``.

        Raises:
            ImageDecodeError: image_corrupt, beyond the limit.
        """
        self.left -= 1
        if self.left < 0:
            raise _endless(self._where)
        return super().read(size)


def open_bounded(form: str, data: bytes, where: str) -> Image.Image:
    """Reads the header.

    Args:
        form: Pillow's name of the format.
        data: The file.
        where: Named in errors.

    Returns:
        The picture, whose pixels are yet to be decoded.

    Raises:
        ImageDecodeError: image_corrupt, image_too_large: decoding would take too long.
    """
    match form:
        case "PNG":
            data = _png(data, where)
        case "JPEG":
            data = _jpeg(data, where)
        case "TIFF":
            _check_tiff(data, where)
    reader = Reader(data, where)
    image = Image.OPEN[form][0](reader, "")
    pixels = image.width * image.height
    for tile in getattr(image, "tile", ()):
        if (slow := _SLOW.get(tile[0])) and pixels > MAX_SLOW_PIXELS:
            raise ImageDecodeError(
                "image_too_large",
                f"{where} is {slow} of {image.width} x {image.height} = {pixels} pixels, the limit "
                f"for this kind is {MAX_SLOW_PIXELS}; save it as PNG",
            )
    reader.left = MAX_STEPS + 4 * min(pixels, MAX_SLOW_PIXELS)
    return image


def _endless(where: str, limit: int = MAX_STEPS) -> ImageDecodeError:
    return ImageDecodeError("image_corrupt", f"{where} has more than {limit} parts; save it again")


def _png(data: bytes, where: str) -> bytes:
    """The chunks that the pixels depend on, and EXIF or XMP; an APNG becomes its default image."""
    kept, start, at, drops, pixels = [data[:8]], 8, 8, False, False
    for _ in range(MAX_STEPS):
        if len(data) - at < 8:
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data) or not kind.isalpha():
            if pixels and kind != b"IDAT":  # whatever was behind the pixels
                kept.append(data[start:at])
                return b"".join(kept)
            break
        pixels = pixels or kind == b"IDAT"
        if not _is_kept(kind, data, at, end):
            kept.append(data[start:at])
            start, drops = end, True
        at = end
        if kind == b"IEND":
            break
    else:
        raise _endless(where)
    return b"".join([*kept, data[start:]]) if drops else data


def _is_kept(kind: bytes, data: bytes, at: int, end: int) -> bool:
    if kind[0] & 32 == 0 or kind == b"tRNS":  # critical, by its name
        return True
    if kind not in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
        return False
    body = data[at + 8 : end - 4]
    if len(body) > _MAX_TEXT or zlib.crc32(data[at + 4 : end - 4]) != _u32(data, end - 4):
        return False
    return kind == b"eXIf" or _turns(kind, body)


def _turns(kind: bytes, body: bytes) -> bool:
    """Whether Pillow looks into this text for the orientation, and can."""
    keyword, _, rest = body.partition(b"\0")
    if keyword not in (b"Raw profile type exif", b"XML:com.adobe.xmp"):
        return False
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"):
        return True
    packed = rest[1:] if kind == b"zTXt" else rest[2:].split(b"\0", 2)[-1]
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, _MAX_TEXT)
    except zlib.error:
        return False
    return unpacker.eof


def _jpeg(data: bytes, where: str) -> bytes:
    """Without the segments that tell nothing of the pixels; its scans are counted.

    What is no JPEG any more is left as it is, for Pillow to tell.
    """
    kept: list[bytes] = []
    start, at, pixels, scans, segments, told = 0, 2, 0, 0, 0, 0
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = found[1][0], found.end()
        segments += 1
        if marker == _EOI or segments > MAX_PARTS:
            break
        if marker in (_SOI, _TEM) or at + 2 > len(data):
            continue
        end = at + int.from_bytes(data[at : at + 2], "big")
        if marker in _FRAMES and len(data) >= at + 7:
            height, width = struct.unpack_from(">HH", data, at + 3)
            pixels = max(pixels, height * width)
        scans += marker == _SOS
        if not scans and (marker in _APPS or marker == _COMMENT):
            told += end - at
            if marker not in _APPS_KEPT or told > _MAX_TEXT:
                kept.append(data[start : found.start()])
                start = end
        if scans > MAX_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
            raise ImageDecodeError(
                "image_corrupt",
                f"{where} has more than {scans - 1} scans of {pixels} pixels each; save it again",
            )
        if scans == 1 and marker == _SOS and data.count(b"\xff\xda", end) == 0:
            break  # the usual: nothing more to count
        at = max(end, at)
    if segments > MAX_PARTS:
        raise _endless(where, MAX_PARTS)
    return b"".join([*kept, data[start:]]) if kept else data


def _check_tiff(data: bytes, where: str) -> None:
    """Compares the number of tiles or strips with the picture.

    Raises:
        ImageDecodeError: there are fewer than the picture takes, far more, or too many to decode.
    """
    if data[:4] == b"MM\0+":  # Pillow takes it for another kind, and libtiff does not
        raise ImageDecodeError(
            "image_corrupt",
            f"{where} is a big-endian BigTIFF, which is not read; save it as PNG",
        )
    entries = _tiff_entries(data)
    if len(entries) > MAX_PARTS:
        raise _endless(where, MAX_PARTS)
    tags = {tag: (value, count) for tag, value, count in entries}
    if len(tags) < len(entries):  # which of them counts depends on who reads
        raise ImageDecodeError("image_corrupt", f"{where} has a tag twice; save it again")
    (width, _), (height, _) = tags.get(256, (0, 0)), tags.get(257, (0, 0))
    tiled = 324 in tags
    kind, count = "tiles" if tiled else "strips", max(tags.get(t, (0, 0))[1] for t in (273, 324))
    columns = tags.get(322, (width, 1))[0] if tiled else width
    rows = tags.get(323 if tiled else 278, (height, 1))[0] or height
    rows = rows if tiled else min(rows, height)
    if not (width and height and columns and rows and count):
        return  # no picture: Pillow tells
    planes = tags.get(277, (1, 1))[0] if tags.get(284, (1, 1))[0] == 2 else 1
    needed = math.ceil(width / columns) * math.ceil(height / rows) * planes
    if count < needed <= MAX_PARTS:  # the rest would be black
        raise ImageDecodeError(
            "image_corrupt",
            f"{where} has {count} {kind} for {width} x {height} pixels, which takes {needed} of "
            f"{columns} x {rows}; fetch or write it again",
        )
    if max(count, needed) > MAX_PARTS or count > 4 * needed + 64:  # some writers leave spare ones
        raise ImageDecodeError(
            "image_corrupt",
            f"{where} has {count} {kind} for {width} x {height} pixels, which takes {needed} of "
            f"{columns} x {rows}; the limit is {MAX_PARTS}: save it again with larger ones",
        )
    if columns * rows > max(MAX_TILE_PIXELS, 4 * width * height):
        raise ImageDecodeError(
            "image_corrupt",
            f"{where} has {kind} of {columns} x {rows} for {width} x {height} pixels; save it "
            "again",
        )


def _tiff_entries(data: bytes) -> list[tuple[int, int, int]]:
    """Of the first picture: the layout's tags with their value and number of values."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:3] == b"+"
    entry, shape, head = (20, "HHQ", "Q") if big else (12, "HHI", "I")
    found: list[tuple[int, int, int]] = []
    try:
        (at,) = struct.unpack_from(order + head, data, 8 if big else 4)
        (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
        at += 8 if big else 2
        for i in range(min(entries, MAX_PARTS + 1)):
            tag, kind, count = struct.unpack_from(order + shape, data, at + i * entry)
            form = {1: "B", 3: "H", 16: "Q"}.get(kind, "I")
            value = struct.unpack_from(order + form, data, at + i * entry + (12 if big else 8))[0]
            if tag in _LAYOUT or entries > MAX_PARTS:
                found.append((tag, value, count))
    except struct.error:  # cut off
        pass
    return found


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
