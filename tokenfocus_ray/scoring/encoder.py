"""The vision pass: each image once, whatever the number of its questions, prompts and members."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.errors import RowError


class ImageEncoder:
    """Encodes images when first needed and keeps their features until their last use.

    An image stands in several micro-batches when its questions fill several sequences, or when it
    is scored against several prompts.
    """

    def __init__(self, backbone: Backbone, uses: Sequence[PreparedImage | RowError]) -> None:
        """Counts the uses.

        Args:
            backbone: Whose vision tower runs.
            uses: The image of each sequence that will be run.
        """
        self._backbone = backbone
        self._left = Counter(id(image) for image in uses)
        self._kept: dict[tuple[int, int], Tensor] = {}

    def __call__(self, images: Sequence[PreparedImage | RowError], member: int) -> Tensor:
        """Features of a micro-batch.

        Args:
            images: Its images, as often as they stand in it.
            member: Index of the selected member; members come in order.

        Returns:
            features_VD in the order of the images.
        """
        shares = self._backbone.shares_vision
        of = 0 if shares else member
        missing = {
            id(image): image
            for image in images
            if isinstance(image, PreparedImage) and (of, id(image)) not in self._kept
        }
        if missing:
            sizes = [image.n_visual_tokens for image in missing.values()]
            encoded = self._backbone.encode_images(list(missing.values())).split(sizes)
            self._kept |= {(of, key): f for key, f in zip(missing, encoded, strict=True)}
        features_VD = torch.cat([self._kept[of, id(image)] for image in images])
        if member == len(self._backbone.members) - 1:
            self._forget(images)
        return features_VD

    def _forget(self, images: Sequence[PreparedImage | RowError]) -> None:
        self._left.subtract(id(image) for image in images)
        self._kept = {key: f for key, f in self._kept.items() if self._left[key[1]] > 0}
