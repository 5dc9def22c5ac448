"""Training for tests: a small benchmark, small runs, what they leave, and gradients on two workers.

Legend: N samples.
"""

from __future__ import annotations

import json
import shutil
import struct
import time
from datetime import timedelta
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from tests.support.samples import picture
from tokenfocus_ray.backbones import registry
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.datasets.synthetic_files import write_benchmark
from tokenfocus_ray.scoring.request import Request
from tokenfocus_ray.schema import Element
from tokenfocus_ray.training.labels import sample_labels
from tokenfocus_ray.training.learner import Learner
from tokenfocus_ray.training.objective import Example
from tokenfocus_ray.training.samples import vocabularies

BACKBONE = "tiny-qwen2_5_vl"
N_STEPS = 6


def small_config(data: str = "unused.parquet", **changes: Any) -> TrainConfig:
    """Two members with small adapters, without dropout; changes go one level deep."""
    values: dict[str, Any] = {
        "data": data,
        "backbones": {BACKBONE: {"cpus": 0.5, "max_visual_tokens": 16}},
        "bags": {"count": 2},
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
        "optimizer": {"epochs": 2, "batch_size": 3, "learning_rate": 1e-3},
    }
    for key, value in changes.items():
        known = values.get(key)
        both = isinstance(known, dict) and isinstance(value, Mapping)
        values[key] = {**known, **value} if both else value
    return TrainConfig.parse(values)


def small_learner(config: TrainConfig) -> Learner:
    """A learner on the CPU; in a process group, a parallel one."""
    (name,) = config.backbones
    limit = config.backbones[name].max_visual_tokens
    backbone = registry.load(
        registry.resolve(name), device="cpu", dtype=torch.float32, max_visual_tokens=limit
    )
    return Learner(backbone, config, config.scoring(name), N_STEPS, seed=3)


def examples(learner: Learner, count: int) -> list[Example]:
    """Labelled pictures; prompts, elements and annotators differ in number, some are missing."""
    levels = vocabularies(learner.config)
    found = []
    for i in range(count):
        elements = tuple(Element(f"thing {k}", "object") for k in range(i % 4))
        image = learner.backbone.image_spec.prepare(picture(90 + 40 * (i % 3), 120, i))
        request = Request(f"s{i}", "a red circle " * (1 + i % 3), image, elements, None)
        rated = [[float((i + k) % 2)] * (1 + k) for k in range(len(elements))]
        total = None if i == 2 else [1.0 + (i + a) % 5 for a in range(1 + i % 3)]
        found.append(Example(request, sample_labels(total, rated, *levels), i // 2))
    return found


def practise(config: TrainConfig, rank: int, workers: int, folder: Path) -> dict[str, Any]:
    """What one member's workers do: gradients, steps, predictions, a restart from a checkpoint.

    Args:
        config: How to train.
        rank: This worker.
        workers: Number of workers.
        folder: Where rank 0 leaves the checkpoint.

    Returns:
        Results by name; the same for any number of workers, but for what only rank 0 is given.
    """
    learner = small_learner(config)
    data = examples(learner, 9)
    # an adapter starts at 0 and would have no gradient on one side
    noise = torch.Generator().manual_seed(1)
    start = {
        name: full(value) + 0.02 * torch.randn(value.shape, generator=noise)
        for name, value in trained(learner)
    }
    learner.load_trained({"model": start})
    batches = [data[:5], data[5:6], data[6:9]]  # the second leaves the second of two workers idle
    result: dict[str, Any] = {}
    for i, batch in enumerate(batches[:2]):
        result[f"shown{i}"] = learner.gradients(batch[rank::workers])
        result[f"gradients{i}"] = {
            name: full(value.grad) for name, value in trained(learner)
        }
        learner.optimizer.zero_grad()
    for i, batch in enumerate(batches[:2]):
        result[f"step{i}"] = learner.step(i, batch[rank::workers])
    requests = [e.request for e in data]
    result["scores"] = [r.score for r in learner.predict(requests[rank::workers])]
    result["first_score"] = [r.score for r in learner.predict(requests[:1][rank::workers])]
    state = learner.state()
    if rank == 0:
        torch.save(state, folder / "state.pt")
        result["state"] = state
    if workers > 1:
        dist.barrier()
    # a restart; its first step has one row only
    again = small_learner(config)
    again.load_state(torch.load(folder / "state.pt", weights_only=True))
    result["restarted_score"] = [r.score for r in again.predict(requests[:1][rank::workers])]
    for i, batch in enumerate([data[8:9], batches[2]], start=2):
        result[f"step{i}"] = again.step(i, batch[rank::workers])
    end = again.state()
    if rank == 0:
        result["end"] = end
    return result


def trained(learner: Learner) -> list[tuple[str, torch.nn.Parameter]]:
    """Name and value of what is trained."""
    return [(n, p) for n, p in learner.wrapped.named_parameters() if p.requires_grad]


def full(value: Any) -> Tensor:
    """A copy of a tensor; of one that is spread over the workers, all of it on each."""
    value = value.full_tensor() if hasattr(value, "full_tensor") else value
    return value.detach().clone()


def practise_on_two(configs: Mapping[str, TrainConfig], folder: Path) -> None:
    """Runs :func:`practise` of each configuration on two gloo workers.

    Results are left as ``folder/NAME-RANK.pt``.
    """
    torch.multiprocessing.spawn(_worker, (dict(configs), folder), nprocs=2)


def _worker(rank: int, configs: dict[str, TrainConfig], folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2,
        timeout=timedelta(seconds=120),
    )
    try:
        for name, config in configs.items():
            (folder / name).mkdir(exist_ok=True)
            torch.save(practise(config, rank, 2, folder / name), folder / f"{name}-{rank}.pt")
    finally:
        dist.destroy_process_group()
