"""Names to backbones: built-in tiny ones, local folders, hub ids.

A new family is one file with a :class:`~tokenfocus_ray.backbones.base.Backbone` and one line here.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenfocus_ray.backbones.base import Backbone, ImageSpec, Source, folder_file
from tokenfocus_ray.errors import BackboneError, did_you_mean

if TYPE_CHECKING:
    import torch

#: ``model_type`` of config.json -> the class that handles it.
FAMILIES = {
    "qwen2_5_vl": "tokenfocus_ray.backbones.qwen2_5_vl:Qwen25VL",
    "internvl": "tokenfocus_ray.backbones.internvl:InternVL",
}
WEIGHTS = Path(__file__).parent / "weights"
#: Backbones that ship with the package.
BUILT_IN = ("tiny-qwen2_5_vl", "tiny-internvl")


def family_class(family: str) -> type[Backbone]:
    """The class of a family, imported when needed."""
    module, _, name = FAMILIES[family].partition(":")
    found: type[Backbone] = getattr(importlib.import_module(module), name)
    return found


def resolve(name: str, revision: str | None = None) -> Source:
    """Finds a backbone without loading its weights.

    Args:
        name: A built-in name, a folder, or a hub id such as ``Qwen/Qwen2.5-VL-7B-Instruct``.
        revision: Commit, branch or tag of a hub id.

    Raises:
        BackboneError: unknown name, unsupported family, or the hub cannot be reached.
    """
    if name in BUILT_IN:
        folder = str(WEIGHTS / name)
    elif Path(name).is_dir():
        folder = name
    elif "/" in name and not name.startswith((".", "/")):
        return _resolve_hub(name, revision)
    else:
        raise BackboneError(
            f"unknown backbone {name!r}: neither built in, nor a folder, nor a hub id "
            f"(owner/name). {did_you_mean(name, [*BUILT_IN])}"
        )
    config = json.loads(folder_file(folder, "config.json", "backbone").read_text())
    family = _family_of(config, name)
    return Source(name, folder, family, _fingerprint(Path(folder)))


def load(
    source: Source,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    max_visual_tokens: int | None = None,
) -> Backbone:
    """Loads the weights of a resolved backbone.

    Args:
        source: From :func:`resolve`.
        device: Where the weights go.
        dtype: Their floating type.
        max_visual_tokens: Most image tokens an image; the family's own limit where None.

    Raises:
        BackboneError: naming the folder or id and the cause.
    """
    import transformers
    from safetensors import SafetensorError

    cls = family_class(source.family)
    revision = None if Path(source.location).is_dir() else source.revision
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.location, revision=revision)
        model = getattr(transformers, cls.auto_class).from_pretrained(
            source.location, revision=revision, dtype=dtype, attn_implementation="sdpa"
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise BackboneError(
            f"backbone {source.name!r} cannot be loaded from {source.location!r}: {error}"
        ) from error
    spec = image_spec(source, max_visual_tokens)
    return cls(model.to(device).eval(), tokenizer, spec, source)


def image_spec(source: Source, max_visual_tokens: int | None = None) -> ImageSpec:
    """The image spec of a resolved backbone, without torch and without its weights.

    Raises:
        BackboneError: ``max_visual_tokens`` below 1.
    """
    files = {"config.json": True, "preprocessor_config.json": False}
    config, preprocessor = (_read_json(source, f, must) for f, must in files.items())
    spec = family_class(source.family).image_spec_from(config, preprocessor)
    if max_visual_tokens is None:
        return spec
    if max_visual_tokens < 1:
        raise BackboneError(f"max_visual_tokens must be at least 1, got {max_visual_tokens}")
    return spec.limited(max_visual_tokens)


def _read_json(source: Source, name: str, must_exist: bool) -> Mapping[str, Any]:
    if Path(source.location).is_dir():
        path: Path | None = Path(source.location) / name
        path = path if path and path.is_file() else None
    else:
        from transformers.utils import cached_file

        found = cached_file(
            source.location,
            name,
            revision=source.revision,
            _raise_exceptions_for_missing_entries=must_exist,
        )
        path = Path(found) if found else None
    data: Mapping[str, Any] = json.loads(path.read_text()) if path else {}
    return data


def _resolve_hub(name: str, revision: str | None) -> Source:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"backbone {name!r} is no folder here and cannot be fetched from the model hub: "
            f"{str(error).splitlines()[0]} Give a folder that holds config.json, or one of the "
            f"built-in backbones: {', '.join(BUILT_IN)}"
        ) from error
    family = _family_of(config.to_dict(), name)
    return Source(name, name, family, getattr(config, "_commit_hash", None) or revision or "main")


def _family_of(config: Mapping[str, Any], name: str) -> str:
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise BackboneError(
            f"backbone {name!r} is of the family {family!r}, which is not supported. "
            f"{did_you_mean(family, FAMILIES)}"
        )
    return family


def _fingerprint(folder: Path) -> str:
    """Config bytes, and name and size of each weight file: quick for 100 GB, stable on copying."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name}:{path.stat().st_size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))  # header and first tensors
    return digest.hexdigest()[:16]
