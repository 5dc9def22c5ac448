"""Members of a backbone: peft adapters on one set of base weights."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.errors import AdapterError
from tokenfocus_ray.storage import Store

#: Parts before the decoder: an adapter on one of them has image features of its own.
VISION_PARTS = (".visual.", ".vision_tower.", ".multi_modal_projector.")
WEIGHTS = "adapter_model.safetensors"
REQUIRED = ("adapter_config.json", WEIGHTS)
#: Written beside a trained adapter: for which backbone, and how it was taught to be asked.
RECORD = "tokenfocus.json"


@contextmanager
def local_adapters(adapters: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Adapters as local folders; copies of those in an object store go again at the end.

    Args:
        adapters: Member name -> folder, local or ``s3://``.

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
    target.mkdir()
    for file in (*REQUIRED, RECORD):
        try:
            (target / file).write_bytes(store.read_bytes(file))
        except FileNotFoundError as error:
            if file in REQUIRED:
                raise _missing(name, file, folder) from error
    return str(target)


def _missing(name: str, file: str, folder: str) -> AdapterError:
    return AdapterError(
        f"adapter {name!r}: {file!r} is missing in {folder!r}; give a folder that peft's "
        f"save_pretrained wrote"
    )


def check_adapters(adapters: Mapping[str, str]) -> None:
    """Checks names and files without loading anything.

    Args:
        adapters: Member name -> folder.

    Raises:
        AdapterError: a name cannot be used, or a file is missing.
    """
    for name, folder in adapters.items():
        if not name or "." in name:
            raise AdapterError(f"member name {name!r} is empty or has a dot; rename the member")
        for file in REQUIRED:
            if not (Path(folder) / file).is_file():
                raise _missing(name, file, folder)


def check_taught(
    adapters: Mapping[str, str], backbone: str, questions: Mapping[str, object]
) -> None:
    """Refuses adapters that were trained here for another backbone, or to be asked otherwise.

    Args:
        adapters: Member name -> folder; those without :data:`RECORD` are let through.
        backbone: Name of the backbone that they are to be loaded onto.
        questions: What decides the questions now: levels, structure, wording.

    Raises:
        AdapterError: naming what differs, both values, and the remedy.
    """
    for name, folder in adapters.items():
        try:
            record = json.loads((Path(folder) / RECORD).read_text())
            taught, made_for = dict(record["questions"]), str(record["backbone"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if Path(made_for).name != Path(backbone).name:
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
            ``adapter_model.safetensors``.

    Raises:
        AdapterError: a folder or file is missing, a name cannot be used, or the adapter was made
            for another backbone.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    check_adapters(adapters)
    wrapped: PeftModel | None = None
    for name, folder in adapters.items():
        _check_family(name, folder, backbone)
        try:
            with safe_open(Path(folder) / WEIGHTS, framework="pt") as file:
                stored = set(file.keys())
            if wrapped is None:
                wrapped = PeftModel.from_pretrained(backbone.model, folder, adapter_name=name)
            else:
                wrapped.load_adapter(folder, adapter_name=name)
            # peft looks for the backbone's vocabulary there, and at the hub where there is none
            wrapped.peft_config[name].base_model_name_or_path = backbone.source.location
            known = set(get_peft_model_state_dict(wrapped, adapter_name=name))
        except (ValueError, RuntimeError, KeyError, OSError, SafetensorError) as error:
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


def _check_family(name: str, folder: str, backbone: Backbone) -> None:
    """Families name and may shape their decoders alike, so the tensors do not tell them apart."""
    path = Path(folder) / "adapter_config.json"
    try:
        made_for = (json.loads(path.read_text())["auto_mapping"] or {})["base_model_class"]
    except (OSError, ValueError, KeyError):
        return  # peft records it where the adapter has no task type
    if made_for != backbone.auto_class:
        raise AdapterError(
            f"adapter {name!r} from {folder!r} was made for another backbone than "
            f"{backbone.source.name!r}: it is for {made_for}"
        )
