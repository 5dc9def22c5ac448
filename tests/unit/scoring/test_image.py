"""Every kind of image that a manifest can hold, sound or broken."""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from tokenfocus_ray.errors import ImageDecodeError
from tokenfocus_ray.schema import ERROR_CODES
from tokenfocus_ray.scoring.image import FORMATS, MAX_PIXELS, decode

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255,) * 3, (0,) * 3
WAYS = "a path, encoded bytes, a PIL image, an array or a tensor"
KNOWN = "AVIF, BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def noise(height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(width: int, height: int, bits: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG by hand, for what Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + extra + body + chunk(b"IEND", b"")


def failure(source: Any, **options: Any) -> ImageDecodeError:
    with pytest.raises(ImageDecodeError) as caught:
        decode(source, **options)
    error = caught.value
    assert error.code in ERROR_CODES
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code, str(copy)) == (ImageDecodeError, error.code, str(error))
    return error


@pytest.fixture(autouse=True)
def _no_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# --- formats ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["BMP", "PNG", "PPM", "TIFF"])
def test_lossless_formats_keep_every_pixel(form: str) -> None:
    pixels = noise()
    found = decode(encoded(Image.fromarray(pixels), form))
    assert_array_equal(found, pixels)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.flags.writeable


@pytest.mark.parametrize("form", ["AVIF", "JPEG", "WEBP"])
def test_lossy_formats(form: str) -> None:
    found = decode(encoded(Image.new("RGB", (64, 48), (200, 100, 50)), form))
    assert found.shape == (48, 64, 3)
    assert np.abs(found.astype(int) - (200, 100, 50)).max() <= 4


def test_formats_are_those_listed() -> None:
    assert ", ".join(FORMATS) == KNOWN


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(form: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    opened: Any = Image.open(io.BytesIO(data))
    assert opened.n_frames == 3
    found = decode(data)
    assert found.shape == (6, 8, 3)
    assert_array_equal(found[0, 0], RED)


def test_pil_image_stays_at_its_frame() -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in (RED, GREEN)]
    image = Image.open(
        io.BytesIO(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    )
    image.seek(1)
    assert_array_equal(decode(image)[0, 0], GREEN)


@pytest.mark.parametrize("size", [(1, 1), (20000, 2), (2, 20000)])
def test_extreme_shapes(size: tuple[int, int]) -> None:
    assert decode(encoded(Image.new("RGB", size, RED), "PNG")).shape == (size[1], size[0], 3)


# --- colour ----------------------------------------------------------------------------------


def test_cmyk_jpeg() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert np.abs(decode(data)[8, 8].astype(int) - RED).max() <= 3


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled(form: str) -> None:
    gray = np.array([[0, 128, 129, 257], [256, 32768, 65406, 65535]], np.uint16)
    found = decode(encoded(Image.fromarray(gray), form))
    expected = np.rint(gray / 257).astype(np.uint8)
    assert expected[1, 3] == 255
    for channel in range(3):
        assert_array_equal(found[..., channel], expected)


def test_16_bit_gray_of_other_byte_order() -> None:
    image = Image.frombytes("I;16B", (2, 1), bytes([0xFF, 0xFF, 0x80, 0x00]))
    assert_array_equal(decode(image)[0, :, 0], [255, 128])


def test_16_bit_gray_in_32_bits() -> None:
    data = b"P5 3 1 65535\n" + bytes([0, 0, 0x80, 0, 0xFF, 0xFF])
    assert Image.open(io.BytesIO(data)).mode == "I"
    assert_array_equal(decode(data)[0, :, 0], [0, 128, 255])


def test_gray_beyond_16_bits_is_not_clipped() -> None:
    error = failure(Image.fromarray(np.array([[0, 70000]], np.int32)))
    assert error.code == "image_corrupt"
    assert str(error) == "image has values in 0..70000; scale it to 0..65535"


def test_16_bit_gray_with_a_transparent_value() -> None:
    data = encoded(Image.fromarray(np.array([[0, 65535, 257]], np.uint16)), "PNG", transparency=0)
    assert_array_equal(decode(data)[0, :, 0], [255, 255, 1])


def test_16_bit_colour_png() -> None:
    rows = b"\0" + struct.pack(">6H", 65535, 0, 32768, 0, 65535, 0)
    assert_array_equal(decode(png(2, 1, 16, 2, rows))[0], [(255, 0, 128), GREEN])


def test_palette() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    assert_array_equal(decode(encoded(image, "PNG"))[0], [RED, GREEN])
    assert_array_equal(decode(encoded(image, "GIF"))[0], [RED, GREEN])


@pytest.mark.parametrize("form", ["GIF", "PNG"])
def test_palette_with_a_transparent_entry(form: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    assert_array_equal(decode(encoded(image, form, transparency=1))[0], [RED, WHITE])


def test_palette_with_alpha() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*BLACK, *BLACK])
    image.putpixel((1, 0), 1)
    data = encoded(image, "PNG", transparency=bytes([255, 128]))
    assert_array_equal(decode(data)[0], [BLACK, (127,) * 3])


def test_rgba_is_laid_on_white() -> None:
    rgba = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 128], [255, 0, 0, 51]]], np.uint8)
    expected = [WHITE, BLACK, (127, 127, 127), (255, 204, 204)]  # 255 - alpha where black
    assert_array_equal(decode(encoded(Image.fromarray(rgba), "PNG"))[0], expected)
    assert_array_equal(decode(rgba)[0], expected)
    assert_array_equal(decode(Image.fromarray(rgba))[0], expected)


def test_gray_with_alpha() -> None:
    image = Image.fromarray(np.array([[[0, 0], [0, 255], [0, 128]]], np.uint8), "LA")
    assert_array_equal(decode(encoded(image, "PNG"))[0], [WHITE, BLACK, (127, 127, 127)])


def test_rgb_with_a_transparent_colour() -> None:
    image = Image.fromarray(np.array([[RED, GREEN]], np.uint8))
    assert_array_equal(decode(encoded(image, "PNG", transparency=RED))[0], [WHITE, GREEN])


def test_one_bit() -> None:
    image = Image.fromarray(np.array([[True, False]]))
    assert image.mode == "1"
    assert_array_equal(decode(encoded(image, "PNG"))[0], [WHITE, BLACK])


def test_icc_profile_is_ignored() -> None:
    data = encoded(Image.new("RGB", (2, 2), (9, 8, 7)), "PNG", icc_profile=b"no profile at all")
    assert_array_equal(decode(data)[0, 0], (9, 8, 7))


# --- EXIF ------------------------------------------------------------------------------------

UPRIGHT = np.zeros((16, 32, 3), np.uint8)
UPRIGHT[:8, :16], UPRIGHT[:8, 16:], UPRIGHT[8:, :16] = RED, GREEN, BLUE  # and black


def stored(orientation: int) -> np.ndarray:
    """How a camera stores the upright picture, from the table of the EXIF standard.

    The tag says which side of the picture row 0 and column 0 of the stored pixels are.
    """
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,  # top, left
        2: lambda a: a[:, ::-1],  # top, right
        3: lambda a: a[::-1, ::-1],  # bottom, right
        4: lambda a: a[::-1],  # bottom, left
        5: lambda a: a.swapaxes(0, 1),  # left, top
        6: lambda a: a[:, ::-1].swapaxes(0, 1),  # right, top
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),  # right, bottom
        8: lambda a: a[::-1].swapaxes(0, 1),  # left, bottom
    }
    return np.ascontiguousarray(turns[orientation](UPRIGHT))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(Image.fromarray(stored(orientation)), form, exif=exif))
    assert found.shape == (16, 32, 3)
    for y, x in [(3, 3), (3, 28), (12, 3), (12, 28)]:
        assert np.abs(found[y, x].astype(int) - UPRIGHT[y, x]).max() <= 8, (y, x)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(UPRIGHT), "PNG", exif=exif)
    assert_array_equal(decode(data), UPRIGHT)


def test_broken_exif_is_ignored() -> None:
    data = encoded(Image.fromarray(UPRIGHT), "PNG", exif=b"Exif\0\0no tags at all")
    assert_array_equal(decode(data), UPRIGHT)


# --- broken files ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_cut_off_anywhere_is_never_half_a_picture(form: str) -> None:
    pixels = noise()
    data = encoded(Image.fromarray(pixels), form)
    whole = decode(data)
    for end in range(0, len(data), max(1, len(data) // 40)):
        try:
            found = decode(data[:end])
        except ImageDecodeError as error:
            assert error.code == "image_corrupt"  # noqa: PT017
        else:
            assert_array_equal(found, whole)  # only what follows the pixels is missing


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_truncated_file(form: str, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    data = encoded(Image.fromarray(noise()), form)
    path.write_bytes(data[: len(data) // 2])
    error = failure(path)
    assert error.code == "image_corrupt"
    assert str(error).startswith(
        f"image {str(path)!r} ({len(data) // 2} bytes) is damaged or cut off (OSError: image file "
        "is truncated"
    )
    assert str(error).endswith("); fetch or write it again")


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.touch()
    error = failure(path)
    assert error.code == "image_corrupt"
    assert str(error) == f"image {str(path)!r} (0 bytes) is empty; give one of {KNOWN}"
    assert failure(b"").code == "image_corrupt"


def test_text_named_jpg(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_text("<html>404 not found</html>")
    error = failure(str(path), where="row 7: image")
    assert error.code == "image_corrupt"
    assert str(error) == (
        f"row 7: image {str(path)!r} (26 bytes) is no image that can be read: it looks like a web "
        f"page (HTML); give one of {KNOWN}"
    )


def test_no_content_of_a_file_that_is_no_image_stands_in_the_message() -> None:
    """A manifest of a stranger's may name any file; its message is written to the output."""
    secret = b"root:x:0:0:root:/root:/bin/bash\n"
    assert str(failure(secret)) == (
        f"image (32 bytes) is no image that can be read: it looks like text; give one of {KNOWN}"
    )
    for start in (
        b"",
        b"P6\n",
        b"P3 ",
        b"P1\n",
        b"Pf\n",
        b"BM",
        b"II*\0",
        b"GIF89a",
        b"\xff\xd8\xff",
    ):
        message = str(failure(start + secret))
        assert "root" not in message
        assert "bash" not in message


def test_file_name_does_not_decide(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.new("RGB", (3, 2), RED), "PNG"))
    assert_array_equal(decode(path)[0, 0], RED)


def test_eps_is_not_run() -> None:
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
    assert failure(data).code == "image_corrupt"


def test_decompression_bomb_is_seen_in_the_header() -> None:
    data = png(50000, 50000, 8, 2, b"")
    error = failure(data)
    assert error.code == "image_too_large"
    assert str(error) == (
        f"image ({len(data)} bytes) has 50000 x 50000 = 2500000000 pixels, the limit is 67108864; "
        "shrink it first"
    )


def test_limit_of_pixels() -> None:
    side = int(MAX_PIXELS**0.5)
    assert failure(png(side, side + 1, 8, 2, b"")).code == "image_too_large"
    assert failure(png(side, side, 8, 2, b"")).code == "image_corrupt"  # allowed, but no pixels
    assert failure(png(12000, 12000, 8, 2, b"")).code == "image_too_large"  # Pillow would warn
    assert failure(np.broadcast_to(np.uint8(0), (side, side + 1))).code == "image_too_large"


def test_bomb_in_a_frame_larger_than_its_gif() -> None:
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\x00;"
    assert failure(screen + frame).code == "image_too_large"


def test_no_pixels() -> None:
    assert failure(Image.new("RGB", (0, 5))).code == "image_corrupt"
    error = failure(np.zeros((0, 5, 3), np.uint8))
    assert str(error) == "image has 5 x 0 pixels; give one that is not empty"


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        (None, "(got None)"),
        (float("nan"), "(got nan)"),
        ("", "(an empty path)"),
        ({"bytes": None, "path": None}, "(got None)"),
    ],
)
def test_no_image(source: Any, seen: str) -> None:
    error = failure(source)
    assert error.code == "image_missing"
    assert str(error) == f"image is missing {seen}; give {WAYS}"


@pytest.mark.parametrize(("source", "kind"), [(5, "int"), ([[1]], "list"), (object(), "object")])
def test_no_kind_of_image(source: Any, kind: str) -> None:
    error = failure(source)
    assert error.code == "image_corrupt"
    assert str(error) == f"image is a {kind}: {source!r}; give {WAYS}"


# --- fetching --------------------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    path = str(tmp_path / "none.png")
    error = failure(path)
    assert error.code == "image_missing"
    assert str(error) == (
        f"image {path!r} does not exist (looked for {path!r}); check the path and the folder that "
        "relative paths start from"
    )


def test_file_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert failure(tmp_path / "a" / "b.png").code == "image_missing"


def test_directory(tmp_path: Path) -> None:
    error = failure(tmp_path)
    assert error.code == "image_not_a_file"
    assert str(error) == (f"image {str(tmp_path)!r} is a directory; give the path of an image file")


def test_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert failure(tmp_path / "pipe").code == "image_not_a_file"


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.touch()

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # root reads everything
    error = failure(path)
    assert error.code == "image_unreadable"
    assert str(error) == (
        f"image {str(path)!r} cannot be read (Permission denied); check the path, its permissions "
        "and the disk"
    )


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
def test_impossible_paths(path: str) -> None:
    error = failure(path)
    assert error.code == "image_unreadable"
    assert len(str(error)) < 400


@pytest.mark.parametrize("path", [None, "a.png", "", "/not/there.png"])
def test_hugging_face_struct_with_bytes(path: str | None) -> None:
    data = encoded(Image.new("RGB", (3, 2), RED), "PNG")
    assert_array_equal(decode({"bytes": data, "path": path})[0, 0], RED)


def test_hugging_face_struct_with_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (3, 2), RED), "PNG"))
    assert_array_equal(decode({"bytes": None, "path": str(tmp_path / "a.png")})[0, 0], RED)
    assert failure({"bytes": None, "path": "/not/there.png"}).code == "image_missing"
    error = failure({"bytes": b"", "path": "a.png"})
    assert str(error) == f"image 'a.png' (0 bytes) is empty; give one of {KNOWN}"


# --- arrays and tensors ----------------------------------------------------------------------


def test_arrays_of_every_layout() -> None:
    pixels = noise()
    assert_array_equal(decode(pixels), pixels)
    assert_array_equal(decode(pixels.transpose(2, 0, 1)), pixels)  # (3, 48, 64)
    assert_array_equal(decode(np.asfortranarray(pixels)), pixels)
    gray = pixels[..., 0]
    for source in (gray, gray[..., None], gray[None]):
        assert_array_equal(decode(source), np.repeat(gray[..., None], 3, axis=2))


def test_array_is_copied() -> None:
    pixels = noise()
    pixels.flags.writeable = False
    found = decode(pixels)
    assert found.flags.c_contiguous
    assert found.flags.writeable
    assert not np.shares_memory(found, pixels)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_float_array(kind: type[np.floating[Any]]) -> None:
    pixels = noise()
    assert_array_equal(decode((pixels / 255).astype(kind)), pixels)


def test_other_types_of_array() -> None:
    assert_array_equal(decode(np.array([[True, False]]))[0], [WHITE, BLACK])
    assert_array_equal(decode(np.array([[65535, 0]], np.uint16))[0], [WHITE, BLACK])
    error = failure(np.zeros((2, 2, 3), np.int64))
    assert error.code == "image_corrupt"
    assert str(error) == "image has the type int64; give uint8, uint16, or float in 0..1"


def test_float_overshoot_of_resizing() -> None:
    assert_array_equal(decode(np.array([[-1e-3, 1 + 1e-3]]))[0], [BLACK, WHITE])


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ([0, 255], "0..255"),
        ([-1, 1], "-1..1"),
        ([0, np.nan], "nan..nan"),
        ([0, np.inf], "0..inf"),
    ],
)
def test_float_out_of_range(values: list[float], seen: str) -> None:
    error = failure(np.array([values], np.float32))
    assert error.code == "image_corrupt"
    assert str(error) == f"image has values in {seen}; scale it to 0..1, or give uint8 in 0..255"


@pytest.mark.parametrize("shape", [(), (5,), (8, 8, 2), (8, 8, 5), (1, 3, 8, 8)])
def test_wrong_shape(shape: tuple[int, ...]) -> None:
    error = failure(np.zeros(shape, np.uint8))
    assert error.code == "image_corrupt"
    assert str(error) == (
        f"image has the shape {shape}; give one image as (height, width), (height, width, "
        "channels) or (channels, height, width) with 1, 3 or 4 channels"
    )


def test_three_wide_images() -> None:
    """Arrays are read as HWC and tensors as CHW where both readings are possible."""
    torch = pytest.importorskip("torch")
    pixels = noise(3, 3)
    assert_array_equal(decode(pixels), pixels)
    assert_array_equal(decode(torch.from_numpy(pixels)), pixels.transpose(1, 2, 0))


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    pixels = noise()
    hwc = torch.from_numpy(pixels)
    chw = hwc.permute(2, 0, 1)
    for source in (hwc, chw, chw / 255, (chw / 255).double(), hwc / 255, (chw / 255).half()):
        assert_array_equal(decode(source), pixels)
    assert_array_equal(decode((chw / 255).requires_grad_()), pixels)
    low = decode((chw / 255).bfloat16()).astype(int)
    assert np.abs(low - pixels).max() <= 1
    assert failure(chw[None]).code == "image_corrupt"
    assert failure(chw.float()).code == "image_corrupt"


# --- threads ---------------------------------------------------------------------------------


def test_threads_do_not_disturb_each_other() -> None:
    sound = encoded(Image.fromarray(noise()), "PNG")
    bomb = png(12000, 12000, 8, 2, b"")
    filters = list(warnings.filters)

    def run(number: int) -> str:
        try:
            return str(int(decode(bomb if number % 3 == 0 else sound)[..., 0].sum()))
        except ImageDecodeError as error:
            return error.code

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, range(60)))
    assert set(found[::3]) == {"image_too_large"}
    assert set(found[1::3]) == set(found[2::3]) == {str(int(noise()[..., 0].sum()))}
    assert warnings.filters == filters
