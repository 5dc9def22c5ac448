"""What a checkpoint must be for its scores to be right: whole, and of a kind that is run here.

transformers fills tensors that a checkpoint lacks with random numbers and only logs it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tokenfocus_ray.backbones.preprocessing import UnfollowedError

#: The kinds of attention whose masks :meth:`~.base.Backbone.answer_hidden` makes.
LAYER_TYPES = ("full_attention", "sliding_attention")
_SHOWN = 3


def check_config(config: Any, decoders: Collection[str]) -> None:
    """Refuses what would change scores and is not followed here.

    Args:
        config: The checkpoint's configuration, as transformers reads it.
        decoders: Model types of the decoders that the family is run with.

    Raises:
        UnfollowedError: naming the key of ``config.json``.
    """
    text = config.get_text_config()
    if text.model_type not in decoders:
        raise _unfollowed("text_config.model_type", text.model_type, *decoders)
    layers = getattr(text, "layer_types", None) or ()
    if not {*layers} <= {*LAYER_TYPES}:
        raise _unfollowed("text_config.layer_types", layers, *LAYER_TYPES)
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":  # its frequencies depend on the longest of a batch
        key = "text_config.rope_parameters.rope_type"
        raise _unfollowed(key, "longrope", "a scaling that does not depend on the batch")
    layer = getattr(config, "vision_feature_layer", -1)
    if not isinstance(layer, int):
        raise _unfollowed("vision_feature_layer", layer, "one layer")
    strategy = getattr(config, "vision_feature_select_strategy", "default")
    if strategy != "default":
        raise _unfollowed("vision_feature_select_strategy", strategy, "default")
    for part in (config, text):
        _check_quantization(getattr(part, "quantization_config", None))


def _check_quantization(quantization: Any) -> None:
    """Refuses a method that transformers does not know and would pass over."""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    if not isinstance(quantization, Mapping):
        return
    method = quantization.get("quant_method")
    bits = quantization.get("load_in_4bit") or quantization.get("load_in_8bit")  # bitsandbytes
    if not bits and method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        key = "quantization_config.quant_method"
        raise _unfollowed(key, method, "a method that this transformers knows")


def _unfollowed(key: str, value: Any, *followed: str) -> UnfollowedError:
    return UnfollowedError(key, value, " or ".join(followed), "config.json")


def tensor_faults(info: Mapping[str, Collection[Any]]) -> str:
    """What differs between a checkpoint's tensors and those of the model; empty where nothing does.

    Args:
        info: transformers' loading information. Leftovers that it knows to be harmless, and names
            of older layouts, are not in it.
    """
    missing, unknown = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    shapes = [
        f"{name} ({list(found)} in the file, {list(wanted)} by config.json)"
        for name, found, wanted in sorted(info["mismatched_keys"], key=str)
    ]
    faults = []
    if missing:
        hint = "; config.json does not tie the head to the embeddings"
        faults.append(_counted(missing, "missing") + hint * (missing == ["lm_head.weight"]))
    if unknown:
        faults.append(_counted(unknown, "not of the model that config.json describes"))
    if shapes:
        faults.append(_counted(shapes, "of another shape"))
    return "; ".join(faults)


def _counted(names: list[str], what: str) -> str:
    shown = ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
    n = len(names)
    return f"{n} tensor{'s' * (n > 1)} {'are' if n > 1 else 'is'} {what}: {shown}"


@contextmanager
def quiet_report() -> Iterator[None]:
    """Without transformers' table of tensors that did not fit: they are refused by name."""
    logger = logging.getLogger("transformers.modeling_utils")

    def wanted(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)
