"""Decoding is bounded whatever a file asks for, and what is no pixel spoils no picture."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image, PngImagePlugin

from tokenfocus_ray.errors import ImageDecodeError
from tokenfocus_ray.scoring import containers
from tokenfocus_ray.scoring.containers import MAX_PARTS, MAX_SCANS, MAX_SLOW_PIXELS, MAX_STEPS
from tokenfocus_ray.scoring.image import decode

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def failure(data: bytes) -> ImageDecodeError:
    with pytest.raises(ImageDecodeError) as caught:
        decode(data)
    return caught.value


# --- parts are counted before they are decoded -----------------------------------------------


def tiff(
    size: tuple[int, int],
    tile: tuple[int, int],
    count: int,
    *,
    tiled: bool = True,
    order: str = "<",
    big: bool = False,
) -> bytes:
    """Gray pixels; all tiles, or strips of the tile's height, are the same zeros."""
    data = bytes(tile[0] * tile[1])
    word, wide = ("Q", 16) if big else ("I", 4)
    tags = [(256, 4, 1, size[0]), (257, 4, 1, size[1]), (258, 3, 1, 8), (259, 3, 1, 1),
            (262, 3, 1, 1), (277, 3, 1, 1)]  # fmt: skip
    places = (324, 325) if tiled else (273, 279)
    tags += [(322, 4, 1, tile[0]), (323, 4, 1, tile[1])] if tiled else [(278, 4, 1, tile[1])]
    head = 16 if big else 8
    length = (8 if big else 2) + (20 if big else 12) * (len(tags) + 2) + (8 if big else 4)
    step = 8 if big else 4
    lists = head + length
    pixels = lists + 2 * step * count if count > 1 else lists
    tags.append((places[0], wide, count, lists if count > 1 else pixels))
    tags.append((places[1], wide, count, lists + step * count if count > 1 else len(data)))
    out = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    out += struct.pack(f"{order}HHQ", 8, 0, 16) if big else struct.pack(f"{order}I", 8)
    out += struct.pack(order + ("Q" if big else "H"), len(tags))
    for tag, kind, n, value in sorted(tags):
        form = "H" if kind == 3 else word
        room = struct.calcsize(f"={word}")
        out += struct.pack(f"{order}HH{word}", tag, kind, n)
        out += struct.pack(order + form, value).ljust(room, b"\0")
    out += bytes(step)
    if count > 1:
        out += struct.pack(f"{order}{word}", pixels) * count
        out += struct.pack(f"{order}{word}", len(data)) * count
    return out + data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            tiff((16, 16), (1, 1), 200_000),
            "has 200000 tiles for 16 x 16 pixels, which takes 256 of 1 x 1",
        ),
        (
            tiff((448, 448), (1, 1), 448 * 448, order=">"),
            "has 200704 tiles for 448 x 448 pixels, which takes 200704 of 1 x 1",
        ),
        (
            tiff((64, 64), (64, 1), 90_000, tiled=False),
            "has 90000 strips for 64 x 64 pixels, which takes 64 of 64 x 1",
        ),
        (
            tiff((1, 70_000), (1, 1), 70_000, tiled=False, big=True),
            "has 70000 strips for 1 x 70000 pixels, which takes 70000 of 1 x 1",
        ),
    ],
    ids=["more than the picture", "one a pixel", "strips", "one a line, BigTIFF"],
)
def test_tiles_are_counted_before_decoding(data: bytes, message: str) -> None:
    """Before, two million took a minute."""
    error = failure(data)
    assert error.code == "image_corrupt"
    assert str(error) == (
        f"image ({len(data)} bytes) {message}; the limit is 65536: save it again with larger ones"
    )


def test_a_tile_is_not_larger_than_its_picture_by_far() -> None:
    """libtiff would unpack it whole."""
    data = tiff((16, 16), (16, 16), 1).replace(
        struct.pack("<HHII", 322, 4, 1, 16), struct.pack("<HHII", 322, 4, 1, 2**20)
    )
    assert str(failure(data)) == (
        f"image ({len(data)} bytes) has tiles of 1048576 x 16 for 16 x 16 pixels; save it again"
    )


def test_tags_of_a_tiff_that_readers_take_differently_are_refused() -> None:
    """Twice, more than there can be, or of a kind that only one of two decoders knows."""
    tag = struct.pack("<HHII", 277, 3, 1, 1)  # samples a pixel: becomes the tiles once more
    twice = tiff((16, 16), (16, 16), 1).replace(tag, struct.pack("<HHII", 324, 99, 1, 0))
    assert str(failure(twice)).endswith(" has a tag twice; save it again")
    sound = tiff((16, 16), (16, 16), 1, big=True)
    many = sound[:16] + struct.pack("<Q", 2**40) + sound[24:] + bytes(20) * 66_000
    assert str(failure(many)).endswith(" has more than 65536 parts; save it again")
    assert str(failure(tiff((16, 16), (16, 16), 1, order=">", big=True))).endswith(
        " is a big-endian BigTIFF, which is not read; save it as PNG"
    )
    assert decode(sound).shape == (16, 16, 3)


def test_a_tiff_without_all_its_tiles_is_no_half_picture() -> None:
    """Before, the rest was black."""
    for tiled, kind in ((True, "tiles"), (False, "strips")):
        data = tiff((64, 48), (64, 16), 2, tiled=tiled)
        assert str(failure(data)) == (
            f"image ({len(data)} bytes) has 2 {kind} for 64 x 48 pixels, which takes 3 of 64 x 16; "
            f"fetch or write it again"
        )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tiled", [True, False])
def test_ordinary_tiles_and_strips_are_decoded(order: str, tiled: bool) -> None:
    count = 4 * 3 if tiled else 3
    data = tiff((64, 48), (16 if tiled else 64, 16), count, tiled=tiled, order=order)
    assert_array_equal(decode(data), np.zeros((48, 64, 3), np.uint8))
    small = tiff((5, 5), (256, 256), 1) if tiled else tiff((5, 5), (5, 2**20), 1, tiled=False)
    assert decode(small).shape == (5, 5, 3)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiffs_are_decoded(compression: str | None) -> None:
    data = encoded(Image.fromarray(PIXELS), "TIFF", compression=compression, strip_size=512)
    assert_array_equal(decode(data), PIXELS)


def chunk(kind: bytes, data: bytes = b"", *, sound: bool = True) -> bytes:
    crc = zlib.crc32(kind + data) ^ (not sound)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png_with(*before: bytes, after: bytes = b"", mode: str = "RGB", **options: Any) -> bytes:
    """A PNG of :data:`PIXELS` with chunks before its pixels and behind them."""
    image = Image.fromarray(PIXELS).convert(mode)
    data = encoded(image, "PNG", **options)
    first, last = data.index(b"IDAT") - 4, data.rindex(b"IEND") - 4
    return data[:first] + b"".join(before) + data[first:last] + after + data[last:]


@pytest.mark.parametrize(
    "data",
    [
        b"P6\n#" + b"x" * MAX_STEPS + b"\n1 1\n255\n\0\0\0",
        b"\xff\xd8\xff\xe0\0\2" + b"x" * MAX_STEPS + encoded(Image.fromarray(PIXELS), "JPEG")[2:],
        b"\xff\xd8" + b"\xff\xfe\0\2" * 70_000 + encoded(Image.fromarray(PIXELS), "JPEG")[2:],
        b"GIF89a\1\0\1\0\0\0\0!\x01" + b"\1x" * MAX_STEPS,
        png_with(chunk(b"IDAT") * MAX_STEPS),
        png_with(chunk(b"tEXt") * MAX_STEPS),
    ],
    ids=["comment of a PPM", "junk in a JPEG", "comments of a JPEG", "blocks of a GIF",
         "empty pixels of a PNG", "texts of a PNG"],
)  # fmt: skip
def test_a_file_of_endless_parts_is_refused(data: bytes) -> None:
    """Before, 50 MB of comment took 50 s."""
    error = failure(data)
    assert error.code == "image_corrupt"
    limit = MAX_PARTS if data.startswith(b"\xff\xd8\xff\xfe") else MAX_STEPS
    assert str(error) == f"image ({len(data)} bytes) has more than {limit} parts; save it again"


def bmp_rle(width: int, height: int, body: bytes) -> bytes:
    """All colours are black."""
    sizes = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    start = 14 + len(sizes) + 1024
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + sizes + bytes(1024) + body


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda side: bmp_rle(side, side, b"\1\0\0\0" * side), "a run-length BMP"),
        (lambda side: b"P3 %d %d 1 " % (side, side) + b"0 " * 3 * side * side, "a plain-text PPM"),
        (
            lambda side: b"P6 %d %d 9 " % (side, side) + bytes(3 * side**2),
            "a PPM with a maximum of its own",
        ),
    ],
    ids=["BMP", "plain PPM", "PPM with a maximum"],
)
def test_what_is_decoded_in_python_has_a_limit_of_its_own(
    make: Callable[[int], bytes], kind: str
) -> None:
    """A few bytes of a BMP ask for as many steps as the picture has pixels."""
    assert_array_equal(decode(make(64)), np.zeros((64, 64, 3), np.uint8))
    data = make(1025) if kind == "a run-length BMP" else make(1025)[:64]
    error = failure(data)
    assert error.code == "image_too_large"
    assert str(error) == (
        f"image ({len(data)} bytes) is {kind} of 1025 x 1025 = 1050625 pixels, the limit for this "
        f"kind is {MAX_SLOW_PIXELS}; save it as PNG"
    )


def with_scans(data: bytes, count: int) -> bytes:
    """A progressive JPEG whose last scan comes so many times more."""
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + data[-2:]


def test_scans_of_a_jpeg_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each goes over the whole picture again."""
    sound = encoded(Image.fromarray(PIXELS), "JPEG", progressive=True)
    whole = decode(sound)
    assert decode(with_scans(sound, 20)).shape == whole.shape
    data = with_scans(sound, MAX_SCANS)
    assert str(failure(data)) == (
        f"image ({len(data)} bytes) has more than 100 scans of 1536 pixels each; save it again"
    )
    monkeypatch.setattr(containers, "MAX_SCANNED_PIXELS", 15 * PIXELS[..., 0].size)
    assert_array_equal(decode(sound), whole)
    assert "has more than 15 scans" in str(failure(with_scans(sound, 20)))


def test_what_follows_a_jpeg_is_not_counted() -> None:
    """Phones put a film behind the picture."""
    sound = encoded(Image.fromarray(PIXELS), "JPEG")
    assert_array_equal(decode(sound + b"\xff\xda\0\2" * 1000), decode(sound))


# --- what is no pixel does not count ---------------------------------------------------------

LONG = b"x" * 2**21
TEXTS = [
    chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
    chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(LONG)),
    chunk(b"tEXt", b"workflow\0" + LONG),
    chunk(b"iCCP", b"icc\0\0" + zlib.compress(LONG)),
    chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**20))) * 65,
    chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(LONG)),
    chunk(b"tEXt", b"parameters\0a pig", sound=False),
    chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>", sound=False),
    chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"profile"), sound=False),
    chunk(b"gAMA", b"\0\0\0\1", sound=False),
    chunk(b"eXIf", b"MM\0*", sound=False),
    chunk(b"pHYs", b"short"),
    chunk(b"zTXt", b"Comment\0\0no zlib"),
    chunk(b"acTL", b"\0\0"),
]
IDS = [
    *("zTXt", "iTXt", "tEXt", "iCCP", "many", "XMP", "checksum of tEXt", "checksum of XMP"),
    *("checksum of iCCP", "checksum of gAMA", "checksum of EXIF", "short", "no zlib", "APNG"),
]


@pytest.mark.parametrize("extra", TEXTS, ids=IDS)
def test_what_is_no_pixel_does_not_spoil_a_png(extra: bytes) -> None:
    """Generators keep whole workflows there."""
    assert_array_equal(decode(png_with(extra)), PIXELS)
    assert_array_equal(decode(png_with(after=extra)), PIXELS)
    cut = png_with(after=extra)
    assert_array_equal(decode(cut[: -12 - len(extra) // 2]), PIXELS)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS"])
def test_a_wrong_checksum_of_what_pixels_depend_on_is_told(kind: bytes) -> None:
    data = bytearray(png_with(mode="P", transparency=3))
    at = data.index(kind) - 4
    end = at + 12 + int.from_bytes(data[at : at + 4], "big")
    decode(bytes(data))
    data[end - 1] ^= 1
    assert failure(bytes(data)).code == "image_corrupt"


def test_pixels_that_are_cut_off_stay_an_error_beside_a_text() -> None:
    data = png_with(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)))
    error = failure(data[: data.index(b"IDAT") + 400])
    assert error.code == "image_corrupt"
    assert "OSError: image file is truncated" in str(error)


def test_pixels_of_a_png_that_needs_nothing_left_out_are_not_copied() -> None:
    data = png_with()
    assert containers._png(data, "image") is data


XMP = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def _info(keyword: str, text: str, **options: Any) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    add = info.add_itxt if keyword.startswith("XML") else info.add_text
    add(keyword, text, **options)
    return info


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("keyword", ["XML:com.adobe.xmp", "Raw profile type exif"])
def test_the_orientation_in_a_text_of_a_png_still_counts(keyword: str, packed: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = exif.tobytes().hex()
    text = XMP if keyword.startswith("XML") else f"\nexif\n{len(raw) // 2}\n{raw}"
    data = encoded(Image.fromarray(PIXELS), "PNG", pnginfo=_info(keyword, text, zip=packed))
    assert_array_equal(decode(data), np.rot90(PIXELS, -1))


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


@pytest.mark.parametrize(
    "extra",
    [
        segment(0xED, b"Photoshop 3.0\0008BIM\x04\x04"),
        segment(0xE2, b"ICC_PROFILE\0\1"),
        segment(0xE2, b"MPF\0MM\0*\0\0\0\x08\0\0"),
        segment(0xE1, b"Exif\0\0" + b"no tags") * 40,
        segment(0xFE, bytes(65_000)),
    ],
    ids=["Photoshop", "ICC", "MPF", "EXIF", "comment"],
)
def test_what_is_no_pixel_does_not_spoil_a_jpeg(extra: bytes) -> None:
    sound = encoded(Image.fromarray(PIXELS), "JPEG")
    assert_array_equal(decode(sound[:2] + extra + sound[2:]), decode(sound))


def test_a_jpeg_keeps_its_colours_and_stands_upright() -> None:
    """Adobe's segment inverts CMYK; XMP may turn the picture where EXIF does not."""
    gray = Image.fromarray(PIXELS).convert("L")
    cmyk = encoded(gray.convert("CMYK"), "JPEG", quality=100)
    assert np.abs(decode(cmyk)[..., 0].astype(int) - np.asarray(gray)).max() < 8
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP.encode())
    sound = encoded(Image.fromarray(PIXELS), "JPEG")
    turned = sound[:2] + segment(0xEC, bytes(9)) + xmp + sound[2:]
    assert_array_equal(decode(turned), np.rot90(decode(sound), -1))
