"""What a checkpoint holds of a member: trained values and the optimiser's state, whole on the CPU.

Every worker calls these: of a sharded model, each has a part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from tokenfocus_ray.errors import TrainingError

_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_PART = StateDictOptions(full_state_dict=True, cpu_offload=True, strict=False)


def trained_values(model: nn.Module) -> dict[str, Tensor]:
    """Trained values by name.

    Where the member trains on the CPU, they are the values themselves: save or copy them.
    """
    state: Any = get_model_state_dict(model, options=_FULL)
    # by name too: a frozen head that is tied to the embeddings slips through torch's option
    names = _trained_names(model)
    return {name: value for name, value in state.items() if name in names}


def optimizer_state(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """The optimiser's state by name of the value."""
    return dict(get_optimizer_state_dict(model, optimizer, options=_FULL))


def load_trained_values(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """The inverse of :func:`trained_values`.

    Raises:
        TrainingError: they are of other parameters; torch would leave the untrained ones in place.
    """
    if odd := sorted(_trained_names(model) ^ {*values}):
        raise TrainingError(
            f"a checkpoint is of other parameters than are trained now: {len(odd)} differ, such as "
            f"{odd[0]!r}; go on with the versions that it was written with, or train anew into "
            f"another folder"
        )
    set_model_state_dict(model, dict(values), options=_PART)  # it adds keys


def load_optimizer_state(model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """The inverse of :func:`optimizer_state`."""
    set_optimizer_state_dict(model, optimizer, dict(state), options=_PART)


def _trained_names(model: nn.Module) -> set[str]:
    return {name for name, value in model.named_parameters() if value.requires_grad}
