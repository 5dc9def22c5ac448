"""The small files of a resolved backbone, in a folder or at the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.backbones.hub import hub_file
from tokenfocus_ray.errors import BackboneError

#: Files that say how images are prepared: transformers 5 nests it in the first, which wins.
PREPROCESSORS = ("processor_config.json", "preprocessor_config.json")
#: How the hub names an InternVL that transformers can load without code of the repository.
INTERNVL_FORM = "OpenGVLab/InternVL3-8B-hf"


def read_preprocessor(source: Source) -> tuple[str, Mapping[str, Any]]:
    """What a checkpoint says of its images, and in which file; transformers takes the same one.

    Raises:
        BackboneError: it says nothing, or a file cannot be read.
    """
    newer, older = PREPROCESSORS
    whole = read_json(source, newer, False)
    refuse_own_code(whole, newer, source.name)
    nested = whole.get("image_processor")
    if isinstance(nested, Mapping) and nested:
        refuse_own_code(nested, newer, source.name)
        return newer, nested
    if flat := read_json(source, older, False):
        refuse_own_code(flat, older, source.name)
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
    path: Path | None
    if source.on_hub:
        try:
            path = hub_file(source.location, name, source.revision, must_exist)
        except (OSError, ValueError) as error:
            raise not_loadable(source, error) from error
    else:
        path = Path(source.location, name)
        path = path if path.is_file() else None
    return parse(path) if path else {}


def parse(path: Path) -> Mapping[str, Any]:
    """A JSON file that must hold an object.

    Raises:
        BackboneError: it cannot be read, or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(f"{str(path)!r} cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise BackboneError(f"{str(path)!r} must hold an object, got {type(data).__name__}")
    return data


def refuse_own_code(file: Mapping[str, Any], where: str, name: str) -> None:
    """Code of a repository is never run, and without it scores may be others.

    Args:
        file: What a file of the backbone says.
        where: Which file.
        name: Of the backbone.

    Raises:
        BackboneError: the file names classes of the repository's own.
    """
    if not file.get("auto_map"):
        return
    if str(file.get("model_type")).startswith("internvl"):
        form = f"{name}-hf" if "/" in name and not Path(name).is_dir() else f"{INTERNVL_FORM}"
        remedy = f"take the same model in transformers' own form, such as {form!r}"
    else:
        remedy = "take a repository without it, or remove auto_map where that code changes nothing"
    raise BackboneError(
        f"backbone {name!r} brings Python code of its own (auto_map in {where}), which is never "
        f"run; {remedy}"
    )


def not_loadable(source: Source, error: Exception) -> BackboneError:
    """What to raise where a library could not load something of a backbone."""
    return BackboneError(
        f"backbone {source.name!r} cannot be loaded from {source.location!r}: {error}"
    )
