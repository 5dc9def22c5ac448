"""What a fan-out would run and need, told from configurations alone: no weights, no images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

from tokenfocus_ray.backbones import loading
from tokenfocus_ray.backbones.base import Backbone, Source
from tokenfocus_ray.config import BackboneRun, TrainConfig
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.training.adapter import attach, count, trainable
from tokenfocus_ray.training.bags import make_bags, member_name
from tokenfocus_ray.training.samples import check_weights, index_samples
from tokenfocus_ray.training.schedule import Schedule
from tokenfocus_ray.training.validation import Selection, criterion_warnings, select_criteria

#: Bytes of a trained value: itself, its gradient, and AdamW's two moments, all in float32.
TRAINED_BYTES = 16
#: Bytes that a decoder layer keeps of each token for the backward pass, in units of the width.
ACTIVATION_WIDTHS = 34
GIB = 2**30


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """One member that would be trained.

    Attributes:
        name: Of the member.
        backbone: Its backbone.
        n_train: Samples of an epoch.
        n_validation: Samples that choose the best epoch.
        n_held_out: Samples scored out of fold.
        steps: Optimiser steps at the most.
        trainable_parameters: Values that are trained.
        parameters: Values in all.
        memory_gib: Estimate of what a worker's device holds, in GiB.
        checkpoint_gib: Size of a checkpoint, of which the best and the latest are kept.
        selection: What chooses the best epoch.
    """

    name: str
    backbone: str
    n_train: int
    n_validation: int
    n_held_out: int
    steps: int
    trainable_parameters: int
    parameters: int
    memory_gib: float
    checkpoint_gib: float
    selection: Selection


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a fan-out would run.

    Attributes:
        members: One after another.
        warnings: What to know of them, a line each.
    """

    members: list[MemberPlan]
    warnings: list[str]


def plan_members(
    config: TrainConfig,
    sources: Mapping[str, Source],
    table: pa.Table,
    columns: Columns,
    where: str,
) -> TrainingPlan:
    """Every member that would be trained.

    Args:
        config: The fan-out.
        sources: What each of its backbones was resolved to.
        table: Its manifest without images, see :func:`index_samples`.
        columns: Which column is what.
        where: The manifest, for messages.

    Raises:
        UserError: the data, the bags, a backbone or the adapter's targets do not fit.
    """
    samples, _ = index_samples(table, columns, config, where)
    check_weights(samples, config)
    groups: list[Any] = samples["group"].to_pylist()
    bags = make_bags(groups, config.bags)
    decided = select_criteria(samples, bags, config)
    options = config.optimizer
    plans = []
    for name, run in config.backbones.items():
        trained, parameters, memory = footprint(config, run, sources[name])
        for bag, choice in zip(bags, decided, strict=True):
            schedule = Schedule(
                bag.train, tuple(groups), options.epochs, options.batch_size, config.bags.seed
            )
            plans.append(
                MemberPlan(
                    member_name(name, bag.index),
                    name,
                    len(bag.train),
                    len(bag.validation),
                    len(bag.held_out),
                    schedule.n_steps,
                    trained,
                    parameters,
                    memory / GIB,
                    trained * 12 / GIB,
                    choice,
                )
            )
    return TrainingPlan(plans, criterion_warnings({p.name: p.selection for p in plans}))


def footprint(config: TrainConfig, run: BackboneRun, source: Source) -> tuple[int, int, float]:
    """Trained values, all values, and an estimate of a worker's device memory in bytes.

    The estimate adds weights, optimiser and the activations of a full micro-batch; what kernels
    and the vision tower hold for a moment is not in it.
    """
    backbone = loading.skeleton(source)
    attach(backbone, config.lora, 0)
    trained = count(trainable(backbone.model))
    parameters = count(backbone.model.parameters())
    low = run.dtype == "bfloat16" or (run.dtype == "auto" and torch.cuda.is_available())
    frozen = 2 if low and config.lora and run.strategy == "ddp" else 4
    weights: float = (parameters - trained) * frozen + trained * TRAINED_BYTES
    if run.strategy == "fsdp":
        decoder = count(backbone.language_model.layers.parameters())
        weights = weights * (1 - decoder / parameters * (1 - 1 / run.workers))
    return trained, parameters, weights + _activations(backbone, run, 2 if low else 4)


def _activations(backbone: Backbone, run: BackboneRun, value_bytes: int) -> float:
    text = backbone.model.config.get_text_config()
    per_layer: float = run.token_budget * text.hidden_size * ACTIVATION_WIDTHS / 2 * value_bytes
    layers = int(text.num_hidden_layers)
    if run.gradient_checkpointing:
        return float(run.token_budget * text.hidden_size * value_bytes * layers) + per_layer
    return per_layer * layers


def check_space(
    config: TrainConfig, sources: Mapping[str, Source], free_bytes: int | None, out: str
) -> None:
    """Refuses a disk that cannot hold the checkpoints of the members.

    Args:
        config: The fan-out.
        sources: What each of its backbones was resolved to.
        free_bytes: Free space at the output; None where there is no telling.
        out: The output folder, for the message.

    Raises:
        OutputError: with what is needed and what there is.
    """
    if free_bytes is None:
        return
    needed = 0
    for name, run in config.backbones.items():
        trained, *_ = footprint(config, run, sources[name])
        # a checkpoint holds values and two moments; best, latest and the one being written stand
        # at once, and the adapter in the end
        needed += config.bags.count * trained * (3 * 12 + 4)
    if needed > free_bytes:
        raise OutputError(
            f"output folder {out!r} has {free_bytes / GIB:.1f} GiB free, but the members' "
            f"checkpoints need about {needed / GIB:.1f} GiB; free space, choose another folder, or "
            f"lower lora.rank or bags.count"
        )
