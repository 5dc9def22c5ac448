"""Any image source -> RGB uint8 at the source's own size; resizing belongs to the backbone.

What decides between several readings of a file:

- the first frame of an animation; of an APNG its default image;
- EXIF orientation is applied; EXIF that cannot be read is ignored, like ICC profiles and texts;
- transparency of every kind (RGBA, LA, palette, tRNS) is laid on white;
- CMYK becomes RGB; 1-bit becomes 0 and 255;
- 16-bit gray is scaled, so that 65535 becomes 255; 16-bit colour keeps its upper 8 bits;
- a file that is cut off is an error, never a picture that is half gray.

Everything here is free of torch and safe to call from several threads: no global of Pillow or of
``warnings`` is touched.

Legend: H height, W width in pixels, C channels.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from tokenfocus_ray.errors import ImageDecodeError
from tokenfocus_ray.scoring.containers import open_bounded
from tokenfocus_ray.scoring.fetch import WAYS, fetch, short
from tokenfocus_ray.scoring.file_kinds import kind_of

if TYPE_CHECKING:
    from torch import Tensor

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | Tensor | Mapping[str, Any]"
)

#: 8192 x 8192: a generator's 2048 px upscaled fourfold. Decoding one takes about 0.5 GB for a
#: moment, and every worker of a node may do so at once. It is checked on the header's size, before
#: any pixel is decoded, and stays below the size where Pillow itself starts to warn.
MAX_PIXELS = 8192 * 8192

#: Only these are tried. Others are no image formats of generators, and some of them (EPS) would
#: start another program on whatever bytes a manifest points to.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
Image.init()  # fills Image.OPEN; at import, so that threads do not race for it

_T = Image.Transpose
#: What sets a picture upright, by EXIF orientation, which counts from 1.
_UPRIGHT = (None, None, _T.FLIP_LEFT_RIGHT, _T.ROTATE_180, _T.FLIP_TOP_BOTTOM, _T.TRANSPOSE,
            _T.ROTATE_270, _T.TRANSVERSE, _T.ROTATE_90)  # fmt: skip
_SIDEWAYS = (_T.TRANSPOSE, _T.ROTATE_270, _T.TRANSVERSE, _T.ROTATE_90)
_CHANNELS = (1, 3, 4)


def decode(source: ImageSource | None, *, where: str = "image") -> NDArray[np.uint8]:
    """Decodes one image.

    Args:
        source: One of

            - a path, ``file://`` or ``s3://`` URI (see :mod:`~tokenfocus_ray.scoring.fetch`);
            - the bytes of an encoded file, in one of :data:`FORMATS`;
            - a PIL image, at the frame where it stands;
            - an array [H, W] or [H, W, C], or [C, H, W] where only that reading gives 1, 3 or 4
              channels; uint8, uint16, bool, or float in 0..1;
            - a torch tensor, the same but [C, H, W] first;
            - a mapping with ``bytes`` or ``path``, Hugging Face's image struct.
        where: How messages name the image, for example ``"row 7: image"``.

    Returns:
        [H, W, 3] uint8, contiguous and writable, sharing no memory with the source.

    Raises:
        ImageDecodeError: with one of the codes image_missing, image_not_a_file, image_unreadable,
            storage, image_corrupt, image_too_large.
    """
    if isinstance(source, Mapping):
        data, path = source.get("bytes"), source.get("path")
        if data is None:
            return decode(path, where=where)
        source, where = data, f"{where} {short(path)}" if path else where
    if source is None or (isinstance(source, float) and math.isnan(source)):
        raise ImageDecodeError("image_missing", f"{where} is missing (got {source}); give {WAYS}")
    if isinstance(source, (str, os.PathLike)):
        data = fetch(source, where=where)
        source, where = data, f"{where} {short(source)}"
    try:
        if isinstance(source, (bytes, bytearray, memoryview)):
            where = f"{where} ({len(source)} bytes)"
            source = _open(bytes(source), where)
        if isinstance(source, Image.Image):
            _check_size(*source.size, where)
            return _from_pil(source, where)
        if _is_tensor(source):
            tensor = source.detach().cpu()
            # NumPy has no bfloat16, so every float becomes float32
            array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
            return _from_array(array, where, channels_first=True)
        if hasattr(source, "__array__"):
            return _from_array(np.asarray(source), where, channels_first=False)
    except (ImageDecodeError, MemoryError):  # no memory: the machine's failure, not the row's
        raise
    except Image.DecompressionBombError as error:
        raise _bomb(error, where) from error
    except Exception as error:  # decoders of damaged bytes raise nearly anything
        raise _damaged(error, where) from error
    raise ImageDecodeError(
        "image_corrupt", f"{where} is a {type(source).__name__}: {source!r:.80}; give {WAYS}"
    )


def size_of(data: bytes, *, where: str = "image") -> tuple[int, int]:
    """Width and height of an encoded file once it stands upright, from its header.

    No pixel is decoded, so a file that is cut off behind its header has a size too. Of a PNG, whose
    EXIF may follow its pixels, it is that of the picture as it lies.

    Args:
        data: The file.
        where: How messages name the image.

    Raises:
        ImageDecodeError: image_corrupt, image_too_large.
    """
    try:
        image = _open(data, where)
        _check_size(*image.size, where)
        turn = None if image.format == "PNG" else _upright(image)
    except (ImageDecodeError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise _bomb(error, where) from error
    except Exception as error:
        raise _damaged(error, where) from error
    width, height = image.size
    return (height, width) if turn in _SIDEWAYS else (width, height)


def _bomb(error: Exception, where: str) -> ImageDecodeError:
    return ImageDecodeError("image_too_large", f"{where} is too large ({error}); shrink it first")


def _damaged(error: Exception, where: str) -> ImageDecodeError:
    return ImageDecodeError(
        "image_corrupt",
        f"{where} is damaged or cut off ({_reason(error)}); fetch or write it again",
    )


def _reason(error: Exception) -> str:
    """What a decoder says, but for pieces of the file, which some of them quote."""
    quotes = re.search(r"\bb['\"]", str(error))
    return type(error).__name__ if quotes else f"{type(error).__name__}: {error}"


def _is_tensor(source: object) -> TypeGuard[Tensor]:
    return hasattr(source, "is_floating_point")  # torch stays unimported


def _open(data: bytes, where: str) -> Image.Image:
    """Reads the header only. What the bytes are is told from their start, never from a name."""
    start = data[:16]
    for name in FORMATS:
        # not Image.open: it warns of large sizes, and threads share the filter of warnings
        _, accept = Image.OPEN[name]
        if accept is not None and accept(start) is True:
            return open_bounded(name, data, where)
    fault = f"is no image that can be read: it looks like {kind_of(data)}" if data else "is empty"
    raise ImageDecodeError("image_corrupt", f"{where} {fault}; give one of {', '.join(FORMATS)}")


def _check_size(width: int, height: int, where: str) -> None:
    if width * height > MAX_PIXELS:
        raise ImageDecodeError(
            "image_too_large",
            f"{where} has {width} x {height} = {width * height} pixels, the limit is {MAX_PIXELS}; "
            "shrink it first",
        )
    if width * height == 0:
        raise ImageDecodeError(
            "image_corrupt", f"{where} has {width} x {height} pixels; give one that is not empty"
        )


def _from_pil(image: Image.Image, where: str) -> NDArray[np.uint8]:
    image.load()  # first: a PNG's EXIF may follow its pixels
    turn = _upright(image)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep_gray(np.asarray(image), image.info.get("transparency"), where)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(rgba, mask=rgba)
    return np.array(image.convert("RGB"))


def _upright(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT[image.getexif().get(ExifTags.Base.Orientation, 1)]
    except Exception:  # a broken tag beside sound pixels: viewers show the picture as it lies
        return None


def _from_deep_gray(gray_HW: NDArray[Any], clear: object, where: str) -> NDArray[np.uint8]:
    values_HW = gray_HW
    if gray_HW.dtype.kind == "i":  # Pillow's mode I: 16-bit gray that it holds in 32 bits
        if gray_HW.min() < 0 or gray_HW.max() > 65535:
            raise _out_of_range(gray_HW, where, "scale it to 0..65535")
        values_HW = gray_HW.astype(np.uint16)
    scaled_HW = _to_uint8(values_HW, where)
    if isinstance(clear, int):
        scaled_HW[gray_HW == clear] = 255
    return np.repeat(scaled_HW[..., None], 3, axis=2)


def _from_array(array: NDArray[Any], where: str, *, channels_first: bool) -> NDArray[np.uint8]:
    shape, axes = array.shape, ((0, 2) if channels_first else (2, 0))
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and any(shape[axis] in _CHANNELS for axis in axes):
        axis = next(axis for axis in axes if shape[axis] in _CHANNELS)
        array = np.moveaxis(array, axis, 2)
    else:
        raise ImageDecodeError(
            "image_corrupt",
            f"{where} has the shape {shape}; give one image as (height, width), (height, width, "
            "channels) or (channels, height, width) with 1, 3 or 4 channels",
        )
    _check_size(array.shape[1], array.shape[0], where)
    pixels_HWC = _to_uint8(array, where)
    if pixels_HWC.shape[2] == 4:
        return _from_pil(Image.fromarray(np.ascontiguousarray(pixels_HWC)), where)
    if pixels_HWC.shape[2] == 1:
        return np.repeat(pixels_HWC, 3, axis=2)
    return np.array(pixels_HWC, order="C")


def _to_uint8(array: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Scales to 0..255, rounding to nearest. Never clips what is out of range: that is an error."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if kind == "u" and size == 1:
        return array
    if kind == "u" and size == 2:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if kind != "f":
        raise ImageDecodeError(
            "image_corrupt",
            f"{where} has the type {array.dtype}; give uint8, uint16, or float in 0..1",
        )
    slack = 0.5 / 255  # resizing overshoots a little; below half a step it is no other value
    if not (-slack <= array.min() and array.max() <= 1 + slack):  # not (...): NaN compares false
        raise _out_of_range(array, where, "scale it to 0..1, or give uint8 in 0..255")
    scaled: NDArray[np.float32] = np.clip(array.astype(np.float32), 0, 1) * np.float32(255)
    return np.rint(scaled).astype(np.uint8)


def _out_of_range(array: NDArray[Any], where: str, remedy: str) -> ImageDecodeError:
    span = f"{array.min():g}..{array.max():g}"
    return ImageDecodeError("image_corrupt", f"{where} has values in {span}; {remedy}")
