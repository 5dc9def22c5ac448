"""How a backbone wants its images, and what they are on their way to its vision tower.

NumPy and PIL only, so that decoding workers never load torch; the normalisation, on the backbone's
device, is the one step that does.

Legend: N tiles, H height, W width, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BICUBIC = Image.Resampling.BICUBIC


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """What an image becomes before the vision tower.

    Attributes:
        width: Width in pixels to resize to.
        height: Height in pixels to resize to.
        n_visual_tokens: Image tokens that the language model will see.
        grid: (rows, columns) of image tokens where positions are two-dimensional.
    """

    width: int
    height: int
    n_visual_tokens: int
    grid: tuple[int, int]


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image at its final size: the largest thing that crosses from the CPU to the GPU stage.

    Attributes:
        tiles_NHWC: uint8 RGB tiles; one, except for backbones that cut images into tiles.
        n_visual_tokens: Image tokens that the language model will see.
        grid: (rows, columns) of image tokens where positions are two-dimensional.
        width: Width of the source image in pixels.
        height: Height of the source image in pixels.
    """

    tiles_NHWC: NDArray[np.uint8]
    n_visual_tokens: int
    grid: tuple[int, int]
    width: int
    height: int


class ImageSpec(Protocol):
    """How a backbone wants its images; small, picklable and free of torch."""

    def plan(self, width: int, height: int) -> ImagePlan:
        """Final size and token count of a source image of this size in pixels.

        Raises:
            ImageDecodeError: code ``image_aspect_ratio`` when the family cannot take the shape.
        """
        ...

    def prepare(self, image_HWC: NDArray[np.uint8]) -> PreparedImage:
        """Resizes (and tiles) an RGB image."""
        ...

    def limited(self, max_visual_tokens: int) -> ImageSpec:
        """The same spec with at most so many image tokens an image."""
        ...


def rgb_resize(
    image_HWC: NDArray[np.uint8], width: int, height: int, resample: Image.Resampling = BICUBIC
) -> NDArray[np.uint8]:
    """PIL's resizing, as in the PIL backend of both families' image processors."""
    if image_HWC.shape[:2] == (height, width):
        return np.ascontiguousarray(image_HWC)
    resized = Image.fromarray(image_HWC).resize((width, height), resample)
    return np.asarray(resized, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Normalization:
    """What becomes of pixel values before the vision tower.

    Attributes:
        mean: Channel means after the division, CLIP's by default.
        std: Channel deviations.
        divisor: What values of 0..255 are divided by first.
    """

    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    divisor: float = 255.0

    def __call__(self, tiles_NHWC: NDArray[np.uint8], device: torch.device) -> Tensor:
        """uint8 tiles to normalised float32 [N, C, H, W] on a device."""
        import torch

        # moved as uint8: a quarter of the bytes
        pixels = torch.tensor(tiles_NHWC, device=device)
        pixels = pixels.permute(0, 3, 1, 2).to(torch.float32) / self.divisor
        mean = torch.tensor(self.mean, device=device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=device).view(1, -1, 1, 1)
        return (pixels - mean) / std
