from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
import torch

from tests.support.folders import TINY
from tests.support.learners import train_config
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.errors import ConfigError, OutputError
from tokenfocus_ray.plan.training import check_space, footprint, plan_members
from tokenfocus_ray.training.adapter import attach, count, trainable
from tokenfocus_ray.training.bags import make_bags
from tokenfocus_ray.training.samples import SAMPLE_COLUMNS
from tokenfocus_ray.training.schedule import Schedule

GIB = 2**30
#: Eleven prompts with one to three images each, one row of which nobody rated.
TABLE = pa.Table.from_pylist(
    [
        {
            "sample_id": f"{prompt}-{image}",
            "image_uri": f"{prompt}-{image}.png",
            "prompt": f"{prompt} cats",
            "prompt_type": "real",
            "elements": ["cats (animal)"],
            "total_scores": [] if (prompt, image) == (4, 0) else [3],
        }
        for prompt in range(11)
        for image in range(1 + prompt % 3)
    ]
)

SOURCES = {name: registry.resolve(name) for name in TINY}


def trained_and_all(name: str, config: TrainConfig) -> tuple[int, int]:
    backbone = loading.load(SOURCES[name], device="cpu", dtype=torch.float32)
    attach(backbone, config.lora, 0)
    return count(trainable(backbone.model)), count(backbone.model.parameters())


@pytest.mark.parametrize("lora", [{}, {"rank": 7, "targets": ["o_proj"]}, {"vision": True}, None])
@pytest.mark.parametrize("name", TINY)
def test_parameters_are_those_of_the_loaded_model(name: str, lora: dict[str, Any] | None) -> None:
    """Counted without weights, tied ones once."""
    config = train_config(name, lora=lora)
    assert footprint(config, config.backbones[name], SOURCES[name])[:2] == trained_and_all(
        name, config
    )


def test_plan_of_every_member() -> None:
    config = TrainConfig.parse(
        {
            "data": "m",
            "backbones": list(TINY),
            "bags": {"count": 3, "method": "bootstrap", "seed": 4},
            "optimizer": {"epochs": 2, "batch_size": 4},
            "lora": {"rank": 2},
        }
    )
    plans = plan_members(config, SOURCES, TABLE, SAMPLE_COLUMNS, "m").members
    names = [f"{name}-bag{bag}" for name in TINY for bag in range(3)]
    assert [p.name for p in plans] == names
    assert [p.backbone for p in plans] == [name for name in TINY for _ in range(3)]
    keys = map(str, TABLE["sample_id"].to_pylist())
    groups = [int(key.partition("-")[0]) for key in keys if key != "4-0"]
    bags = make_bags(groups, config.bags)
    for plan, bag in zip(plans, bags * 2, strict=True):
        schedule = Schedule(bag.train, tuple(groups), 2, 4, 0)
        assert plan.n_train == len(bag.train)
        assert plan.n_validation == len(bag.validation)
        assert plan.n_held_out == len(bag.held_out)
        assert plan.steps == len(list(schedule.steps()))
        sizes = trained_and_all(plan.backbone, config)
        assert (plan.trainable_parameters, plan.parameters) == sizes
        assert plan.checkpoint_gib == sizes[0] * 12 / GIB
        assert plan.memory_gib > (sizes[1] * 4 + sizes[0] * 12) / GIB


def test_plan_of_too_few_prompts() -> None:
    config = train_config("tiny-internvl", bags={"count": 12})
    with pytest.raises(ConfigError) as caught:
        plan_members(config, SOURCES, TABLE, SAMPLE_COLUMNS, "m")
    assert str(caught.value) == (
        "bags.count = 12 needs at least 12 different prompts, but the training data has 11; lower "
        "bags.count or add data"
    )


def test_plan_of_an_unknown_target() -> None:
    config = train_config("tiny-internvl", lora={"targets": ["qkv"]})
    with pytest.raises(ConfigError, match=r"^lora.targets: 'qkv' is no linear layer of tiny-int"):
        plan_members(config, SOURCES, TABLE, SAMPLE_COLUMNS, "m")


def memory(lora: dict[str, Any] | None = None, **run: Any) -> float:
    name = "tiny-qwen2_5_vl"
    config = train_config(name, lora=lora, run={"dtype": "float32", **run})
    return footprint(config, config.backbones[name], SOURCES[name])[2]


def test_memory_follows_the_options() -> None:
    """More tokens or trained values take more, checkpointing, sharding and bfloat16 less."""
    assert memory(token_budget=4096) < memory(token_budget=8192)
    assert memory(gradient_checkpointing=True) < memory()
    assert memory(strategy="fsdp", workers=4) < memory(strategy="fsdp", workers=2) < memory()
    assert memory(lora={"rank": 4}) < memory(lora={"rank": 64}) < memory(lora=None)
    assert memory(lora={}, dtype="bfloat16") < memory(lora={})


def test_space() -> None:
    config = TrainConfig.parse(
        {"data": "m", "backbones": list(TINY), "bags": {"count": 3}, "lora": {"rank": 2}}
    )
    # three checkpoints of three floats each, and the adapter, for every member
    needed = sum(3 * trained_and_all(name, config)[0] * (3 * 3 + 1) * 4 for name in TINY)
    check_space(config, SOURCES, None, "out")
    check_space(config, SOURCES, needed, "out")
    with pytest.raises(OutputError) as caught:
        check_space(config, SOURCES, needed - 1, "s3://b/out")
    shown = f"{needed / GIB:.1f}"
    assert str(caught.value) == (
        f"output folder 's3://b/out' has {shown} GiB free, but the members' checkpoints need about "
        f"{shown} GiB; free space, choose another folder, or lower lora.rank or bags.count"
    )


def test_space_in_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    def large(*_: Any) -> tuple[int, int, float]:
        return GIB, GIB, 0.0

    monkeypatch.setattr("tokenfocus_ray.plan.training.footprint", large)
    with pytest.raises(OutputError) as caught:
        check_space(train_config("tiny-internvl"), SOURCES, 3 * GIB // 2, "out")
    assert str(caught.value) == (
        "output folder 'out' has 1.5 GiB free, but the members' checkpoints need about 200.0 GiB; "
        "free space, choose another folder, or lower lora.rank or bags.count"
    )
