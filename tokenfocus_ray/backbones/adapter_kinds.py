"""Which peft adapters can be members of a backbone, told from ``adapter_config.json`` alone.

Members share one set of base weights, and the packed forward calls the model itself, not peft's
wrapper. So an adapter must live in the layers that it adapts, and beside others it must leave the
base weights as they are.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenfocus_ray.errors import AdapterError

ADAPTER_CONFIG = "adapter_config.json"
#: peft's types that are right as members; each is compared with plain peft in tests/parity.
TYPES = (
    "LORA",
    "ADALORA",
    "BOFT",
    "FOURIERFT",
    "HRA",
    "IA3",
    "LN_TUNING",
    "LOHA",
    "LOKR",
    "OFT",
)
#: peft's types that only its wrapper applies, as virtual tokens or a cache before the sequence.
PROMPT_TYPES = (
    "PROMPT_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "P_TUNING",
    "PREFIX_TUNING",
    "CARTRIDGE",
    "ADAPTION_PROMPT",
)
#: Options of LoRA that do not hold here -> what they do.
NOT_HONOURED = {
    "alora_invocation_tokens": "switches the adapter on in mid-sequence, by peft's wrapper",
    "arrow_config": "routes among adapters",
    "kasa_config": "truncates the backbone's weights",
    "layer_replication": "gives the backbone other layers",
    "megatron_config": "is for another framework",
    "monteclora_config": "draws the weights at random",
    "target_parameters": "is not compared with plain peft",
    "use_bdlora": "is not compared with plain peft",
    "use_qalora": "is not compared with plain peft",
    "velora_config": "is not compared with plain peft",
}
#: Initialisations of LoRA that take something out of the backbone's weights when they are loaded.
RESIDUAL = ("pissa", "olora")
#: The same, but what they take out is drawn at random or depends on data.
UNREPEATABLE = ("pissa_niter", "corda", "loftq", "lora_ga")
CONVERT = (
    "convert it to a plain LoRA with peft's save_pretrained(..., "
    "path_initial_model_for_weight_conversion=...)"
)


def read_adapter_config(name: str, folder: str | Path, shown: str | None = None) -> dict[str, Any]:
    """``adapter_config.json`` of an adapter.

    Args:
        name: Of the member.
        folder: Local folder.
        shown: What messages call the folder.

    Raises:
        AdapterError: it is no JSON object.
    """
    path = Path(folder) / ADAPTER_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        cause = str(error) or type(error).__name__
        raise AdapterError(
            f"adapter {name!r} from {shown or str(folder)!r}: {ADAPTER_CONFIG} cannot be read as "
            f"JSON: {cause}"
        ) from error
    if not isinstance(config, dict):
        raise AdapterError(
            f"adapter {name!r} from {shown or str(folder)!r}: {ADAPTER_CONFIG} must hold an "
            f"object, got {type(config).__name__}"
        )
    return config


def check_kinds(configs: Mapping[str, Mapping[str, Any]], folders: Mapping[str, str]) -> None:
    """Refuses adapters that cannot be right, each alone or beside the others.

    Args:
        configs: Member name -> its ``adapter_config.json``.
        folders: Member name -> its folder, for messages.

    Raises:
        AdapterError: naming the member, its kind and the remedy.
    """
    for name, config in configs.items():
        if problem := _problem(config, alone=len(configs) == 1):
            raise AdapterError(f"adapter {name!r} from {folders[name]!r} {problem}")
    for first, name in itertools.pairwise(configs):
        kinds = [str(configs[n]["peft_type"]) for n in (first, name)]
        if kinds[0] != kinds[1]:
            raise AdapterError(
                f"adapters {first!r} and {name!r} are of the types {kinds[0]} and {kinds[1]}, "
                f"which peft does not hold side by side; score with each in a run of its own"
            )


def _problem(config: Mapping[str, Any], alone: bool) -> str | None:
    kind = str(config.get("peft_type"))
    if kind in PROMPT_TYPES:
        return (
            f"is of the type {kind}, which puts virtual tokens before the sequence; the packed "
            f"forward has no place for them, so it would score as the backbone alone: train a LoRA"
        )
    if kind not in TYPES:
        return (
            f"is of the type {kind}, which is not compared with plain peft here; train one of "
            f"{', '.join(TYPES)}"
        )
    start = str(config.get("init_lora_weights")).lower()
    if kind == "LORA":
        for option, what in NOT_HONOURED.items():
            if config.get(option):
                return f"sets {option} = {config[option]!r:.80}, which {what}; train it without"
        if start.startswith(UNREPEATABLE):
            return (
                f"was made with init_lora_weights = {start!r}, which changes the backbone's "
                f"weights in a way that cannot be repeated exactly; {CONVERT}"
            )
        if start.startswith(RESIDUAL) and not alone:
            return (
                f"was made with init_lora_weights = {start!r}, which takes its start out of the "
                f"backbone's weights, also for the members beside it; {CONVERT}, or score with it "
                f"alone"
            )
    if config.get("trainable_token_indices") and not alone:
        return (
            "trains single tokens (trainable_token_indices), which peft does not hold beside "
            "members that do not; score with it alone"
        )
    if config.get("bias", "none") not in ("none", None) and not alone:
        return (
            f"sets bias = {config['bias']!r}, which writes into the backbone's biases, also for "
            f"the members beside it; train it with bias = 'none', or score with it alone"
        )
    return None
