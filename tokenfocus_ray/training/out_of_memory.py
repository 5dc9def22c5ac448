"""What is said where a step does not fit into a device's memory: what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tokenfocus_ray.config import BackboneRun
from tokenfocus_ray.errors import ConfigError


@contextmanager
def out_of_memory_in_words(step: int, backbone: str, run: BackboneRun) -> Iterator[None]:
    """Ends a step that does not fit as an error of the configuration: it would not fit again.

    Args:
        step: Number of the step, from 0.
        backbone: A key of the configuration's backbones.
        run: Its options.

    Raises:
        ConfigError: with what to change.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(_in_words(step, backbone, run, error)) from error


def _in_words(step: int, backbone: str, run: BackboneRun, error: BaseException) -> str:
    key = f"backbones.{backbone}"
    ways = [f"lower {key}.token_budget ({run.token_budget}), which changes the pace only"]
    if not run.gradient_checkpointing:
        ways.append(f"set {key}.gradient_checkpointing to true, which takes longer")
    if run.strategy == "ddp":
        ways.append(f"set {key}.strategy to fsdp on several workers")
    first = str(error).partition(". ")[0].strip().splitlines()
    reason = first[0] if first else "out of memory"
    return (
        f"step {step} does not fit into the device's memory ({reason}); {', or '.join(ways)}, and "
        f"launch again: the member goes on from its latest checkpoint"
    )
