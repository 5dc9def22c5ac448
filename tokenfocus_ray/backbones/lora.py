"""Members of a backbone: peft adapters on one set of base weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.errors import AdapterError

#: Parameter names that lie before the decoder: an adapter on one of them has its own image features.
VISION_PARTS = (".visual.", ".vision_tower.", ".multi_modal_projector.")


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

    wrapped: PeftModel | None = None
    for name, folder in adapters.items():
        if not name or "." in name:
            raise AdapterError(f"member name {name!r} is empty or has a dot; rename the member")
        weights = Path(folder) / "adapter_model.safetensors"
        for path in (Path(folder) / "adapter_config.json", weights):
            if not path.is_file():
                raise AdapterError(
                    f"adapter {name!r}: {str(path)!r} is missing; give a folder that peft's "
                    f"save_pretrained wrote"
                )
        try:
            with safe_open(weights, framework="pt") as file:
                stored = set(file.keys())
            if wrapped is None:
                wrapped = PeftModel.from_pretrained(backbone.model, folder, adapter_name=name)
            else:
                wrapped.load_adapter(folder, adapter_name=name)
            known = set(get_peft_model_state_dict(wrapped, adapter_name=name))
        except (ValueError, RuntimeError, KeyError, OSError, SafetensorError) as error:
            raise AdapterError(
                f"adapter {name!r} from {folder!r} does not fit backbone "
                f"{backbone.source.name!r}: {error}"
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
