"""The model as DDP and FSDP take it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.backbones.packing import PackedBatch


class PackedModel(nn.Module):
    """What DDP wraps: images and a packed batch in, logits at the answer positions out."""

    def __init__(self, backbone: Backbone, level_ids: Sequence[int]) -> None:
        super().__init__()
        self.model = backbone.model
        self._backbone = (backbone,)  # in a tuple: it holds the model too, and is no module
        self._level_ids = tuple(level_ids)

    def forward(self, images: Sequence[PreparedImage], batch: PackedBatch) -> Tensor:
        """logits_AV, in float32 at least.

        The vision tower keeps no graph where nothing of it is trained.
        """
        (backbone,) = self._backbone
        with torch.no_grad() if backbone.shares_vision else contextlib.nullcontext():
            features_VD = backbone.encode_images(images)
        return backbone.logits(backbone.answer_hidden(features_VD, batch), self._level_ids)


def shard_decoder(backbone: Backbone, dtype: torch.dtype) -> None:
    """FSDP over the decoder's layers, in place.

    Embeddings, head and vision tower, which are not trained, stay whole on each worker.

    Args:
        backbone: With float32 weights, or wider ones.
        dtype: What the layers compute in; gradients are reduced in float32 at least.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    decoder = backbone.language_model
    whole = set(decoder.get_input_embeddings().parameters())
    exact = torch.promote_types(dtype, torch.float32)
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=exact)
    for layer in decoder.layers:
        fully_shard(layer, mp_policy=policy)
    # said, since of its own accord the outermost part stays gathered after a prediction, and what
    # a checkpoint holds would no longer fit it
    fully_shard(decoder, mp_policy=policy, ignored_params=whole, reshard_after_forward=True)
    if torch.cuda.is_available():
        backbone.model.to("cuda")
