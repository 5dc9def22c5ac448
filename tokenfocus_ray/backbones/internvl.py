"""InternVL 2.5 / 3 (arXiv 2412.05271, 2504.10479): square tiles, pixel shuffle, plain RoPE decoder.

The decoder is of the Qwen2 or the Llama type (converted InternLM2), as ``config.json`` says.
"""

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
    resampling,
)

if TYPE_CHECKING:
    from torch import Tensor

    from tokenfocus_ray.backbones.packing import PackedBatch


@dataclass(frozen=True, slots=True)
class InternVLImageSpec:
    """The image is cut into square tiles; from two tiles on, a thumbnail of the whole follows.

    Attributes:
        tile: Side of a tile in pixels.
        tokens_per_tile: Image tokens of a tile.
        min_tiles: Fewest tiles, the thumbnail not counted.
        max_tiles: Most tiles, the thumbnail not counted.
        normalization: Of the pixel values.
        resample: Filter of the resizing.
    """

    tile: int = 448
    tokens_per_tile: int = 256
    min_tiles: int = 1
    max_tiles: int = 12
    normalization: Normalization = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    resample: Image.Resampling = BICUBIC

    def tiling(self, width: int, height: int) -> tuple[int, int]:
        """(columns, rows) with the aspect ratio nearest to the image's.

        Among equally near ones the larger wins while the image has more than half its pixels.
        """
        most = range(1, self.max_tiles + 1)
        grids = [(c, r) for c in most for r in most if self.min_tiles <= c * r <= self.max_tiles]
        best, best_gap = (1, 1), math.inf
        for columns, rows in sorted(grids, key=lambda g: g[0] * g[1]):
            gap = abs(width / height - columns / rows)
            large = width * height > 0.5 * self.tile**2 * columns * rows
            if gap < best_gap or (gap == best_gap and large):
                best, best_gap = (columns, rows), gap
        return best

    def plan(self, width: int, height: int) -> ImagePlan:
        """See :class:`ImageSpec`."""
        columns, rows = self.tiling(width, height)
        n_tiles = columns * rows
        n_tokens = (n_tiles + (n_tiles > 1)) * self.tokens_per_tile
        return ImagePlan(columns * self.tile, rows * self.tile, n_tokens, (1, n_tokens))

    def prepare(self, image_HWC: NDArray[np.uint8]) -> PreparedImage:
        """See :class:`ImageSpec`; tiles row by row, the thumbnail last."""
        height, width = image_HWC.shape[:2]
        plan = self.plan(width, height)
        side = self.tile
        whole = rgb_resize(image_HWC, plan.width, plan.height, self.resample)
        rows, columns = plan.height // side, plan.width // side
        tiles = whole.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
        tiles_NHWC = tiles.reshape(rows * columns, side, side, 3)
        if len(tiles_NHWC) > 1:
            thumbnail = rgb_resize(image_HWC, side, side, self.resample)
            tiles_NHWC = np.concatenate([tiles_NHWC, thumbnail[None]])
        return PreparedImage(tiles_NHWC, plan.n_visual_tokens, plan.grid, width, height)

    def limited(self, max_visual_tokens: int) -> InternVLImageSpec:
        """See :class:`ImageSpec`; one tile is the least."""
        room = max_visual_tokens // self.tokens_per_tile
        most = min(self.max_tiles, room - 1 if room > 2 else 1)  # the thumbnail takes one
        return replace(self, max_tiles=most, min_tiles=min(self.min_tiles, most))


class InternVL(Backbone):
    """InternVL2.5 and InternVL3 in their transformers form, and the built-in ``tiny-internvl``."""

    auto_class = "InternVLForConditionalGeneration"
    decoders = ("qwen2", "qwen3", "llama")
    markup = ChatMarkup(
        before_image="<|im_start|>user\n<img>",
        image_token="<IMG_CONTEXT>",
        after_image="</img>\n",
        before_answer="<|im_end|>\n<|im_start|>assistant\n",
        processor_wraps=True,
    )

    @classmethod
    def image_spec_from(
        cls, config: Mapping[str, Any], preprocessor: Mapping[str, Any]
    ) -> ImageSpec:
        """See :class:`Backbone`.

        ``crop_to_patches`` of the file is not read: the family's processor tiles whatever the file
        says, up to ``max_patches``.
        """
        side, patch = (_side(config, key) for key in ("image_size", "patch_size"))
        default = InternVLImageSpec()
        check_processor(preprocessor, ("GotOcr2ImageProcessor",))
        # the vision tower has places for tiles of one size
        if _tile_size(preprocessor) != (side, side):
            own = f"config.json's image_size, {side} x {side},"
            raise UnfollowedError("size", preprocessor.get("size"), own)
        ratio = config.get("downsample_ratio", 0.5)
        per_side = (side // patch) * ratio
        if per_side != int(per_side):
            whole = f"one that divides {side // patch} patches a side"
            raise UnfollowedError("downsample_ratio", ratio, whole, "config.json")
        return InternVLImageSpec(
            tile=side,
            tokens_per_tile=int(per_side) ** 2,
            min_tiles=positive(preprocessor, "min_patches", default.min_tiles),
            max_tiles=positive(preprocessor, "max_patches", default.max_tiles),
            normalization=normalization(preprocessor),
            resample=resampling(preprocessor),
        )

    def encode_images(self, images: Sequence[PreparedImage]) -> Tensor:
        """See :class:`Backbone`."""
        spec = self.image_spec
        assert isinstance(spec, InternVLImageSpec)
        tiles_NHWC = np.concatenate([image.tiles_NHWC for image in images])
        pixels_NCHW = spec.normalization(tiles_NHWC, self.device).to(self.dtype)
        features_NTD = self.model.model.get_image_features(pixel_values=pixels_NCHW).pooler_output
        features_VD: Tensor = features_NTD.flatten(0, 1)
        return features_VD

    @property
    def patches_per_token(self) -> int:
        """See :class:`Backbone`."""
        return int(round(1 / self.model.config.downsample_ratio) ** 2)

    def vision_flops(self, plan: ImagePlan) -> int:
        """See :class:`Backbone`; a tile's patches and its class token see each other."""
        spec, model = self.image_spec, self.model.model
        assert isinstance(spec, InternVLImageSpec)
        layers, width = model.vision_tower.encoder.layer, model.config.vision_config.hidden_size
        n_patches = spec.tokens_per_tile * self.patches_per_token
        tile = (
            linear_flops([model.vision_tower.embeddings]) * n_patches
            + linear_flops(layers) * (n_patches + 1)
            + 4 * width * len(layers) * (n_patches + 1) ** 2
        )
        n_tokens, projector = plan.n_visual_tokens, linear_flops([model.multi_modal_projector])
        return int(tile * (n_tokens // spec.tokens_per_tile) + projector * n_tokens)

    def position_ids(self, batch: PackedBatch) -> Tensor:
        """Plain positions: the depths.

        Returns:
            [B, T].
        """
        return batch.depths_BT


def _side(config: Mapping[str, Any], key: str) -> int:
    """Both sides of a tile or patch, which are one length."""
    value = config["vision_config"][key]
    sides = {*value} if isinstance(value, (list, tuple)) else {value}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise UnfollowedError(f"vision_config.{key}", value, "a square", "config.json")
    return side


def _tile_size(file: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """(height, width) of ``size`` in each of its spellings; None for any other."""
    size = file.get("size", 384)  # the default of the processor, which no checkpoint has
    if isinstance(size, Mapping):
        return (size["height"], size["width"]) if {*size} == {"height", "width"} else None
    if isinstance(size, (list, tuple)):
        return (size[0], size[1]) if len(size) == 2 else None
    return (size, size) if file.get("default_to_square", True) else None
