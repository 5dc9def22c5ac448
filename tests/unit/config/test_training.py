from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tokenfocus_ray.config import (
    BackboneRun,
    BagsConfig,
    LoraOptions,
    LossConfig,
    OptimizerConfig,
    ScoringConfig,
    TrainConfig,
)
from tokenfocus_ray.errors import ConfigError

TRAIN: dict[str, Any] = {"data": "d", "backbones": {"tiny": {}}}
KNOWN_OF_RUN = (
    "Known: cpus, dtype, gpus, gradient_checkpointing, learning_rate, max_visual_tokens, "
    "memory_gib, revision, strategy, token_budget, workers."
)


def train_error(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.parse(values, "t.yaml")
    return str(caught.value)


def test_training_defaults() -> None:
    """Each new option is seen here, and so is each changed default: both change members."""
    assert TrainConfig.parse(TRAIN).model_dump() == {
        "data": "d",
        "images": None,
        "images_only": False,
        "map": {},
        "encoding": None,
        "quotes": True,
        "test": None,
        "backbones": {
            "tiny": {
                "revision": None,
                "dtype": "auto",
                "max_visual_tokens": None,
                "learning_rate": None,
                "workers": 1,
                "gpus": None,
                "cpus": 1.0,
                "memory_gib": None,
                "strategy": "ddp",
                "token_budget": 8192,
                "gradient_checkpointing": False,
            }
        },
        "bags": {"method": "kfold", "count": 5, "validation": 0.1, "seed": 0},
        "loss": {
            "first_token": 1.0,
            "regression": 1.0,
            "regression_kind": "huber",
            "kl": 0.0,
            "rank": 0.0,
            "whole_answer": 0.0,
            "elements": 1.0,
            "unsure": 0.5,
        },
        "lora": {
            "rank": 64,
            "alpha": 128,
            "dropout": 0.05,
            "targets": (
                "q_proj",
                "k_proj",
                "v_proj",
                "o_proj",
                "gate_proj",
                "up_proj",
                "down_proj",
            ),
            "vision": False,
        },
        "optimizer": {
            "epochs": 3,
            "batch_size": 32,
            "learning_rate": 1e-4,
            "warmup": 0.05,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "patience": 2,
        },
        "total_levels": {"1": 1.0, "2": 2.0, "3": 3.0, "4": 4.0, "5": 5.0},
        "element_levels": {"No": 0.0, "Yes": 1.0},
        "normalization": "logits",
        "structure": True,
        "parallel": None,
        "checkpoint_steps": 200,
        "max_failures": 3,
    }


def test_the_example_in_the_docs_is_every_key_with_its_default() -> None:
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    example = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    whole = TrainConfig.parse({name: example[name] for name in ("data", "backbones")})
    assert TrainConfig.parse(example) == whole
    (run,) = example["backbones"].values()
    assert run.keys() == BackboneRun.model_fields.keys()
    assert example.keys() == TrainConfig.model_fields.keys()
    for name, model in SCIENCE.items():
        assert example[name].keys() == type(model).model_fields.keys()


def test_backbones_as_a_list_take_the_defaults() -> None:
    listed = TrainConfig.parse({"data": "d", "backbones": ["b", "a"]})
    assert listed == TrainConfig.parse({"data": "d", "backbones": {"b": {}, "a": {}}})
    assert list(listed.backbones) == ["b", "a"]


def test_backbones_as_a_mapping_have_options() -> None:
    config = TrainConfig.parse({"data": "d", "backbones": {"a/b": {"workers": 4}, "c": {}}})
    assert [run.workers for run in config.backbones.values()] == [4, 1]


def test_training_dump_and_parse_round_trip() -> None:
    config = TrainConfig.parse(TRAIN | {"lora": None, "loss": {"kl": 0.5}, "bags": {"count": 2}})
    assert TrainConfig.parse(config.model_dump()) == config
    assert TrainConfig.parse(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            {"optimizer": {"epoch": 2}},
            "unknown key 'optimizer.epoch'. Did you mean 'epochs'? Known: batch_size, epochs, "
            "learning_rate, max_grad_norm, patience, warmup, weight_decay.",
        ),
        (
            {"lora": {"r": 8}},
            "unknown key 'lora.r'. Did you mean 'rank'? Known: alpha, dropout, rank, targets, "
            "vision.",
        ),
        (
            {"backbones": {"Qwen/Qwen2.5-VL": {"worker": 2}}},
            f"unknown key 'backbones.Qwen/Qwen2.5-VL.worker'. Did you mean 'workers'? "
            f"{KNOWN_OF_RUN}",
        ),
        (
            {"backbones": {"data": {"dtyp": "auto"}}},
            f"unknown key 'backbones.data.dtyp'. Did you mean 'dtype'? {KNOWN_OF_RUN}",
        ),
        (
            {"xyz": 3},
            "unknown key 'xyz'. Known: backbones, bags, checkpoint_steps, data, "
            "element_levels, encoding, images, images_only, lora, loss, map, max_failures, "
            "normalization, optimizer, parallel, quotes, structure, test, total_levels.",
        ),
    ],
    ids=["model", "optional model", "mapping", "mapping with the name of a key", "top"],
)
def test_unknown_key_is_compared_with_its_neighbours(values: dict[str, Any], problem: str) -> None:
    assert train_error(TRAIN | values) == f"t.yaml: {problem}"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"data": ""}, "data = '': String should have at least 1 character"),
        (
            {"backbones": []},
            "backbones = {}: Dictionary should have at least 1 item after validation, not 0",
        ),
        ({"backbones": "tiny"}, "backbones = 'tiny': Input should be a valid dictionary"),
        (
            {"backbones": {"tiny": None}},
            "backbones.tiny = None: Input should be a valid dictionary or instance of BackboneRun",
        ),
        (
            {"backbones": {"tiny": {"workers": 0}}},
            "backbones.tiny.workers = 0: Input should be greater than or equal to 1",
        ),
        (
            {"backbones": {"tiny": {"dtype": "float16"}}},
            "backbones.tiny.dtype = 'float16': Input should be 'auto', 'float32' or 'bfloat16'",
        ),
        (
            {"bags": {"method": "random"}},
            "bags.method = 'random': Input should be 'kfold' or 'bootstrap'",
        ),
        ({"bags": {"count": 1}}, "bags.count = 1: Input should be greater than or equal to 2"),
        ({"bags": {"validation": 0.5}}, "bags.validation = 0.5: Input should be less than 0.5"),
        ({"bags": {"seed": -1}}, "bags.seed = -1: Input should be greater than or equal to 0"),
        (
            {"loss": {"first_token": 0, "regression": 0, "elements": 1}},
            "loss: every term is 0; give one of first_token, regression, kl, rank, whole_answer a "
            "weight",
        ),
        (
            {"loss": {"rank": 0.5}, "optimizer": {"batch_size": 1}},
            "loss.rank = 0.5 compares the images of a step, but optimizer.batch_size is 1; raise "
            "it, or set loss.rank to 0",
        ),
        ({"loss": {"kl": -1}}, "loss.kl = -1: Input should be greater than or equal to 0"),
        ({"loss": {"unsure": 2}}, "loss.unsure = 2: Input should be less than or equal to 1"),
        (
            {"lora": {"targets": []}},
            "lora.targets = []: Tuple should have at least 1 item after validation, not 0",
        ),
        ({"lora": {"dropout": 1}}, "lora.dropout = 1: Input should be less than 1"),
        ({"optimizer": {"warmup": 1}}, "optimizer.warmup = 1: Input should be less than 1"),
        (
            {"optimizer": {"learning_rate": 0}},
            "optimizer.learning_rate = 0: Input should be greater than 0",
        ),
        (
            {"total_levels": {"1": 1}},
            "total_levels = {'1': 1}: Dictionary should have at least 2 items after validation, "
            "not 1",
        ),
        (
            {"element_levels": {}},
            "element_levels = {}: Dictionary should have at least 2 items after validation, not 0",
        ),
        ({"parallel": 0}, "parallel = 0: Input should be greater than or equal to 1"),
        (
            {"backbones": {"b": {}, "a": {"strategy": "fsdp"}}, "lora": {"vision": True}},
            "backbone a: fsdp shards the decoder only, so lora.vision must be false; or use ddp",
        ),
        (
            {"backbones": {"a": {"workers": 5}}, "optimizer": {"batch_size": 4}},
            "backbone a: 5 workers share a batch of 4 images; raise optimizer.batch_size",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_training_value_out_of_range(values: dict[str, Any], problem: str) -> None:
    assert train_error(TRAIN | values) == f"t.yaml: {problem}"


def test_missing_data_and_backbones() -> None:
    assert train_error({}) == "t.yaml: data: Field required; backbones: Field required"


def test_every_nested_problem_is_told_at_once() -> None:
    message = train_error({"backbones": ["b"], "loss": {"kl": -1, "rnk": 1}, "bag": {}})
    assert message == (
        "t.yaml: data: Field required; loss.kl = -1: Input should be greater than or equal to 0; "
        "unknown key 'loss.rnk'. Did you mean 'rank'? Known: elements, first_token, kl, rank, "
        "regression, regression_kind, unsure, whole_answer.; unknown key 'bag'. Did you mean "
        "'bags'? Known: backbones, bags, checkpoint_steps, data, element_levels, encoding, images, "
        "images_only, lora, loss, map, max_failures, normalization, optimizer, parallel, quotes, "
        "structure, test, total_levels."
    )


@pytest.mark.parametrize("lora", [None, {}])
def test_sharding_a_whole_decoder_or_its_adapters_is_allowed(lora: dict[str, Any] | None) -> None:
    values = {"backbones": {"a": {"strategy": "fsdp", "workers": 32}}, "lora": lora}
    assert TrainConfig.parse(TRAIN | values).backbones["a"].workers == 32


def test_scoring_of_a_backbone() -> None:
    """Members are validated, and later scored, as they are trained."""
    config = TrainConfig.parse(
        TRAIN
        | {
            "backbones": {
                "a": {"revision": "v1", "dtype": "bfloat16", "max_visual_tokens": 64},
                "b": {},
            },
            "total_levels": {"good": 5, "bad": 1},
            "element_levels": {"n": 0, "y": 1},
            "normalization": "probs",
            "structure": False,
        }
    )
    assert config.scoring("a") == ScoringConfig(
        backbone="a",
        revision="v1",
        dtype="bfloat16",
        total_levels={"good": 5, "bad": 1},
        element_levels={"n": 0, "y": 1},
        normalization="probs",
        structure=False,
        max_visual_tokens=64,
    )
    assert config.scoring("b").revision is None
    assert set(ScoringConfig.model_fields) - set(TrainConfig.model_fields) == {
        "backbone",
        "adapters",
        "revision",
        "dtype",
        "max_visual_tokens",
    }, "a new option of scoring is handed on too"


def identity(**values: Any) -> dict[str, Any]:
    return TrainConfig.parse(TRAIN | values).identity()


@pytest.mark.parametrize(
    "values",
    [
        {"data": "elsewhere"},
        {"images": "folder"},
        {"map": {"prompt": "caption"}},
        {"test": "t.json"},
        {"parallel": 2},
        {"checkpoint_steps": 1},
        {"max_failures": 0},
        *(
            {"backbones": {"tiny": run}}
            for run in (
                {"workers": 2},
                {"gpus": 1},
                {"cpus": 0.5},
                {"memory_gib": 3},
                {"strategy": "fsdp"},
                {"token_budget": 100},
                {"gradient_checkpointing": True},
            )
        ),
    ],
    ids=str,
)
def test_identity_leaves_out_resources_and_places(values: dict[str, Any]) -> None:
    assert identity(**values) == identity()


def test_identity_has_images_only_where_it_is_set() -> None:
    """Runs of earlier versions go on without it."""
    assert identity(images_only=True) == identity() | {"images_only": True}
    assert "images_only" not in identity()


def changed(before: Any) -> Any:
    """Another value that passes validation."""
    match before:
        case bool():
            return not before
        case int():
            return before + 1
        case float():
            return before / 2 if before else 0.25
        case tuple():
            return before[:1]
    others = ("kfold", "bootstrap", "huber", "l1", "logits", "probs", "auto", "bfloat16")
    return next(o for o, other in zip(others[1::2], others[::2], strict=True) if other == before)


SCIENCE = {
    "bags": BagsConfig(),
    "loss": LossConfig(),
    "lora": LoraOptions(),
    "optimizer": OptimizerConfig(),
}


@pytest.mark.parametrize(
    ("part", "name"),
    [(part, name) for part, model in SCIENCE.items() for name in type(model).model_fields],
)
def test_identity_catches_every_science_key(part: str, name: str) -> None:
    before = getattr(SCIENCE[part], name)
    found = identity(**{part: {name: changed(before)}})
    plain = identity()
    assert found.keys() == plain.keys()
    assert [key for key in plain if found[key] != plain[key]] == [f"{part}.{name}"]


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"normalization": "probs"}, ["normalization"]),
        ({"structure": False}, ["structure"]),
        ({"total_levels": {"1": 1, "2": 2}}, ["total_levels"]),
        # questions name the levels in their order
        ({"element_levels": {"Yes": 1, "No": 0}}, ["element_levels"]),
        # the commit is compared, whatever name it was given by
        ({"backbones": {"tiny": {"revision": "v1"}}}, []),
        ({"backbones": {"tiny": {"dtype": "bfloat16"}}}, ["backbones.tiny.dtype"]),
        (
            {"backbones": {"tiny": {"max_visual_tokens": 9}}},
            ["backbones.tiny.max_visual_tokens"],
        ),
        ({"backbones": {"tiny": {"learning_rate": 1}}}, ["backbones.tiny.learning_rate"]),
    ],
    ids=str,
)
def test_identity_catches_what_is_asked_and_of_whom(
    values: dict[str, Any], keys: list[str]
) -> None:
    found, plain = identity(**values), identity()
    assert [key for key in plain if found.get(key) != plain[key]] == keys


def test_identity_tells_whole_decoders_and_other_backbones() -> None:
    assert identity(lora=None)["lora"] is None
    assert "lora" not in identity()
    more = identity(backbones=["tiny", "other"])
    assert {key.partition(".")[0] for key in more.keys() - identity().keys()} == {"backbones"}


def test_identity_survives_json() -> None:
    found = identity()
    assert json.loads(json.dumps(found)) == found
