"""Names to backbones: built-in tiny ones, local folders, hub ids.

A new family is one file with a :class:`~tokenfocus_ray.backbones.base.Backbone` and one line here.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from tokenfocus_ray.backbones.base import Backbone, ImageSpec, Source, folder_file
from tokenfocus_ray.backbones.checkpoint import check_config, quiet_report, tensor_faults
from tokenfocus_ray.backbones.files import (
    PREPROCESSORS,
    not_loadable,
    parse,
    read_json,
    read_preprocessor,
    refuse_own_code,
)
from tokenfocus_ray.backbones.hub import commit_of
from tokenfocus_ray.backbones.markup import template_difference, token_fault
from tokenfocus_ray.backbones.preprocessing import UnfollowedError
from tokenfocus_ray.errors import BackboneError, did_you_mean

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

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
TOKENIZER_CONFIG = "tokenizer_config.json"
#: Backbones that ship with the package.
BUILT_IN = ("tiny-qwen2_5_vl", "tiny-internvl")


def family_class(family: str) -> type[Backbone]:
    """The class of a family, imported when needed."""
    module, _, name = FAMILIES[family].partition(":")
    found: type[Backbone] = getattr(importlib.import_module(module), name)
    return found


def resolve(name: str, revision: str | None = None) -> Source:
    """Finds a backbone without loading its weights.

    A hub id stands for another commit whenever its owner pushes, so it is resolved once, and what
    comes back is passed on to every process: see :func:`here`.

    Args:
        name: A built-in name, a folder, or a hub id such as ``Qwen/Qwen2.5-VL-7B-Instruct``.
        revision: Commit, branch or tag of a hub id.

    Raises:
        BackboneError: unknown name, unsupported family, a repository that brings code of its own,
            or a hub that cannot be reached or does not name the commit.
    """
    if name in BUILT_IN:
        folder = str(WEIGHTS / name)
    elif Path(name).is_dir():
        folder = os.path.abspath(name)
    elif "/" in name and not name.startswith((".", "/")):
        return _resolve_hub(name, revision)
    else:
        raise BackboneError(
            f"unknown backbone {name!r}: neither built in, nor a folder, nor a hub id "
            f"(owner/name). {did_you_mean(name, [*BUILT_IN])}"
        )
    config = parse(folder_file(folder, "config.json", "backbone"))
    return Source(name, folder, family_of(config, name), _fingerprint(Path(folder)))


def here(source: Source) -> Source:
    """A backbone that another process resolved, for this one: the same weights, or an error.

    Raises:
        BackboneError: its folder is missing on this machine, or holds other files.
    """
    if source.on_hub:
        return source
    folder = Path(source.location)
    if source.name in BUILT_IN:  # ships with the package, wherever that lies here
        folder = WEIGHTS / source.name
    if not folder.is_dir():
        raise BackboneError(
            f"backbone {source.name!r}: folder {str(folder)!r} is not on the machine "
            f"{platform.node()!r}; put it where every node reaches it, or give a hub id"
        )
    found = _fingerprint(folder)
    if found != source.revision:
        raise BackboneError(
            f"backbone {source.name!r}: folder {str(folder)!r} on the machine {platform.node()!r} "
            f"holds other files than where the run was started (fingerprint {found}, there "
            f"{source.revision}); give every node the same files, and launch again"
        )
    return replace(source, location=str(folder))


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
    _, tokenizer = load_text(source)
    spec = image_spec(source, max_visual_tokens)
    try:
        with quiet_report():
            model, info = getattr(transformers, cls.auto_class).from_pretrained(
                source.location,
                **_at(source),
                dtype=dtype,
                attn_implementation="sdpa",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # named below, with all else that does not fit
            )
        if faults := tensor_faults(info):
            raise BackboneError(
                f"backbone {source.name!r} is not whole in {source.location!r}: {faults}; its "
                f"scores would be those of random weights. Fetch or save it again, with the "
                f"config.json that belongs to it"
            )
        model = model.to(device)
    except BackboneError:
        raise
    except _LOAD_ERRORS as error:
        raise not_loadable(source, error) from error
    return cls(model.eval(), tokenizer, spec, source)


def skeleton(source: Source) -> Backbone:
    """The backbone without weights, on torch's meta device: its shapes, for plans.

    Raises:
        BackboneError: naming the folder or id and the cause.
    """
    import torch
    import transformers

    cls = family_class(source.family)
    config, tokenizer = load_text(source)
    try:
        with torch.device("meta"):
            model = getattr(transformers, cls.auto_class)._from_config(
                config, attn_implementation="sdpa"
            )
    except _LOAD_ERRORS as error:
        raise not_loadable(source, error) from error
    return cls(model, tokenizer, image_spec(source), source)


def load_config(source: Source) -> Any:
    """The configuration of a resolved backbone, all of which is followed here.

    Raises:
        BackboneError: it cannot be read, or says what is not done here.
    """
    from transformers import AutoConfig

    if read_json(source, "adapter_config.json", False):
        raise BackboneError(
            f"backbone {source.name!r}: {source.location!r} holds an adapter beside the weights "
            f"(adapter_config.json), which transformers would add to them; move it to a folder of "
            f"its own and give that as an adapter, or delete it if it is merged already"
        )
    try:
        config = AutoConfig.from_pretrained(source.location, **_at(source))
        check_config(config, family_class(source.family).decoders)
    except UnfollowedError as error:
        raise _refused(source, "config.json", error) from error
    except _LOAD_ERRORS as error:
        raise not_loadable(source, error) from error
    return config


def load_text(source: Source) -> tuple[Any, Any]:
    """The configuration and the tokenizer of a resolved backbone, checked against each other.

    Warns where the checkpoint's own chat template asks otherwise than it is asked here.

    Raises:
        BackboneError: naming the folder or id and the cause.
    """
    config, tokenizer = load_config(source), load_tokenizer(source)
    markup = family_class(source.family).markup
    if fault := token_fault(markup, tokenizer, getattr(config, "image_token_id", None)):
        raise BackboneError(f"backbone {source.name!r}: {fault}")
    template = read_json(source, PREPROCESSORS[0], False).get("chat_template")
    template = template or read_json(source, "chat_template.json", False).get("chat_template")
    if difference := template_difference(markup, tokenizer, template):
        logger.warning(
            "backbone %r: its chat template %s; a model that was tuned with its template may score "
            "worse so (docs/method.md)",
            source.name, difference,
        )  # fmt: skip
    return config, tokenizer


def load_tokenizer(source: Source) -> Any:
    """The tokenizer of a resolved backbone.

    Raises:
        BackboneError: naming the folder or id and the cause.
    """
    from transformers import AutoTokenizer

    refuse_own_code(read_json(source, TOKENIZER_CONFIG, False), TOKENIZER_CONFIG, source.name)
    try:
        return AutoTokenizer.from_pretrained(source.location, **_at(source))
    except _LOAD_ERRORS as error:
        raise not_loadable(source, error) from error


def _at(source: Source) -> dict[str, Any]:
    """What transformers is to load: this commit, and never code from the repository."""
    return {"revision": source.revision if source.on_hub else None, "trust_remote_code": False}


def _refused(source: Source, file: str, error: UnfollowedError) -> BackboneError:
    return BackboneError(
        f"backbone {source.name!r}: {error.file or file} {error}; use a checkpoint of the "
        f"family's usual form, or put the file right if it is wrong"
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
        raise _refused(source, file, error) from error
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


def _resolve_hub(name: str, revision: str | None) -> Source:
    try:
        path, commit = commit_of(name, revision)
    except (OSError, ValueError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise BackboneError(
            f"backbone {name!r} is no folder here and cannot be fetched from the model hub: "
            f"{cause} Give a folder that holds config.json, or one of the built-in backbones: "
            f"{', '.join(BUILT_IN)}"
        ) from error
    return Source(name, name, family_of(parse(path), name), commit)


def family_of(config: Mapping[str, Any], name: str) -> str:
    """The key of :data:`FAMILIES` that a ``config.json`` belongs to.

    Read from the file: transformers' own classes would ask whether to run a repository's code.

    Raises:
        BackboneError: another family, or one with code of its own.
    """
    family = str(config.get("model_type"))
    refuse_own_code(config, "config.json", name)
    if family not in FAMILIES:
        raise BackboneError(
            f"backbone {name!r} is of the family {family!r}, which is not supported. "
            f"Supported: {', '.join(sorted(FAMILIES))}."
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
