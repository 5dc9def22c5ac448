"""Architecture and tokenizer of the built-in tiny backbones, before any training.

They are the transformers classes of their families at about two million parameters, so everything
that runs on them runs on the real ones. :mod:`tokenfocus_ray.pretrain.tiny` trains and writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

IMAGE_SIDE = 112
VOCABULARY_SIZE = 768
CONTEXT_LENGTH = 2048
INITIALIZER_RANGE = 0.08
#: Special tokens of both families; the first one ends and pads sequences.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
)
_TEXT = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": CONTEXT_LENGTH,
    # about 1 / sqrt(width): with the usual 0.02, attention starts flat and learning to compare
    # words with the image takes very long
    "initializer_range": INITIALIZER_RANGE,
    "use_cache": False,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def build_tokenizer(corpus: Iterable[str]) -> Any:
    """A byte-level BPE tokenizer that knows the special tokens; any text round-trips.

    Args:
        corpus: Texts to learn merges from.

    Returns:
        A ``tokenizers.Tokenizer``.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    # words with their space, single digits, line breaks of their own (as Qwen2.5 splits)
    pattern = Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def build_model(family: str) -> Any:
    """A tiny model of a family with random weights; seed torch first.

    Args:
        family: ``"qwen2_5_vl"`` or ``"internvl"``.

    Returns:
        The transformers ``...ForConditionalGeneration`` in float32.
    """
    import transformers

    if family == "qwen2_5_vl":
        config = transformers.Qwen2_5_VLConfig(
            text_config={
                **_TEXT,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [4, 6, 6],
                },
                "tie_word_embeddings": True,
            },
            vision_config={
                "depth": 3,
                "initializer_range": INITIALIZER_RANGE,
                "hidden_size": 128,
                "intermediate_size": 256,
                "num_heads": 4,
                "out_hidden_size": 128,
                "patch_size": 14,
                "window_size": 112,
                "fullatt_block_indexes": [2],
            },
            image_token_id=SPECIAL_TOKENS.index("<|image_pad|>"),
            video_token_id=SPECIAL_TOKENS.index("<|video_pad|>"),
            vision_start_token_id=SPECIAL_TOKENS.index("<|vision_start|>"),
            vision_end_token_id=SPECIAL_TOKENS.index("<|vision_end|>"),
            tie_word_embeddings=True,
        )
        return transformers.Qwen2_5_VLForConditionalGeneration(config)
    assert family == "internvl", family
    internvl = transformers.InternVLConfig(
        text_config={
            **_TEXT,
            "model_type": "qwen2",
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
            "tie_word_embeddings": True,
        },
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "initializer_range": INITIALIZER_RANGE,
            "num_attention_heads": 4,
            "attention_bias": True,
            "image_size": [IMAGE_SIDE, IMAGE_SIDE],
            "patch_size": [14, 14],
            "layer_scale_init_value": 1.0,
            "use_mean_pooling": False,
            "hidden_dropout_prob": 0.0,
        },
        image_token_id=SPECIAL_TOKENS.index("<IMG_CONTEXT>"),
        image_seq_length=16,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )
    return transformers.InternVLForConditionalGeneration(internvl)


def preprocessor_config(family: str) -> dict[str, Any]:
    """``preprocessor_config.json`` of a tiny backbone, as the family's own processor reads it."""
    if family == "qwen2_5_vl":
        return {
            "image_processor_type": "Qwen2VLImageProcessor",
            "size": {"shortest_edge": IMAGE_SIDE**2, "longest_edge": IMAGE_SIDE**2},
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
        }
    return {
        "image_processor_type": "GotOcr2ImageProcessor",
        "size": {"height": IMAGE_SIDE, "width": IMAGE_SIDE},
        "crop_to_patches": False,
        "min_patches": 1,
        "max_patches": 1,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }


def save(model: Any, tokenizer: Any, family: str, folder: Path) -> None:
    """Writes a backbone folder that :mod:`~tokenfocus_ray.backbones.loading` loads.

    Args:
        model: From :func:`build_model`.
        tokenizer: From :func:`build_tokenizer`.
        family: Its family.
        folder: Created when missing; files of the same names are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # written readable by its owner only
    tokenizer.save(str(folder / "tokenizer.json"))
    files = {
        "preprocessor_config.json": preprocessor_config(family),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": CONTEXT_LENGTH,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
