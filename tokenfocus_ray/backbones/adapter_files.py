"""An adapter's files in the one form that is loaded: safetensors, with today's names of layers.

transformers 4.52 renamed the layers of vision-language models. An adapter of before names the same
layers of the same weights, so renaming it changes no score.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenfocus_ray.backbones.adapter_kinds import ADAPTER_CONFIG, read_adapter_config
from tokenfocus_ray.errors import AdapterError

WEIGHTS, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
_PREFIX = "base_model.model."
#: Family -> names before transformers 4.52, and what they became.
_RENAMED = {
    "qwen2_5_vl": (
        (re.compile(r"^model\.(?=(layers|embed_tokens|norm)\b)"), "model.language_model."),
        (re.compile(r"^visual\."), "model.visual."),
    ),
    "internvl": (
        (re.compile(r"^language_model\.model\."), "model.language_model."),
        (re.compile(r"^language_model\.lm_head\b"), "lm_head"),
        (re.compile(r"^(?=(vision_tower|multi_modal_projector)\.)"), "model."),
    ),
}
#: Names that a text model of before 4.52 and after has, too.
_ALSO_TEXT = re.compile(r"^model\.(layers|embed_tokens|norm)\b")
SAVE_ANEW = (
    "save it anew: load backbone and adapter with the transformers and peft that trained it, and "
    "call save_pretrained(..., safe_serialization=True)"
)


def weights_of(name: str, folder: Path, shown: str | None = None) -> Path:
    """The file of an adapter's tensors; safetensors where there are both, as peft does.

    Args:
        name: Of the member.
        folder: Local folder.
        shown: What messages call the folder.

    Raises:
        AdapterError: there is none.
    """
    found = next((folder / n for n in (WEIGHTS, PICKLED) if (folder / n).is_file()), None)
    if found is None:
        raise missing_file(name, WEIGHTS, shown or str(folder))
    return found


def missing_file(name: str, file: str, folder: str) -> AdapterError:
    """What to raise where an adapter's folder is not whole."""
    return AdapterError(
        f"adapter {name!r}: {file!r} is missing in {folder!r}; give a folder that peft's "
        f"save_pretrained wrote"
    )


def renamed(name: str, family: str) -> str:
    """Today's name of a layer, of a tensor or of an entry of ``adapter_config.json``.

    >>> renamed("model.layers.0.mlp.up_proj", "qwen2_5_vl")
    'model.language_model.layers.0.mlp.up_proj'
    >>> renamed("q_proj", "qwen2_5_vl")
    'q_proj'
    """
    for old, new in _RENAMED.get(family, ()):
        name, n = old.subn(new, name, count=1)
        if n:
            break
    return name


def stored_names(name: str, folder: Path) -> list[str]:
    """Names of an adapter's tensors as stored.

    Raises:
        AdapterError: the file cannot be read, or only by running code from it.
    """
    return list(stored_shapes(name, folder))


def stored_shapes(name: str, folder: Path) -> dict[str, tuple[int, ...]]:
    """Name of an adapter's tensor as stored -> its shape.

    Raises:
        AdapterError: the file cannot be read, or only by running code from it.
    """
    from safetensors import SafetensorError, safe_open

    path = weights_of(name, folder)
    if path.name == PICKLED:
        return {key: tuple(value.shape) for key, value in _unpickled(name, path).items()}
    try:
        with safe_open(path, framework="np") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"adapter {name!r}: {str(path)!r} cannot be read: {error}") from error


def _unpickled(name: str, path: Path) -> dict[str, Any]:
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {str(key): value.contiguous() for key, value in found.items()}
    except Exception as error:  # pickles fail in every way there is
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise AdapterError(
            f"adapter {name!r}: {str(path)!r} cannot be read as tensors alone, and code from it is "
            f"never run: {cause[:200]}; {SAVE_ANEW}"
        ) from error
    return tensors


def check_names(
    name: str, folder: Path, config: Mapping[str, Any], family: str, backbone: str
) -> None:
    """Refuses old names that may be those of a text model, unless the adapter says whose it is.

    Args:
        name: Of the member.
        folder: Local folder.
        config: Its ``adapter_config.json``.
        family: Of the backbone.
        backbone: Its name.

    Raises:
        AdapterError: with the remedy.
    """
    keys = [key.removeprefix(_PREFIX) for key in stored_names(name, folder)]
    old = [key for key in keys if renamed(key, family) != key]
    if not old:
        return
    if config.get("peft_type") != "LORA":
        raise AdapterError(
            f"adapter {name!r} names layers as before transformers 4.52, such as {old[0]!r}, which "
            f"is followed for LORA only, not for {config.get('peft_type')}; {SAVE_ANEW}, or train "
            f"it anew"
        )
    made_for = str(config.get("base_model_name_or_path"))
    if all(_ALSO_TEXT.match(key) for key in old) and not same_name(made_for, backbone):
        raise AdapterError(
            f"adapter {name!r} names layers as before transformers 4.52, such as {old[0]!r}, as a "
            f"text model also does, and says that it was made for {made_for!r}, not for "
            f"{backbone!r}; if it was made for this one, set base_model_name_or_path in its "
            f"{ADAPTER_CONFIG} to {backbone!r}"
        )


def same_name(one: str, other: str) -> bool:
    """Whether two names are of the same backbone, which may have moved, or lie in a hub's cache.

    >>> same_name("Qwen/Qwen2.5-VL-3B", "/hub/models--Qwen--Qwen2.5-VL-3B/snapshots/0a1b/")
    True
    """
    return _model_name(one) == _model_name(other)


def _model_name(name: str) -> str:
    path = Path(name)
    if path.parent.name == "snapshots":
        path = Path(path.parent.parent.name.rpartition("--")[2])
    return path.name.lower()


def put_in_form(name: str, folder: str, family: str, copy: Path) -> str:
    """The adapter's folder, or a copy of it in the form that is loaded.

    Args:
        name: Of the member.
        folder: Local folder; :func:`check_names` let it through.
        family: Of the backbone.
        copy: Folder to make where a copy is needed.

    Raises:
        AdapterError: a file cannot be read.
    """
    from safetensors.torch import load_file, save_file

    path = weights_of(name, Path(folder))
    keys = {k: _PREFIX + renamed(k.removeprefix(_PREFIX), family) for k in
            stored_names(name, Path(folder))}  # fmt: skip
    is_old = any(old != new for old, new in keys.items())
    if path.name == WEIGHTS and not is_old:
        return folder
    tensors = _unpickled(name, path) if path.name == PICKLED else load_file(path)
    config = read_adapter_config(name, folder)
    copy.mkdir()
    save_file({keys[k]: tensor for k, tensor in tensors.items()}, copy / WEIGHTS)
    (copy / ADAPTER_CONFIG).write_text(
        json.dumps(_with_today_s_names(config, keys, family) if is_old else config)
    )
    return str(copy)


def _with_today_s_names(
    config: Mapping[str, Any], keys: Iterable[str], family: str
) -> dict[str, Any]:
    """A LoRA's configuration that means the same layers by their names of today.

    Its patterns were written for the old names, so what they matched is spelled out.
    """
    from peft.utils.other import get_pattern_key

    layers = sorted({m[1] for key in keys if (m := re.match(_PREFIX_LAYER, key))})
    changed: dict[str, Any] = {
        "target_modules": [renamed(layer, family) for layer in layers],
        "exclude_modules": None,
        "layers_to_transform": None,
        "layers_pattern": None,
    }
    for which in ("rank_pattern", "alpha_pattern"):
        patterns = dict(config.get(which) or {})
        found = {layer: get_pattern_key(list(patterns), layer) for layer in layers}
        changed[which] = {
            re.escape(renamed(layer, family)): patterns[key]
            for layer, key in found.items()
            if key in patterns
        }
    if saved := config.get("modules_to_save"):
        changed["modules_to_save"] = [renamed(module, family) for module in saved]
    if isinstance(tokens := config.get("trainable_token_indices"), Mapping):
        changed["trainable_token_indices"] = {renamed(k, family): v for k, v in tokens.items()}
    return {**config, **changed}


#: A tensor of a LoRA layer: the layer's name before it.
_PREFIX_LAYER = re.compile(rf"{re.escape(_PREFIX)}(.+?)\.lora_(?:A|B|embedding_A|embedding_B|magn)")
