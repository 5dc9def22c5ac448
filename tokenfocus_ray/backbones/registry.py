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

from safetensors import SafetensorError

from tokenfocus_ray.backbones.base import Backbone, ImageSpec, Source, folder_file
from tokenfocus_ray.backbones.preprocessing import UnfollowedError
from tokenfocus_ray.errors import BackboneError, did_you_mean

if TYPE_CHECKING:
    import torch

#: ``model_type`` of config.json -> the class that handles it.
FAMILIES = {
    "qwen2_5_vl": "tokenfocus_ray.backbones.qwen2_5_vl:Qwen25VL",
    "internvl": "tokenfocus_ray.backbones.internvl:InternVL",
}
WEIGHTS = Path(__file__).parent / "weights"
#: What loading raises; AssertionError is torch's, for a device that its build does not have.
_LOAD_ERRORS = (OSError, ValueError, RuntimeError, ImportError, AssertionError, SafetensorError)
#: Files of a backbone's folder that decide a score.
SCORING_SUFFIXES = {".json", ".safetensors", ".bin", ".txt", ".model"}
#: Files that say how images are prepared: transformers 5 nests it in the first, which wins.
PREPROCESSORS = ("processor_config.json", "preprocessor_config.json")
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
    config = _parse(folder_file(folder, "config.json", "backbone"))
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

    cls = family_class(source.family)
    tokenizer = load_tokenizer(source)
    spec = image_spec(source, max_visual_tokens)
    try:
        model = (
            getattr(transformers, cls.auto_class)
            .from_pretrained(
                source.location,
                revision=_hub_revision(source),
                dtype=dtype,
                attn_implementation="sdpa",
            )
            .to(device)
        )
    except _LOAD_ERRORS as error:
        raise _not_loadable(source, error) from error
    return cls(model.eval(), tokenizer, spec, source)


def skeleton(source: Source) -> Backbone:
    """The backbone without weights, on torch's meta device: its shapes, for plans.

    Raises:
        BackboneError: naming the folder or id and the cause.
    """
    import torch
    import transformers

    cls = family_class(source.family)
    try:
        config = transformers.AutoConfig.from_pretrained(
            source.location, revision=_hub_revision(source)
        )
        with torch.device("meta"):
            model = getattr(transformers, cls.auto_class)._from_config(
                config, attn_implementation="sdpa"
            )
    except _LOAD_ERRORS as error:
        raise _not_loadable(source, error) from error
    return cls(model, load_tokenizer(source), image_spec(source), source)


def load_tokenizer(source: Source) -> Any:
    """The tokenizer of a resolved backbone.

    Raises:
        BackboneError: naming the folder or id and the cause.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source.location, revision=_hub_revision(source))
    except _LOAD_ERRORS as error:
        raise _not_loadable(source, error) from error


def _hub_revision(source: Source) -> str | None:
    return None if Path(source.location).is_dir() else source.revision


def _not_loadable(source: Source, error: Exception) -> BackboneError:
    return BackboneError(
        f"backbone {source.name!r} cannot be loaded from {source.location!r}: {error}"
    )


def image_spec(source: Source, max_visual_tokens: int | None = None) -> ImageSpec:
    """The image spec of a resolved backbone, without torch and without its weights.

    Raises:
        BackboneError: the checkpoint does not say how its images are prepared, or says what is not
            done here; ``max_visual_tokens`` below 1.
    """
    file, preprocessor = read_preprocessor(source)
    try:
        spec = family_class(source.family).image_spec_from(
            read_json(source, "config.json", True), preprocessor
        )
    except UnfollowedError as error:
        raise BackboneError(
            f"backbone {source.name!r}: {error.file or file} {error}; use a checkpoint of the "
            f"family's usual form, or put the file right if it is wrong"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise BackboneError(
            f"backbone {source.name!r}: config.json or {file} does not say how "
            f"images are cut ({type(error).__name__}: {error})"
        ) from error
    if max_visual_tokens is None:
        return spec
    if max_visual_tokens < 1:
        raise BackboneError(f"max_visual_tokens must be at least 1, got {max_visual_tokens}")
    return spec.limited(max_visual_tokens)


def read_preprocessor(source: Source) -> tuple[str, Mapping[str, Any]]:
    """What a checkpoint says of its images, and in which file; transformers takes the same one.

    Raises:
        BackboneError: it says nothing, or a file cannot be read.
    """
    newer, older = PREPROCESSORS
    nested = read_json(source, newer, False).get("image_processor")
    if isinstance(nested, Mapping) and nested:
        return newer, nested
    if flat := read_json(source, older, False):
        return older, flat
    raise BackboneError(
        f"backbone {source.name!r} does not say how its images are prepared: {source.location!r} "
        f"has no {older}, nor a {newer} with an image_processor; copy it from the checkpoint that "
        f"this one was made from (its processor's save_pretrained writes one of them)"
    )


def read_json(source: Source, name: str, must_exist: bool) -> Mapping[str, Any]:
    """A JSON file of a resolved backbone; empty where it is missing and need not exist.

    Raises:
        BackboneError: it cannot be read, or holds no object.
    """
    if Path(source.location).is_dir():
        path: Path | None = Path(source.location) / name
        path = path if path and path.is_file() else None
    else:
        from transformers.utils.hub import cached_file

        try:
            found = cached_file(
                source.location,
                name,
                revision=source.revision,
                _raise_exceptions_for_missing_entries=must_exist,
            )
        except OSError as error:
            raise _not_loadable(source, error) from error
        path = Path(found) if found else None
    return _parse(path) if path else {}


def _parse(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackboneError(f"{str(path)!r} cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise BackboneError(f"{str(path)!r} must hold an object, got {type(data).__name__}")
    return data


def _resolve_hub(name: str, revision: str | None) -> Source:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise BackboneError(
            f"backbone {name!r} is no folder here and cannot be fetched from the model hub: "
            f"{cause} Give a folder that holds config.json, or one of the built-in backbones: "
            f"{', '.join(BUILT_IN)}"
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
    """Hash of every file that decides a score; of a large one, its size and both ends.

    Quick for 100 GB, and stable on copying.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in SCORING_SUFFIXES):
        size, end = path.stat().st_size, 1 << 24
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(end))
            file.seek(max(file.tell(), size - end))
            digest.update(file.read())
    return digest.hexdigest()[:16]
