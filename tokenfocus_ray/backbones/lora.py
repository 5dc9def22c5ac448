"""Members of a backbone: peft adapters on one set of base weights."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenfocus_ray.backbones.adapter_files import (
    PICKLED,
    WEIGHTS,
    check_names,
    missing_file,
    put_in_form,
    same_name,
    stored_names,
    weights_of,
)
from tokenfocus_ray.backbones.adapter_kinds import ADAPTER_CONFIG, check_kinds, read_adapter_config
from tokenfocus_ray.backbones.base import Backbone, Source
from tokenfocus_ray.backbones.hub import COMMIT
from tokenfocus_ray.backbones.registry import family_class
from tokenfocus_ray.errors import AdapterError
from tokenfocus_ray.storage import Store
from tokenfocus_ray.storage.copies import copy_files

logger = logging.getLogger(__name__)

#: Parts before the decoder: an adapter on one of them has image features of its own.
VISION_PARTS = (".visual.", ".vision_tower.", ".multi_modal_projector.")
#: What peft itself puts into the names of tensors.
PEFT_PARTS = frozenset(("base_layer", "base_model", "modules_to_save", "original_module"))
#: Written beside a trained adapter: for which backbone, and how it was taught to be asked.
RECORD = "tokenfocus.json"


@contextmanager
def local_adapters(adapters: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Adapters as local folders; copies of those in a store go again at the end.

    Args:
        adapters: Member name -> folder, local or in a store.

    Raises:
        AdapterError: a file is missing.
        OutputError: the store does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="tokenfocus-") as copies:
        yield {
            name: folder if "://" not in folder else _copy(name, folder, Path(copies, str(i)))
            for i, (name, folder) in enumerate(adapters.items())
        }


def _copy(name: str, folder: str, target: Path) -> str:
    store = Store.of(folder)
    if store.is_local:
        target = Path(store.root)
    else:
        target.mkdir()
        there = store.names()
        weights = WEIGHTS if WEIGHTS in there else PICKLED
        copy_files(store, [n for n in (ADAPTER_CONFIG, weights, RECORD) if n in there], target)
    _check_files(name, target, folder)
    return str(target)


def _check_files(name: str, local: Path, folder: str) -> None:
    if not (local / ADAPTER_CONFIG).is_file():
        raise missing_file(name, ADAPTER_CONFIG, folder)
    weights_of(name, local, folder)


def adapter_hash(folder: str) -> str:
    """Hash of an adapter's weights, wherever they lie."""
    store = Store.of(folder)
    try:
        data = store.read_bytes(WEIGHTS)
    except FileNotFoundError:
        data = store.read_bytes(PICKLED)
    return hashlib.sha256(data).hexdigest()[:16]


def adapter_config_hash(folder: str) -> str:
    """Hash of what an adapter is beside its weights, such as their scaling, wherever it lies.

    Raises:
        AdapterError: its configuration is no JSON.
    """
    data = Store.of(folder).read_bytes(ADAPTER_CONFIG)
    try:
        config = dict(json.loads(data))
    except (ValueError, TypeError, RecursionError) as error:
        raise AdapterError(f"{folder!r}: {ADAPTER_CONFIG} cannot be read: {error}") from error
    for key in ("base_model_name_or_path", "revision", "peft_version"):  # on which no score depends
        config.pop(key, None)
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def check_adapters(adapters: Mapping[str, str], source: Source) -> None:
    """Checks names, files and kinds without loading the backbone.

    Args:
        adapters: Member name -> local folder.
        source: The backbone that they are to be loaded onto.

    Raises:
        AdapterError: a name cannot be used, a file is missing or cannot be read, or the adapter is
            of a kind that would score wrongly, or for another family.
    """
    configs = {}
    for name, folder in adapters.items():
        if not name or "." in name:
            raise AdapterError(f"member name {name!r} is empty or has a dot; rename the member")
        _check_files(name, Path(folder), folder)
        configs[name] = read_adapter_config(name, folder)
    check_kinds(configs, adapters)
    for name, folder in adapters.items():
        _check_family(name, folder, configs[name], source)
        check_names(name, Path(folder), configs[name], source.family, source.name)
        _warn_of_another_commit(name, folder, source)


def _check_family(name: str, folder: str, config: Mapping[str, Any], source: Source) -> None:
    """Families name and may shape their decoders alike, so the tensors do not tell them apart."""
    mapping = config.get("auto_mapping")
    made_for = mapping.get("base_model_class") if isinstance(mapping, Mapping) else None
    if made_for is None:  # peft records it where the adapter has no task type
        base = config.get("base_model_name_or_path")
        if base and not same_name(str(base), source.name):
            logger.warning(
                "adapter %r from %r says that it was made for %r; it is loaded onto %r, and "
                "nothing else tells whether it is the same backbone",
                name, folder, base, source.name,
            )  # fmt: skip
    elif made_for != family_class(source.family).auto_class:
        raise AdapterError(
            f"adapter {name!r} from {folder!r} was made for another backbone than "
            f"{source.name!r}: it is for {made_for}"
        )


def _record(name: str, folder: str) -> tuple[str, dict[str, Any], str]:
    """What a training here wrote beside an adapter: backbone, questions, revision.

    Empty where there is no such file: the adapter was made elsewhere.

    Raises:
        AdapterError: it is there, but cannot be read, so how to ask is not known.
    """
    path = Path(folder) / RECORD
    if not path.exists():
        return "", {}, ""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return str(record["backbone"]), dict(record["questions"]), str(record.get("revision"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        cause = str(error).splitlines() or [""]
        raise AdapterError(
            f"adapter {name!r} from {folder!r}: its {RECORD}, which says how it was taught to be "
            f"asked, cannot be read ({type(error).__name__}: {cause[0]:.80}); fetch the adapter "
            f"again, or delete that file if no training here made it"
        ) from error


def _warn_of_another_commit(name: str, folder: str, source: Source) -> None:
    """Another commit need not have other weights, so it is not refused."""
    _, _, then = _record(name, folder)
    if source.on_hub and COMMIT.fullmatch(then) and then != source.revision:
        logger.warning(
            "adapter %r from %r was trained on commit %s of %s, and is loaded onto %s; give "
            "revision %s if their weights differ",
            name, folder, then, source.name, source.revision, then,
        )  # fmt: skip


def check_training_records(
    adapters: Mapping[str, str], backbone: str, questions: Mapping[str, object]
) -> None:
    """Refuses adapters that were trained here for another backbone, or to be asked otherwise.

    Args:
        adapters: Member name -> folder; those without :data:`RECORD` are let through.
        backbone: Name of the backbone that they are to be loaded onto.
        questions: What decides the questions now: levels, structure, wording.

    Raises:
        AdapterError: naming what differs, both values, and the remedy; or a record that cannot be
            read.
    """
    for name, folder in adapters.items():
        made_for, taught, _ = _record(name, folder)
        if made_for and Path(made_for).name != Path(backbone).name:
            raise AdapterError(
                f"adapter {name!r} from {folder!r} was trained for backbone {made_for!r}, not for "
                f"{backbone!r}; score with the former"
            )
        for key, value in questions.items():
            if key in taught and _ordered(taught[key]) != _ordered(value):
                raise AdapterError(
                    f"adapter {name!r} from {folder!r} was trained with {key} = {taught[key]!r}, "
                    f"but is to be asked with {value!r}; set {key} as it was trained"
                )


def _ordered(value: object) -> object:
    """Mappings with their order, in which questions name the levels."""
    return list(value.items()) if isinstance(value, Mapping) else value


def load_adapters(backbone: Backbone, adapters: Mapping[str, str]) -> None:
    """Loads adapters as the members of a backbone, in place.

    Args:
        backbone: A loaded backbone without adapters.
        adapters: Member name -> folder with ``adapter_config.json`` and
            ``adapter_model.safetensors`` (or ``.bin``).

    Raises:
        AdapterError: a folder or file is missing, a name cannot be used, or the adapter was made
            for another backbone or is of a kind that would score wrongly.
    """
    with tempfile.TemporaryDirectory(prefix="tokenfocus-") as copies:
        _load(backbone, adapters, Path(copies))


def _load(backbone: Backbone, adapters: Mapping[str, str], copies: Path) -> None:
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError

    check_adapters(adapters, backbone.source)
    _check_member_names(adapters, backbone)
    wrapped: PeftModel | None = None
    for i, (name, folder) in enumerate(adapters.items()):
        try:
            local = put_in_form(name, folder, backbone.source.family, copies / str(i))
            stored = set(stored_names(name, Path(local)))
            if wrapped is None:
                wrapped = PeftModel.from_pretrained(backbone.model, local, adapter_name=name)
            else:
                wrapped.load_adapter(local, adapter_name=name)
            # peft looks for the backbone's vocabulary there, and at the hub where there is none
            wrapped.peft_config[name].base_model_name_or_path = backbone.source.location
            known = set(get_peft_model_state_dict(wrapped, adapter_name=name))
        except AdapterError:
            raise
        except (ValueError, TypeError, RuntimeError, KeyError, OSError, SafetensorError) as error:
            cause = "; ".join(line.strip() for line in str(error).splitlines()[:2])
            raise AdapterError(
                f"adapter {name!r} from {folder!r} does not fit backbone "
                f"{backbone.source.name!r}: {cause}"
            ) from error
        if stored != known:  # peft itself only warns, and would score with random weights
            odd = sorted(stored ^ known)
            raise AdapterError(
                f"adapter {name!r} from {folder!r} was made for another backbone than "
                f"{backbone.source.name!r}: {len(odd)} tensors differ, such as {odd[0]!r}"
            )
        backbone.shares_vision &= not any(part in key for key in stored for part in VISION_PARTS)
    if wrapped is not None:
        wrapped.eval()
        backbone.adopt(wrapped, tuple(adapters))


def _check_member_names(adapters: Mapping[str, str], backbone: Backbone) -> None:
    """Peft tells members apart by their names in keys, so a name that keys have anyway mixes them.

    A member named lora_A scores wrongly, without a word from peft.
    """
    keys = set(backbone.model.state_dict())
    for name, folder in adapters.items():
        keys.update(stored_names(name, Path(folder)))
    parts = {part for key in keys for part in key.split(".")} | PEFT_PARTS
    if taken := parts & set(adapters):
        raise AdapterError(
            f"member name {min(taken)!r} is also a part of the names of tensors; rename the member"
        )
