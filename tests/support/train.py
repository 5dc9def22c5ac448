"""Training for tests: small data, small runs and what they leave, one member on two workers."""

from __future__ import annotations

import functools
import json
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from tests.support.samples import picture
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.datasets.synthetic.files import write_benchmark
from tokenfocus_ray.errors import ImageDecodeError
from tokenfocus_ray.schema import Element
from tokenfocus_ray.scoring.request import Request
from tokenfocus_ray.training.learner import Learner
from tokenfocus_ray.training.objective import Example
from tokenfocus_ray.training.samples import vocabularies
from tokenfocus_ray.training.soft_labels import sample_labels

# Ray Train looks at its workers every two seconds, and each checkpoint waits for that; and it has
# a process that watches for preempted nodes. Read where a session starts.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")

BACKBONE = "tiny-qwen2_5_vl"
MEMBERS = tuple(f"{BACKBONE}-bag{i}" for i in range(2))
#: Of :func:`small_config` on :func:`small_data`: 10 samples in batches of 3, twice. An epoch's last
#: batch has one row, so that the second of two workers has none.
STEPS_PER_EPOCH, N_STEPS = 4, 8


def small_data(folder: Path) -> Path:
    """A labelled manifest of 6 prompts with 5 images each, and ``test.parquet`` beside it."""
    write_benchmark(str(folder), n_samples=42, seed=5)
    path = folder / "train.parquet"
    table = pq.read_table(path)
    keep = [name != "sim-fjord" for name in table["generator"].to_pylist()]
    pq.write_table(table.filter(keep), path)
    return path


def small_config(data: str | Path = "unused.parquet", **changes: Any) -> TrainConfig:
    """Two members with small adapters, without dropout; changes are merged in, but backbones."""
    values: dict[str, Any] = {
        "data": str(data),
        "backbones": {BACKBONE: backbone_run()},
        "bags": {"count": 2},
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
        "optimizer": {"epochs": 2, "batch_size": 3, "learning_rate": 1e-3},
        "checkpoint_steps": 2,
    }
    for key, value in changes.items():
        known = values.get(key)
        merged = key != "backbones" and isinstance(known, dict) and isinstance(value, Mapping)
        values[key] = {**known, **value} if merged else value  # type: ignore[dict-item]
    return TrainConfig.parse(values)


def backbone_run(**changes: Any) -> dict[str, Any]:
    """Options of the backbone in :func:`small_config`: little, and on the CPU wherever it runs."""
    return {"gpus": 0, "cpus": 0.5, "max_visual_tokens": 16, **changes}


@dataclass(frozen=True)
class Reference:
    """An undisturbed run with one worker a member.

    Attributes:
        config: What was run.
        data: Its manifest.
        out: Its folder.
        lines: What it said.
        line: The summary's line.
    """

    config: TrainConfig
    data: Path
    out: Path
    lines: tuple[str, ...]
    line: str


@functools.cache
def reference_run(base: Path) -> Reference:
    """The run that others are compared with: made once for all streams of tests.

    Args:
        base: pytest's folder of this stream, below that of all.
    """
    from tokenfocus_ray.distributed.train.job import train_members

    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "train-reference"
    data, said = folder / "data" / "train.parquet", folder / "said.json"
    config = small_config(data)
    with FileLock(folder.with_suffix(".lock")):
        if not said.exists():
            small_data(folder / "data")
            lines: list[str] = []
            summary = train_members(config, str(folder / "run"), say=lines.append)
            said.write_text(json.dumps([lines, summary.line()]))
    lines, last = json.loads(said.read_text())
    return Reference(config, data, folder / "run", tuple(lines), last)


def take_member(source: Path, out: Path, name: str, **changed: str) -> None:
    """Copies a finished member to another run, which then leaves it alone: saves its training.

    Args:
        source: A finished run.
        out: The other.
        name: Of the member.
        **changed: What its ``member.json`` says there otherwise: ``member``, ``backbone``.
    """
    folder = out / "members" / changed.get("member", name)
    shutil.copytree(source / "members" / name, folder)
    record = json.loads((folder / "member.json").read_text())
    (folder / "member.json").write_text(json.dumps(record | changed))


def adapter(out: Path, member: str) -> dict[str, Tensor]:
    """Weights of a member's adapter."""
    return load_file(out / "members" / member / "adapter" / "adapter_model.safetensors")


def assert_same_adapter(
    mine: dict[str, Tensor], theirs: dict[str, Tensor], relative: float, strays: float = 0.0
) -> None:
    """Compares weights, relative to the largest of their kind (A or B).

    Args:
        mine: From :func:`adapter`.
        theirs: Likewise.
        relative: Largest difference.
        strays: Share of the values that may differ more. AdamW divides a gradient by its size: of
            one that is nothing but rounding, which other workers round otherwise, it makes a step
            like any other.
    """
    assert set(mine) == set(theirs)
    for kind in ("lora_A", "lora_B"):
        names = [name for name in theirs if kind in name]
        scale = max(float(theirs[name].abs().max()) for name in names)
        assert scale > 0
        off = torch.cat([(mine[name] - theirs[name]).abs().flatten() for name in names]) / scale
        assert float((off > relative).float().mean()) <= strays, (kind, float(off.max()))


def metrics(out: Path, member: str) -> list[dict[str, Any]]:
    """The member's ``metrics.jsonl``."""
    lines = (out / "members" / member / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def n_reports(out: Path, member: str) -> int:
    """How often the member's workers reported, all starts together."""
    name = "checkpoint_manager_snapshot.json"
    snapshot = json.loads((out / "members" / member / name).read_text())
    return int(snapshot["current_report_index"])


def written(out: Path, member: str) -> dict[str, int]:
    """When a member's result was written, file by file."""
    folder = out / "members" / member
    files = [folder / "member.json", folder / "held_out.parquet", *(folder / "adapter").iterdir()]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def read_scalars(path: Path) -> Iterator[tuple[int, str, float]]:
    """Step, tag and value of a TensorBoard event file: records of length, checksum, event."""
    from tensorboardX.crc32c import crc32c
    from tensorboardX.proto.event_pb2 import Event

    def masked(data: bytes) -> int:
        crc = int(crc32c(data))
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        assert struct.unpack("<I", content[8:12]) == (masked(content[:8]),)
        data = content[12 : 12 + length]
        assert struct.unpack("<I", content[12 + length : 16 + length]) == (masked(data),)
        content = content[16 + length :]
        event = Event.FromString(data)
        for value in event.summary.value:
            yield event.step, value.tag, value.simple_value


def small_learner(config: TrainConfig) -> Learner:
    """A learner on the CPU, in float64; in a process group, a parallel one."""
    (name,) = config.backbones
    limit = config.backbones[name].max_visual_tokens
    backbone = loading.load(
        registry.resolve(name), device="cpu", dtype=torch.float64, max_visual_tokens=limit
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
        Results by name: gradients, loss, norm, values and scores.
    """
    learner = small_learner(config)
    data = examples(learner, 9)
    # from a trained state: an adapter starts at 0, and one of its sides without a gradient
    noise = torch.Generator().manual_seed(1)
    start = {n: full(p) + 0.02 * torch.randn(p.shape, generator=noise) for n, p in trained(learner)}
    learner.load_trained({"model": start})
    result: dict[str, Any] = {}
    batches = [data[:5], data[5:6]]  # the second leaves the second of two workers without rows
    for i, batch in enumerate(batches):
        result[f"terms{i}"] = learner.gradients(batch[rank::workers])
        result[f"gradients{i}"] = {n: full(p.grad) for n, p in trained(learner)}
        learner.optimizer.zero_grad()
    for i, batch in enumerate(batches):
        result[f"terms{2 + i}"] = learner.step(i, batch[rank::workers])
    result["stepped"] = {n: full(p) for n, p in trained(learner)}
    requests = [e.request for e in data]
    result["scores"] = scores(learner, requests[rank::workers])
    state = learner.state()
    if rank == 0:
        torch.save(state, folder / "state.pt")
    if workers > 1:
        dist.barrier()
    # a restart, once before anything is predicted and once after
    for name in ("restarted", "predicted"):
        again = small_learner(config)
        again.load_state(torch.load(folder / "state.pt", weights_only=True))
        if name == "predicted":
            bad = Request("bad", "a circle", ImageDecodeError("image_missing", "gone"))
            few = [requests[0], bad, requests[1]]  # nothing to ask of the second worker
            result["few"] = scores(again, few[rank::workers])
        for i, batch in enumerate([data[8:9], data[6:9]], start=2):
            terms = again.step(i, batch[rank::workers])
        result[f"terms_{name}"] = terms
        result[name] = {n: full(p) for n, p in trained(again)}
    return result


def scores(learner: Learner, requests: list[Request]) -> dict[str, float]:
    """Sample -> score."""
    return {row.sample_id: row.score for row in learner.predict(requests)}


def trained(learner: Learner) -> list[tuple[str, torch.nn.Parameter]]:
    """Name and value of what is trained."""
    return [(n, p) for n, p in learner.wrapped.named_parameters() if p.requires_grad]


def full(value: Any) -> Tensor:
    """A copy of a tensor; of one that is spread over the workers, all of it on each."""
    whole: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return whole.detach().clone()


def practise_on_two(configs: Mapping[str, TrainConfig], folder: Path) -> None:
    """Runs :func:`practise` of each configuration on two gloo workers.

    Leaves the results as ``folder/NAME-RANK.pt``.
    """
    spawn(_worker, (dict(configs), folder), nprocs=2)


def _worker(rank: int, configs: dict[str, TrainConfig], folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    try:
        for name, config in configs.items():
            (folder / name).mkdir(exist_ok=True)
            torch.save(practise(config, rank, 2, folder / name), folder / f"{name}-{rank}.pt")
    finally:
        dist.destroy_process_group()
