"""What of a backbone is trained: a LoRA adapter on its decoder, or the decoder itself."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.backbones.files import PREPROCESSORS, read_preprocessor
from tokenfocus_ray.backbones.lora import RECORD, VISION_PARTS
from tokenfocus_ray.config import LoraOptions
from tokenfocus_ray.errors import ConfigError


def attach(backbone: Backbone, options: LoraOptions | None, seed: int) -> Any:
    """Freezes the backbone but for what is trained, in place.

    Args:
        backbone: A loaded backbone without adapters.
        options: The adapter; None trains the decoder (its embeddings and head stay).
        seed: Of the adapter's initial weights.

    Returns:
        The ``PeftModel`` around the backbone's model, or the model itself.

    Raises:
        ConfigError: a target names no linear layer.
    """
    model = backbone.model
    model.requires_grad_(False)
    if options is None:
        backbone.language_model.requires_grad_(True)
        backbone.language_model.get_input_embeddings().requires_grad_(False)
        return model
    from peft import LoraConfig, get_peft_model

    pattern = _targets(backbone, options)
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=pattern,
        # no task type: peft then records the model's class, which tells families apart
        task_type=None,
    )
    torch.manual_seed(seed)
    with warnings.catch_warnings():  # between peft and transformers
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        wrapped = get_peft_model(model, config)
    backbone.shares_vision = not options.vision
    return wrapped


def _targets(backbone: Backbone, options: LoraOptions) -> str:
    """A regular expression over module names: the decoder's, and the vision tower's if wanted."""
    linear = [n for n, m in backbone.model.named_modules() if isinstance(m, nn.Linear)]
    seen = [n for n in linear if any(part in f".{n}." for part in VISION_PARTS)]
    decoder = [n for n in linear if n not in seen and ".language_model." in f".{n}"]
    there = sorted({n.rpartition(".")[2] for n in decoder})
    unknown = sorted(set(options.targets) - set(there))
    if unknown:
        raise ConfigError(
            f"lora.targets: {unknown[0]!r} is no linear layer of {backbone.source.name}'s decoder; "
            f"it has {', '.join(there)}"
        )
    names = "|".join(re.escape(t) for t in options.targets)
    pattern = rf".*language_model\..*\.({names})"
    if options.vision:
        pattern += "|" + "|".join(re.escape(n) for n in seen)
    return pattern


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained."""
    return [p for p in module.parameters() if p.requires_grad]


def count(parameters: Iterable[Tensor]) -> int:
    """Number of values in parameters."""
    return sum(p.numel() for p in parameters)


def save_member(
    wrapped: Any, backbone: Backbone, state: dict[str, Tensor], folder: Path, record: dict[str, Any]
) -> None:
    """Writes a member: a peft adapter, or a backbone's folder where the decoder was trained.

    Both are safetensors and load with plain peft or transformers. ``tokenfocus.json`` beside them
    says how the member was taught to be asked.

    Args:
        wrapped: From :func:`attach`.
        backbone: Whose member it is.
        state: Trained values by name, full and on the CPU.
        folder: Local folder, made if missing.
        record: What to write into ``tokenfocus.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if wrapped is backbone.model:
        full = {k: state.get(k, v) for k, v in wrapped.state_dict().items()}
        wrapped.save_pretrained(folder, state_dict=full)
        backbone.tokenizer.save_pretrained(folder)
        # the older file, whichever the backbone has: other tools read it too
        _, preprocessor = read_preprocessor(backbone.source)
        path = folder / PREPROCESSORS[-1]
        path.write_text(json.dumps(preprocessor, indent=2) + "\n")
    else:
        config = wrapped.peft_config["default"]
        config.base_model_name_or_path = backbone.source.name
        config.revision = backbone.source.revision if backbone.source.on_hub else None
        wrapped.save_pretrained(folder, state_dict=state, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # peft's model card is an empty form
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
