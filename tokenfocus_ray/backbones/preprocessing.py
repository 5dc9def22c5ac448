"""What a checkpoint says of its images: every key is followed or refused, none is passed over.

Keys, and what they are where a file leaves them out, are those of the families' image processors in
transformers. A null is refused where it matters: versions of transformers took it for the default,
for false, or for an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from PIL import Image

from tokenfocus_ray.backbones.images import BICUBIC, Normalization


class UnfollowedError(ValueError):
    """A checkpoint's file asks for what is not done here.

    Args:
        key: As the file spells it.
        value: What the file says.
        followed: What would be followed.
        file: Which of the checkpoint's files; None is the one about images.
    """

    def __init__(self, key: str, value: object, followed: str, file: str | None = None) -> None:
        super().__init__(key, value, followed, file)
        self.key, self.value, self.followed, self.file = key, value, followed, file

    def __str__(self) -> str:
        shown = json.dumps(self.value, default=str)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        return f"says {self.key} = {shown}, but only {self.followed} is followed here"


def require(file: Mapping[str, Any], key: str, *followed: Any) -> None:
    """A key has one of the values that are followed, or is left out.

    Raises:
        UnfollowedError: it has another.
    """
    value = file.get(key, followed[0])
    if value not in followed:
        raise UnfollowedError(key, value, " or ".join(json.dumps(f) for f in followed))


def check_processor(file: Mapping[str, Any], types: Collection[str]) -> None:
    """Refuses another image processor than the family's, and steps that are not taken here.

    Args:
        file: What the checkpoint says of its images.
        types: Names of the family's processor, without "Fast" and "Pil" for its backends.

    Raises:
        UnfollowedError: naming the key.
    """
    oldest = str(file.get("feature_extractor_type") or "")
    oldest = oldest.replace("FeatureExtractor", "ImageProcessor")  # as transformers reads it
    kind = str(file.get("image_processor_type") or oldest)
    if kind and kind.removesuffix("Fast").removesuffix("Pil") not in types:
        raise UnfollowedError("image_processor_type", kind, " or ".join(types))
    require(file, "do_resize", True)
    require(file, "do_center_crop", False, None)
    require(file, "do_pad", False, None)


def flag(file: Mapping[str, Any], key: str, default: bool) -> bool:
    """A key that is true or false.

    Raises:
        UnfollowedError: it is neither.
    """
    value = file.get(key, default)
    if not isinstance(value, bool):
        raise UnfollowedError(key, value, "true or false")
    return value


def positive(file: Mapping[str, Any], key: str, default: float) -> Any:
    """A key that is a number above zero.

    Raises:
        UnfollowedError: it is none.
    """
    value = file.get(key, default)
    if not _is_number(value) or not 0 < value < math.inf:
        raise UnfollowedError(key, value, "a number above 0")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def resampling(file: Mapping[str, Any]) -> Image.Resampling:
    """PIL's filter for resizing, by its number.

    Raises:
        UnfollowedError: there is no such filter.
    """
    value = file.get("resample", int(BICUBIC))
    if not _is_number(value) or value not in list(Image.Resampling):
        most = max(int(r) for r in Image.Resampling)
        raise UnfollowedError("resample", value, f"the number of a filter of Pillow's, 0..{most},")
    return Image.Resampling(int(value))


def normalization(file: Mapping[str, Any]) -> Normalization:
    """From ``image_mean``, ``image_std``, ``do_normalize``, ``do_rescale``, ``rescale_factor``.

    Raises:
        UnfollowedError: one of them cannot be followed.
    """
    default = Normalization()
    mean = _channels(file, "image_mean", default.mean)
    std = _channels(file, "image_std", default.std)
    if not flag(file, "do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    if not all(std):
        raise UnfollowedError("image_std", list(std), "a deviation above 0")
    factor = positive(file, "rescale_factor", 1 / 255)
    return Normalization(mean, std, 1 / factor if flag(file, "do_rescale", True) else 1.0)


def _channels(file: Mapping[str, Any], key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    """Three numbers; one stands for all three."""
    value = file.get(key, default)
    values = value if isinstance(value, (list, tuple)) else [value] * 3
    if len(values) != 3 or not all(_is_number(v) and math.isfinite(v) for v in values):
        raise UnfollowedError(key, value, "one number or three")
    return tuple(float(v) for v in values)
