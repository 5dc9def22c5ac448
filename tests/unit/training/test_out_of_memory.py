from __future__ import annotations

import pytest
import torch

from tokenfocus_ray.config import BackboneRun
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.training.out_of_memory import out_of_memory_in_words

TORCH = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 1.20 GiB is free."
)


def message(run: BackboneRun) -> str:
    with pytest.raises(ConfigError) as caught, out_of_memory_in_words(7, "b", run):
        raise torch.OutOfMemoryError(TORCH)
    return str(caught.value)


def test_what_to_change_is_said() -> None:
    assert message(BackboneRun(token_budget=4096)) == (
        "step 7 does not fit into the device's memory (CUDA out of memory); lower "
        "backbones.b.token_budget (4096), which changes the pace only, or set "
        "backbones.b.gradient_checkpointing to true, which takes longer, or set "
        "backbones.b.strategy to fsdp on several workers, and launch again: the member goes on "
        "from its latest checkpoint"
    )


def test_what_is_done_already_is_not_advised() -> None:
    run = BackboneRun(strategy="fsdp", gradient_checkpointing=True)
    assert message(run) == (
        "step 7 does not fit into the device's memory (CUDA out of memory); lower "
        "backbones.b.token_budget (8192), which changes the pace only, and launch again: the "
        "member goes on from its latest checkpoint"
    )


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="boom"), out_of_memory_in_words(0, "b", BackboneRun()):
        raise RuntimeError("boom")
