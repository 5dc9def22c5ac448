"""Qwen2.5-VL (arXiv 2502.13923): dynamic resolution, windowed vision tower, M-RoPE decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.backbones.flops import linear_flops
from tokenfocus_ray.backbones.images import (
    BICUBIC,
    ImagePlan,
    ImageSpec,
    Normalization,
    PreparedImage,
    rgb_resize,
)
from tokenfocus_ray.backbones.markup import ChatMarkup
from tokenfocus_ray.backbones.preprocessing import (
    UnfollowedError,
    check_processor,
    normalization,
    positive,
    require,
    resampling,
)
from tokenfocus_ray.errors import ImageDecodeError

if TYPE_CHECKING:
    from torch import Tensor

    from tokenfocus_ray.backbones.packing import PackedBatch

MAX_ASPECT_RATIO = 200
#: A still image stands so often on the time axis.
TEMPORAL = 2


@dataclass(frozen=True, slots=True)
class QwenImageSpec:
    """Both sides rounded to whole tokens, the area kept between two limits.

    Attributes:
        patch: Side of a patch in pixels.
        merge: Patches a side that make one token.
        min_pixels: Smallest area after resizing.
        max_pixels: Largest area after resizing.
        normalization: Of the pixel values.
        resample: Filter of the resizing.
        max_tokens: Most image tokens; None leaves the family's rule alone, which exceeds
            ``max_pixels`` for thin images and where both limits are equal.
    """

    patch: int = 14
    merge: int = 2
    min_pixels: int = 56 * 56
    max_pixels: int = 28 * 28 * 1280
    normalization: Normalization = Normalization()
    resample: Image.Resampling = BICUBIC
    max_tokens: int | None = None

    @property
    def factor(self) -> int:
        """Side of a token in pixels."""
        return self.patch * self.merge

    def plan(self, width: int, height: int) -> ImagePlan:
        """See :class:`ImageSpec`; equals the family's own rule (Python's round half to even)."""
        ratio = max(width, height) / min(width, height)
        if ratio > MAX_ASPECT_RATIO:
            raise ImageDecodeError(
                "image_aspect_ratio",
                f"image of {width} x {height} pixels has an aspect ratio of {ratio:.0f}; "
                f"qwen2_5_vl takes at most {MAX_ASPECT_RATIO}: crop or pad it",
            )
        f = self.factor
        w, h = round(width / f) * f, round(height / f) * f
        if w * h > self.max_pixels:
            scale = math.sqrt(width * height / self.max_pixels)
            w = max(f, math.floor(width / scale / f) * f)
            h = max(f, math.floor(height / scale / f) * f)
        elif w * h < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (width * height))
            w, h = math.ceil(width * scale / f) * f, math.ceil(height * scale / f) * f
        rows, columns = h // f, w // f
        if self.max_tokens is not None and rows * columns > self.max_tokens:
            if rows < columns:
                columns = max(1, self.max_tokens // rows)
            else:
                rows = max(1, self.max_tokens // columns)
            rows, columns = min(rows, self.max_tokens), min(columns, self.max_tokens)
        return ImagePlan(columns * f, rows * f, rows * columns, (rows, columns))

    def prepare(self, image_HWC: NDArray[np.uint8]) -> PreparedImage:
        """See :class:`ImageSpec`."""
        height, width = image_HWC.shape[:2]
        plan = self.plan(width, height)
        tile = rgb_resize(image_HWC, plan.width, plan.height, self.resample)
        return PreparedImage(tile[None], plan.n_visual_tokens, plan.grid, width, height)

    def limited(self, max_visual_tokens: int) -> QwenImageSpec:
        """See :class:`ImageSpec`."""
        most = min(self.max_pixels, max_visual_tokens * self.factor**2)
        return replace(
            self,
            max_pixels=most,
            min_pixels=min(self.min_pixels, most),
            max_tokens=min(max_visual_tokens, self.max_tokens or max_visual_tokens),
        )

    def patchify(self, pixels_CHW: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Normalised pixels to flat patches in token order.

        Args:
            pixels_CHW: Both sides multiples of :attr:`factor`.

        Returns:
            Patches [P, C * 2 * patch * patch] (a still image stands twice on the time axis) and
            the grid (1, rows, columns) of patches.
        """
        channels, height, width = pixels_CHW.shape
        p, m = self.patch, self.merge
        rows, columns = height // p, width // p
        blocks = pixels_CHW.reshape(channels, rows // m, m, p, columns // m, m, p)
        # (row, column, row in token, column in token, channel, y, x)
        blocks = blocks.permute(1, 4, 2, 5, 0, 3, 6).unsqueeze(5)
        patches = blocks.expand(-1, -1, -1, -1, -1, TEMPORAL, -1, -1).reshape(rows * columns, -1)
        return patches, (1, rows, columns)


def pixel_limits(file: Mapping[str, Any], default: tuple[int, int]) -> tuple[int, int]:
    """Smallest and largest area: ``min_pixels`` before ``size``, whose keys have had two names.

    Raises:
        UnfollowedError: a limit is no number above 0, or ``size`` gives one of them only.
    """
    size = file.get("size") or {"shortest_edge": default[0], "longest_edge": default[1]}
    limits = []
    for key, name in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        if file.get(key) is not None:
            limits.append(positive(file, key, 0))
            continue
        within = size if isinstance(size, Mapping) else {}
        found = within.get(name) if within.get(name) is not None else within.get(key)
        if found is None:
            raise UnfollowedError("size", size, "one of shortest_edge and longest_edge in pixels")
        limits.append(positive({f"size.{name}": found}, f"size.{name}", 0))
    return limits[0], limits[1]


def _cut(length: int, side: int) -> list[int]:
    """Sides of the windows along one side of an image.

    >>> _cut(10, 4)
    [4, 4, 2]
    """
    return [min(side, length - start) for start in range(0, length, side)]


class Qwen25VL(Backbone):
    """Qwen2.5-VL-3B/7B/32B/72B and the built-in ``tiny-qwen2_5_vl``.

    A scorer holds a backbone on one device, so the largest need one that holds them whole.
    """

    auto_class = "Qwen2_5_VLForConditionalGeneration"
    decoders = ("qwen2_5_vl_text",)
    markup = ChatMarkup(
        before_image="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|>",
        image_token="<|image_pad|>",
        after_image="<|vision_end|>",
        before_answer="<|im_end|>\n<|im_start|>assistant\n",
    )

    @classmethod
    def image_spec_from(
        cls, config: Mapping[str, Any], preprocessor: Mapping[str, Any]
    ) -> ImageSpec:
        """See :class:`Backbone`; every spelling of the pixel limits is read."""
        vision = config["vision_config"]
        default = QwenImageSpec()
        patch = vision.get("patch_size", default.patch)
        merge = vision.get("spatial_merge_size", default.merge)
        # the second, of early checkpoints, was the first by another name
        check_processor(preprocessor, ("Qwen2VLImageProcessor", "Qwen2_5_VLImageProcessor"))
        require(preprocessor, "patch_size", patch)
        require(preprocessor, "merge_size", merge)
        require(preprocessor, "temporal_patch_size", TEMPORAL)
        if vision.get("temporal_patch_size", TEMPORAL) != TEMPORAL:
            raise UnfollowedError(
                "vision_config.temporal_patch_size",
                vision["temporal_patch_size"],
                str(TEMPORAL),
                "config.json",
            )
        low, high = pixel_limits(preprocessor, (default.min_pixels, default.max_pixels))
        return QwenImageSpec(
            patch=patch,
            merge=merge,
            min_pixels=low,
            max_pixels=high,
            normalization=normalization(preprocessor),
            resample=resampling(preprocessor),
        )

    def encode_images(self, images: Sequence[PreparedImage]) -> Tensor:
        """See :class:`Backbone`."""
        import torch

        spec = self.image_spec
        assert isinstance(spec, QwenImageSpec)
        patches, grids = [], []
        for image in images:
            pixels_NCHW = spec.normalization(image.tiles_NHWC, self.device)
            flat, grid = spec.patchify(pixels_NCHW[0])
            patches.append(flat)
            grids.append(grid)
        features_VD: Tensor = self.model.model.visual(
            torch.cat(patches).to(self.dtype),
            grid_thw=torch.tensor(grids, device=self.device),
        ).pooler_output
        return features_VD

    @property
    def patches_per_token(self) -> int:
        """See :class:`Backbone`."""
        assert isinstance(self.image_spec, QwenImageSpec)
        return self.image_spec.merge**2

    def vision_flops(self, plan: ImagePlan) -> int:
        """See :class:`Backbone`; most blocks look at windows, the others at the whole image."""
        spec, visual, config = (
            self.image_spec,
            self.model.model.visual,
            self.model.model.visual.config,
        )
        assert isinstance(spec, QwenImageSpec)
        rows, columns = plan.grid
        unit, side = spec.merge**2, config.window_size // spec.factor
        n_patches = rows * columns * unit
        windowed = sum((h * w * unit) ** 2 for h in _cut(rows, side) for w in _cut(columns, side))
        n_whole = len({*config.fullatt_block_indexes} & {*range(len(visual.blocks))})
        n_windowed = len(visual.blocks) - n_whole
        pairs = n_whole * n_patches**2 + n_windowed * windowed
        return int(
            linear_flops([visual.patch_embed, visual.blocks]) * n_patches
            + linear_flops([visual.merger]) * rows * columns
            + 4 * config.hidden_size * pairs
        )

    def position_ids(self, batch: PackedBatch) -> Tensor:
        """M-RoPE: (time, row, column) inside the image, three equal numbers in text.

        An image of R x C tokens that starts at position s takes positions s..s+max(R, C)-1, so text
        after it continues from there.

        Returns:
            [3, B, T].
        """
        import torch

        depths_BT = batch.depths_BT
        starts_B1, n_visual_B1 = (
            batch.image_starts_B[:, None],
            batch.n_visual_B[:, None],
        )
        rows_columns_B2 = torch.tensor(batch.grids, device=depths_BT.device)
        columns_B1 = rows_columns_B2[:, 1:]
        longest_B1 = rows_columns_B2.max(dim=1, keepdim=True).values
        text_BT = torch.where(
            depths_BT < starts_B1 + n_visual_B1,
            depths_BT,
            depths_BT - n_visual_B1 + longest_B1,
        )
        inside_BT = depths_BT - starts_B1
        image_3BT = torch.stack(
            [
                starts_B1.expand_as(depths_BT),
                starts_B1 + inside_BT // columns_B1,
                starts_B1 + inside_BT % columns_B1,
            ]
        )
        return torch.where(batch.image_mask_BT, image_3BT, text_BT)
