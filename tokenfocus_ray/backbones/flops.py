"""How much arithmetic a backbone takes, from its shapes: no weights, no forward pass.

A multiplication and an addition are two operations, as in ``torch.utils.flop_counter``, against
which tests compare. Counted are matrix products, which are nearly all of it: a linear layer costs
two operations a weight and token, attention four a pair of tokens and unit of its width (scores,
then their product with the values; Kaplan et al., arXiv 2001.08361, section 2.1, which leaves the
causal half uncounted as well: a kernel that is given a mask does not skip it).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DecoderFlops:
    """What the language model costs, in operations.

    Attributes:
        token: A token, padding included.
        pair: A pair of tokens of one sequence: a sequence of T has T * T.
        answer: An answer position, where the head runs.
    """

    token: int
    pair: int
    answer: int

    def sequence(self, tokens: float, answers: float) -> float:
        """Operations of one sequence.

        >>> DecoderFlops(token=10, pair=2, answer=5).sequence(tokens=4, answers=3)
        87

        Args:
            tokens: Its length, padding included.
            answers: Its answer positions.
        """
        return self.token * tokens + self.pair * tokens * tokens + self.answer * answers


def linear_flops(modules: Iterable[Any]) -> int:
    """Operations of the linear layers and convolutions in some modules, each applied once.

    A convolution whose kernels stand side by side, such as those that make patches, is a linear
    layer of a patch.

    Args:
        modules: Of torch.
    """
    import torch

    kinds = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Conv3d)
    return sum(
        2 * part.weight.numel()
        for module in modules
        for part in module.modules()
        if isinstance(part, kinds)
    )


def decoder_flops(model: Any) -> DecoderFlops:
    """What the language model of a ``...ForConditionalGeneration`` costs.

    Args:
        model: Of a family here; its weights may be on the meta device.
    """
    decoder, text = model.model.language_model, model.config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return DecoderFlops(
        token=linear_flops(decoder.layers),
        pair=4 * len(decoder.layers) * text.num_attention_heads * head,
        answer=linear_flops([model.lm_head]),
    )
