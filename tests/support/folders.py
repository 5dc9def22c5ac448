"""Backbone folders and adapters with random weights, large enough to tell a wrong layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from tokenfocus_ray.backbones.registry import BUILT_IN, WEIGHTS

#: Built-in backbones and the mid-size ones of :func:`build`.
TINY = BUILT_IN
MID_SIZE = ("mid-qwen2_5_vl", "mid-internvl-qwen2", "mid-internvl-llama")
#: Targets of an adapter on the decoder alone, as regular expressions that fit both families.
LANGUAGE = r".*language_model\..*\.(q_proj|v_proj|up_proj)"
#: The same on the vision tower too.
WITH_VISION = r".*(visual|vision_tower|language_model)\..*\.(qkv|q_proj|v_proj)"
_TEXT: dict[str, Any] = {
    "vocab_size": 768,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.06,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def _mid_qwen() -> tuple[Any, dict[str, Any]]:
    config = transformers.Qwen2_5_VLConfig(  # type: ignore[call-arg]  # takes any attribute
        text_config={
            **_TEXT,
            "num_hidden_layers": 5,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [4, 6, 6],
            },
        },
        vision_config={
            "depth": 4,
            "hidden_size": 160,
            "intermediate_size": 320,
            "num_heads": 4,
            "out_hidden_size": 256,
            "patch_size": 14,
            "window_size": 56,  # 2 x 2 tokens, so that every image has several windows
            "fullatt_block_indexes": [1, 3],
            "initializer_range": 0.06,
        },
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
        tie_word_embeddings=False,
        initializer_range=0.06,
    )
    preprocessor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "size": {"shortest_edge": 4 * 28 * 28, "longest_edge": 48 * 28 * 28},
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
    return transformers.Qwen2_5_VLForConditionalGeneration(config), preprocessor


def _mid_internvl(decoder: str) -> tuple[Any, dict[str, Any]]:
    large = decoder == "llama"  # InternVL's 6B vision tower: RMS norms, also on queries and keys
    config = transformers.InternVLConfig(  # type: ignore[call-arg]  # takes any attribute
        text_config={
            **_TEXT,
            "model_type": decoder,
            "num_hidden_layers": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "attention_bias": not large,
            "use_qk_norm": large,
            "norm_type": "rms_norm" if large else "layer_norm",
            "image_size": [112, 112],
            "patch_size": [14, 14],
            "layer_scale_init_value": 1.0,
            "use_mean_pooling": False,
            "initializer_range": 0.06,
        },
        image_token_id=9,
        image_seq_length=16,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
        initializer_range=0.06,
    )
    preprocessor = {
        "image_processor_type": "GotOcr2ImageProcessor",
        "size": {"height": 112, "width": 112},
        "crop_to_patches": True,
        "min_patches": 1,
        "max_patches": 6,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    return transformers.InternVLForConditionalGeneration(config), preprocessor


_BUILDERS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "mid-qwen2_5_vl": _mid_qwen,
    "mid-internvl-qwen2": lambda: _mid_internvl("qwen2"),
    "mid-internvl-llama": lambda: _mid_internvl("llama"),
    "mid-internvl-qwen3": lambda: _mid_internvl("qwen3"),
}


def build(name: str, parent: Path) -> str:
    """Folder of a backbone.

    Args:
        name: One of :data:`TINY` (returned where it ships) or another of ``_BUILDERS`` (written).
        parent: Where the folder is made.

    Returns:
        The folder. ``mid-internvl-llama`` has a tokenizer that puts a first token before every
        text, as Llama's do.
    """
    if name in TINY:
        return str(WEIGHTS / name)
    folder = parent / name
    with torch.random.fork_rng():
        torch.manual_seed(20)
        model, preprocessor = _BUILDERS[name]()
        for key, weight in model.named_parameters():  # norms and biases start as 1 and 0
            if weight.ndim == 1:
                weight.data += 0.1 * torch.randn_like(weight)
            assert weight.isfinite().all(), key
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    write_tokenizer(folder, with_bos=name.endswith("llama"))
    return str(folder)


def write_tokenizer(folder: Path, *, with_bos: bool) -> None:
    """Writes the tokenizer of the tiny backbones, with a first token before every text if asked."""
    shipped = WEIGHTS / TINY[0]
    settings = json.loads((shipped / "tokenizer_config.json").read_text())
    if not with_bos:
        shutil.copy(shipped / "tokenizer.json", folder)
    else:
        bos = "<|endoftext|>"
        tokenizer = json.loads((shipped / "tokenizer.json").read_text())
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": bos, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {bos: {"id": bos, "ids": [0], "tokens": [bos]}},
        }
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        settings["bos_token"] = bos
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def save_adapter(
    backbone: str, folder: Path, seed: int, targets: str, task_type: str | None = None
) -> str:
    """Writes a peft LoRA adapter with random weights that are not zero.

    Args:
        backbone: Folder of the model it is for.
        folder: Where it is written.
        seed: Of its weights.
        targets: Regular expression of the modules it adapts.
        task_type: peft's task type.

    Returns:
        The folder.
    """
    from peft import LoraConfig

    # init_lora_weights=False: peft's own start has B = 0, which would change no score
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False, task_type=task_type
    )
    return save_kind(backbone, folder, seed, config, noise=0.0)


def save_kind(backbone: str, folder: Path, seed: int, config: Any, noise: float = 0.05) -> str:
    """Writes a peft adapter of any kind, its start moved at random.

    Args:
        backbone: Folder of the model it is for.
        folder: Where it is written.
        seed: Of its weights.
        config: peft's configuration.
        noise: Standard deviation of what is added to what would be trained.

    Returns:
        The folder.
    """
    from peft import get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = transformers.AutoModelForImageTextToText.from_pretrained(backbone)
        wrapped = get_peft_model(model, config)
        for parameter in wrapped.parameters():
            if parameter.requires_grad and noise:
                parameter.data += noise * torch.randn_like(parameter)
        wrapped.save_pretrained(folder)
    return str(folder)
