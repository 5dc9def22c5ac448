"""Which backbone a name stands for: built-in tiny ones, folders here or in a store, hub ids.

The process that starts a run resolves a name once; all others take the ``Source`` that it found,
and check with :func:`on_this_node` that they have the same files.

A new family is one file with a :class:`~tokenfocus_ray.backbones.base.Backbone` and one line here.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenfocus_ray.backbones.base import Backbone, Source, folder_file
from tokenfocus_ray.backbones.files import parse, refuse_own_code
from tokenfocus_ray.backbones.hub import commit_of
from tokenfocus_ray.errors import BackboneError, did_you_mean
from tokenfocus_ray.storage import Store
from tokenfocus_ray.storage.copies import local_copy

#: ``model_type`` of config.json -> the class that handles it.
FAMILIES = {
    "qwen2_5_vl": "tokenfocus_ray.backbones.qwen2_5_vl:Qwen25VL",
    "internvl": "tokenfocus_ray.backbones.internvl:InternVL",
}
WEIGHTS = Path(__file__).parent / "weights"
#: Backbones that ship with the package.
BUILT_IN = ("tiny-qwen2_5_vl", "tiny-internvl")
#: Files of a backbone's folder that decide a score.
SCORING_SUFFIXES = {".json", ".safetensors", ".bin", ".txt", ".model"}


def resolve(name: str, revision: str | None = None) -> Source:
    """Finds a backbone without loading its weights.

    A hub id stands for another commit whenever its owner pushes, so it is resolved once, and what
    comes back is passed on to every process: see :func:`on_this_node`.

    Args:
        name: A built-in name, a folder, local or in a store (``s3://bucket/models/mine``), or a hub
            id such as ``Qwen/Qwen2.5-VL-7B-Instruct``.
        revision: Commit, branch or tag of a hub id.

    Raises:
        BackboneError: unknown name, unsupported family, a repository that brings code of its own,
            or a hub that cannot be reached or does not name the commit.
        OutputError: a store does not answer, or the disk has no room for a copy.
    """
    if name in BUILT_IN:
        folder = str(WEIGHTS / name)
    elif "://" in name:
        folder = _brought(name)
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


def _brought(uri: str) -> str:
    """A backbone's folder in a store, as one of this machine: copied once, by whoever is first."""
    store = Store.of(uri)
    there = store.names()
    if "config.json" not in there:
        raise BackboneError(f"backbone folder {uri!r} has no config.json (it has {there[:12]})")
    return store.root if store.is_local else str(local_copy(store))


def on_this_node(source: Source) -> Source:
    """A backbone that another process resolved, for this one: the same weights, or an error.

    Raises:
        BackboneError: its folder is missing on this machine, or holds other files.
        OutputError: a store does not answer, or the disk has no room for a copy.
    """
    if source.on_hub:
        return source
    folder = Path(_brought(source.name) if "://" in source.name else source.location)
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


def family_class(family: str) -> type[Backbone]:
    """The class of a family, imported when needed."""
    module, _, name = FAMILIES[family].partition(":")
    found: type[Backbone] = getattr(importlib.import_module(module), name)
    return found


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
