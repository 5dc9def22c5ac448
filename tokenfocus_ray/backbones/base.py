"""What all LVLM families share: the seam between scoring and a transformers model.

A family supplies its chat markup, an image spec (see :mod:`~tokenfocus_ray.backbones.images`), its
vision pass and its position ids. Importing a family's file must not import torch.

Legend: B sequences, T tokens, A answer positions, V image tokens of all images together, D width.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tokenfocus_ray.backbones.images import ImagePlan, ImageSpec, PreparedImage
from tokenfocus_ray.backbones.markup import ChatMarkup
from tokenfocus_ray.errors import BackboneError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tokenfocus_ray.backbones.packing import PackedBatch

BASE_MEMBER = "base"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a backbone comes from.

    Attributes:
        name: What the user asked for.
        location: Absolute path of a folder, or hub id, to load from.
        family: ``model_type`` of its ``config.json``.
        revision: Commit of the hub, or a fingerprint of the folder.
    """

    name: str
    location: str
    family: str
    revision: str

    @property
    def on_hub(self) -> bool:
        """Whether it comes from the model hub."""
        return not os.path.isabs(self.location)


class Backbone(ABC):
    """A loaded LVLM of one family, with its members.

    Attributes:
        model: The transformers ``...ForConditionalGeneration``, in eval mode.
        tokenizer: Its tokenizer.
        image_spec: How it wants images.
        source: Where it came from.
        members: Names of the members (adapters), or ``("base",)``.
        shares_vision: Whether one vision pass serves all members.
    """

    markup: ClassVar[ChatMarkup]
    auto_class: ClassVar[str]
    #: Model types of the decoders that the packed forward was compared with.
    decoders: ClassVar[tuple[str, ...]]

    def __init__(self, model: Any, tokenizer: Any, image_spec: ImageSpec, source: Source) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.image_spec = image_spec
        self.source = source
        self.members: tuple[str, ...] = (BASE_MEMBER,)
        self.shares_vision = True
        self._wrapped: Any = None
        bos = tokenizer("")["input_ids"]
        self._bos: list[int] = [int(i) for i in bos if i == tokenizer.bos_token_id]

    @classmethod
    @abstractmethod
    def image_spec_from(
        cls, config: Mapping[str, Any], preprocessor: Mapping[str, Any]
    ) -> ImageSpec:
        """The image spec from ``config.json`` and what the checkpoint says of its images.

        Raises:
            UnfollowedError: a key asks for what is not done here.
        """

    @abstractmethod
    def encode_images(self, images: Sequence[PreparedImage]) -> Tensor:
        """Normalise, patchify and run the vision tower, once for each image.

        Args:
            images: Prepared images.

        Returns:
            features_VD, the images one after another.
        """

    @abstractmethod
    def position_ids(self, batch: PackedBatch) -> Tensor:
        """Position ids from depths, in the shape that the language model takes."""

    @abstractmethod
    def vision_flops(self, plan: ImagePlan) -> int:
        """Operations of the vision pass over one image, see :mod:`~tokenfocus_ray.backbones.flops`.

        Args:
            plan: What becomes of the image.
        """

    @property
    @abstractmethod
    def patches_per_token(self) -> int:
        """Patches in the vision tower for each image token of the language model."""

    @property
    def language_model(self) -> Any:
        """The decoder without its head."""
        return self.model.model.language_model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.model.lm_head.weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the weights."""
        dtype: torch.dtype = self.model.lm_head.weight.dtype
        return dtype

    @property
    def context_length(self) -> int:
        """Most tokens that a sequence of one branch may have."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a text that follows a line break; spelled-out special tokens stay text.

        The break is encoded along and cut off, since tokenizers of the SentencePiece kind put a
        space before a text that stands alone.

        Raises:
            BackboneError: the tokenizer merges line breaks with what follows.
        """
        options = {"add_special_tokens": False, "split_special_tokens": True}
        ids, lead = (list(self.tokenizer(t, **options)["input_ids"]) for t in (f"\n{text}", "\n"))
        if ids[: len(lead)] != lead:
            raise BackboneError(
                f"{self.source.name}'s tokenizer merges a line break with the text after it "
                f"({text[:20]!r}), so questions cannot share a prefix; use another tokenizer"
            )
        return ids[len(lead) :]

    def encode_markup(self, text: str) -> list[int]:
        """Token ids of chat markup, special tokens recognised."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @property
    def before_image_ids(self) -> list[int]:
        """Ids from the start of the sequence to the image."""
        return self._bos + self.encode_markup(self.markup.before_image)

    def answer_hidden(self, features_VD: Tensor, batch: PackedBatch) -> Tensor:
        """Hidden states at the answer positions, for the selected member.

        Args:
            features_VD: Image features of the batch, in its order.
            batch: A packed micro-batch.

        Returns:
            hidden_AD, in the order of the batch's answers.
        """
        decoder = self.language_model
        embeds_BTD = decoder.get_input_embeddings()(batch.ids_BT)
        embeds_BTD = embeds_BTD.masked_scatter(
            batch.image_mask_BT.unsqueeze(-1), features_VD.to(embeds_BTD.dtype)
        )
        hidden_BTD = decoder(
            inputs_embeds=embeds_BTD,
            attention_mask=self._attention_mask(batch),
            position_ids=self.position_ids(batch),
            use_cache=False,
        ).last_hidden_state
        hidden_AD: Tensor = hidden_BTD[batch.rows_A, batch.columns_A]
        return hidden_AD

    def _attention_mask(self, batch: PackedBatch) -> Tensor | dict[str, Tensor]:
        """A 4-D mask as a tensor, the one form that every decoder type takes as it is.

        Decoders with sliding windows would take it for all layers: they get one a kind of layer.
        """
        from tokenfocus_ray.backbones.packing import branch_mask, window_mask

        mask_B1TT = branch_mask(batch.segments_BT)
        decoder = self.language_model
        if not getattr(decoder, "has_sliding_layers", False):
            return mask_B1TT
        window_B1TT = mask_B1TT & window_mask(batch.depths_BT, decoder.config.sliding_window)
        return {"full_attention": mask_B1TT, "sliding_attention": window_B1TT}

    def logits(self, hidden_AD: Tensor, exact: Sequence[int] = ()) -> Tensor:
        """Raw full-vocabulary logits of hidden states, nothing post-processed.

        Args:
            hidden_AD: Hidden states at answer positions.
            exact: Tokens whose logits are computed in float32 at least: bfloat16 knows multiples
                of 1/8 around 20, and the differences among the levels are the score.

        Returns:
            logits_AV, in float32 at least; the head's product is in the weights' type whatever the
            autocast.
        """
        import torch

        head = self.model.lm_head
        with torch.autocast(self.device.type, enabled=False):
            narrow = self.dtype.is_floating_point and self.dtype.itemsize > 1  # else quantised
            own: Tensor = head(hidden_AD.to(self.dtype) if narrow else hidden_AD)
            wide = torch.promote_types(own.dtype, torch.float32)
            logits_AV = own.to(wide)
            # a head with an adapter of its own is more than its weights
            if exact and own.dtype != wide and type(head) is torch.nn.Linear:
                index = torch.tensor(sorted(set(exact)), device=own.device)
                bias = None if head.bias is None else head.bias[index].to(wide)
                rows_AK = torch.nn.functional.linear(
                    hidden_AD.to(wide), head.weight[index].to(wide), bias
                )
                logits_AV = logits_AV.index_copy(-1, index, rows_AK)
        return logits_AV

    def adopt(self, wrapped: Any, members: tuple[str, ...]) -> None:
        """Takes over a ``PeftModel`` around :attr:`model`, whose adapters become the members."""
        self._wrapped = wrapped
        self.members = members

    def select(self, member: str) -> None:
        """Makes one member's adapter the active one."""
        if self._wrapped is not None:
            self._wrapped.set_adapter(member)


def folder_file(folder: str, name: str, what: str) -> Path:
    """A file that a backbone's folder must have.

    Raises:
        BackboneError: naming the folder, what is missing and what is there.
    """
    path = Path(folder) / name
    if not path.is_file():
        there = sorted(p.name for p in Path(folder).iterdir())[:12]
        raise BackboneError(f"{what} folder {folder!r} has no {name} (it has {there})")
    return path
