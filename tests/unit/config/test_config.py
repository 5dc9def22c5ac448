from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from tokenfocus_ray.config import (
    BagsConfig,
    JobConfig,
    LoraOptions,
    LossConfig,
    OptimizerConfig,
    PoolConfig,
    ScoringConfig,
    TrainConfig,
    load_score_config,
)
from tokenfocus_ray.errors import ConfigError

KNOWN = (
    "Known: adapters, backbone, dtype, element_levels, max_visual_tokens, normalization, "
    "revision, structure, total_levels."
)


def message_of(values: dict[str, Any], where: str = "c.yaml") -> str:
    with pytest.raises(ConfigError) as caught:
        ScoringConfig.parse(values, where)
    return str(caught.value)


def test_defaults() -> None:
    """Each new option is seen here, and so is each changed default: both change scores."""
    assert ScoringConfig(backbone="b").model_dump() == {
        "backbone": "b",
        "revision": None,
        "adapters": {},
        "dtype": "auto",
        "total_levels": {"1": 1.0, "2": 2.0, "3": 3.0, "4": 4.0, "5": 5.0},
        "element_levels": {"No": 0.0, "Yes": 1.0},
        "normalization": "logits",
        "structure": True,
        "max_visual_tokens": None,
    }


def test_dump_and_parse_round_trip() -> None:
    config = ScoringConfig(backbone="b", adapters={"m0": "a/b"}, total_levels={"bad": 1, "good": 2})
    assert ScoringConfig.parse(config.model_dump()) == config


def test_order_of_levels_is_kept() -> None:
    config = ScoringConfig.parse({"backbone": "b", "element_levels": {"Yes": 1, "No": 0}})
    assert list(config.element_levels) == ["Yes", "No"]


def test_configuration_is_frozen() -> None:
    config = ScoringConfig(backbone="b")
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        config.backbone = "c"


def test_unknown_key_names_the_nearest() -> None:
    assert message_of({"backbone": "b", "normalisation": "logits"}) == (
        f"c.yaml: unknown key 'normalisation'. Did you mean 'normalization'? {KNOWN}"
    )


def test_unknown_key_without_a_near_one() -> None:
    assert message_of({"backbone": "b", "xyz": 1}) == f"c.yaml: unknown key 'xyz'. {KNOWN}"


def test_where_is_named() -> None:
    assert message_of({"backbone": "b", "xyz": 1}, "options").startswith("options: unknown key")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"backbone": ""}, "backbone = '': String should have at least 1 character"),
        ({"backbone": 7}, "backbone = 7: Input should be a valid string"),
        (
            {"dtype": "int8"},
            "dtype = 'int8': Input should be 'auto', 'float32', 'bfloat16' or 'float16'",
        ),
        (
            {"normalization": "softmax"},
            "normalization = 'softmax': Input should be 'logits' or 'probs'",
        ),
        (
            {"max_visual_tokens": 0},
            "max_visual_tokens = 0: Input should be greater than or equal to 1",
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
        (
            {"total_levels": {"a": "x", "b": 2}},
            "total_levels.a = 'x': Input should be a valid number, unable to parse string as a "
            "number",
        ),
        ({"adapters": ["a"]}, "adapters = ['a']: Input should be a valid dictionary"),
    ],
    ids=repr,
)
def test_value_out_of_range(values: dict[str, Any], problem: str) -> None:
    assert message_of({"backbone": "b", **values}) == f"c.yaml: {problem}"


def test_every_problem_is_told_at_once() -> None:
    assert message_of({"backbone": "", "dtyp": "float32", "max_visual_tokens": -1}) == (
        "c.yaml: backbone = '': String should have at least 1 character; "
        "max_visual_tokens = -1: Input should be greater than or equal to 1; "
        f"unknown key 'dtyp'. Did you mean 'dtype'? {KNOWN}"
    )


def test_missing_backbone() -> None:
    assert message_of({"dtype": "float32"}) == "c.yaml: backbone: Field required"


@pytest.mark.parametrize("text", ["element_levels: {No: 0, Yes: 1}", "total_levels: {1: 1, 2: 2}"])
def test_unquoted_words_that_yaml_reads_as_something_else_are_refused(text: str) -> None:
    """YAML 1.1 reads No as false and 1 as a number: never silently "False" or "1"."""
    key = text.partition(":")[0]
    message = message_of({"backbone": "b", **yaml.safe_load(text)})
    assert message.startswith(f"c.yaml: {key}")
    assert "Input should be a valid string" in message


def load_error(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        ScoringConfig.load_values(path)
    return str(caught.value)


def test_yaml_values(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text('backbone: tiny-internvl\ntotal_levels: {"1": 1, "2": 2}\n', encoding="utf-8")
    assert ScoringConfig.load_values(path) == {
        "backbone": "tiny-internvl",
        "total_levels": {"1": 1, "2": 2},
    }


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n"])
def test_empty_yaml_has_no_values(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    assert ScoringConfig.load_values(path) == {}


def test_yaml_missing(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    assert load_error(path) == f"{path}: cannot be read: No such file or directory"


def test_yaml_is_a_folder(tmp_path: Path) -> None:
    assert load_error(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("text", "kind"), [("- a\n- b\n", "list"), ("backbone\n", "str"), ("7", "int")]
)
def test_yaml_that_is_no_mapping(tmp_path: Path, text: str, kind: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_error(path) == f"{path}: must hold keys and values, got {kind}"


def test_yaml_that_does_not_parse(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("backbone: [a\n", encoding="utf-8")
    with pytest.raises(yaml.YAMLError) as expected:
        yaml.safe_load("backbone: [a\n")
    assert load_error(path) == f"{path}: is not YAML: {expected.value}"


def test_yaml_never_builds_objects(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("backbone: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    assert load_error(path).startswith(f"{path}: is not YAML: could not determine a constructor")


def test_yaml_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"backbone: \xff\xfe\n")
    assert load_error(path) == (
        f"{path}: is not YAML: 'utf-8' codec can't decode byte 0xff in position 10: "
        "invalid start byte"
    )


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


class TestScoreConfig:
    """One YAML with what scores depend on, and the job's pace below it."""

    def test_options_win_over_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "c.yaml"
        path.write_text("backbone: b\nstructure: false\njob: {workers: 3, commit_rows: 9}\n")
        scoring, job = load_score_config(str(path), {"backbone": "mine"}, workers=2)
        assert list(scoring) == ["mine"]
        assert (scoring["mine"].backbone, scoring["mine"].structure) == ("mine", False)
        assert (job.workers, job.commit_rows) == (2, 9)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{}", "no backbone: give --backbone NAME, or 'backbone' in --config"),
            (
                "backbone: b\njob: {workers: 3, max_workers: 2}\n",
                "{path}: job: max_workers 2 is below workers 3; raise it",
            ),
            ("backbone: b\njob: 3\n", "{path}: job must hold keys and values, got 3"),
            (
                "backbone: b\njob: {comit_rows: 3}\n",
                "{path}: job: unknown key 'comit_rows'. Did you mean 'commit_rows'? Known: "
                "commit_rows, cpus, gpus, max_workers, order, pools, stall_minutes, workers.",
            ),
            ("backbones: [a]\n", "{path}: backbones must hold keys and values, got ['a']"),
            ("backbones: {a: b}\n", "{path}: backbones: a must hold keys and values, got 'b'"),
            (
                "backbones: {a: {backbone: b, adapter: {}}}\n",
                "{path}: backbones: a: unknown key 'adapter'. Did you mean 'adapters'? Known: "
                "adapters, backbone, dtype, element_levels, max_visual_tokens, normalization, "
                "revision, structure, total_levels.",
            ),
        ],
    )
    def test_refusals(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "c.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_score_config(str(path))
        assert str(caught.value) == message.format(path=path)

    def test_several_backbones(self, tmp_path: Path) -> None:
        """What stands beside them holds for all; what an option says, too."""
        path = tmp_path / "c.yaml"
        path.write_text(
            "structure: false\nmax_visual_tokens: 9\n"
            "backbones:\n  one: {backbone: a, adapters: {m: f}}\n"
            "  two: {backbone: b, structure: true}\n"
            "job: {workers: 2, order: side_by_side, pools: {two: {cpus: 3, workers: 1}}}\n"
        )
        scoring, job = load_score_config(str(path), {"max_visual_tokens": 7})
        assert scoring == {
            "one": ScoringConfig(
                backbone="a", adapters={"m": "f"}, structure=False, max_visual_tokens=7
            ),
            "two": ScoringConfig(backbone="b", max_visual_tokens=7),
        }
        assert job.pool("one") == PoolConfig(workers=2)
        assert job.pool("two") == PoolConfig(workers=1, cpus=3)
        with pytest.raises(ConfigError) as caught:
            load_score_config(str(path), {"backbone": "a"})
        assert str(caught.value) == (
            f"{path} has several backbones, so --backbone cannot be for one of them; write it there"
        )

    def test_files_of_the_jobs(self) -> None:
        jobs = Path(__file__).parents[3] / "jobs"
        scoring, _ = load_score_config(str(jobs / "score_images.yaml"))
        assert list(scoring) == ["Qwen/Qwen2.5-VL-7B-Instruct"]
        for name in ("train_bags.yaml", "train_shapes.yaml"):
            assert TrainConfig.parse(TrainConfig.load_values(jobs / name), name).backbones


@pytest.mark.parametrize(
    ("read", "where"),
    [
        (lambda: JobConfig.parse({"gpus": 2}), "configuration: gpus: 2 GPUs for an actor"),
        (
            lambda: JobConfig.parse({"pools": {"big": {"gpus": 1.5}}}),
            "configuration: pools.big.gpus: 1.5 GPUs for an actor",
        ),
        (
            lambda: TrainConfig.parse({"data": "m", "backbones": {"b": {"gpus": 4}}}),
            "configuration: backbones.b.gpus: 4 GPUs for a worker",
        ),
    ],
    ids=["job", "pool", "training"],
)
def test_more_gpus_than_a_process_uses_are_refused(read: Any, where: str) -> None:
    """They would be reserved and stay idle."""
    with pytest.raises(ConfigError) as caught:
        read()
    assert str(caught.value) == (
        f"{where}, which uses one and would leave the others idle; give at most 1, and use "
        f"several by more 'workers'"
    )


@pytest.mark.parametrize("gpus", [0.25, 1])
def test_a_gpu_or_a_share_of_one_is_accepted(gpus: float) -> None:
    assert JobConfig.parse({"gpus": gpus}).gpus == gpus
    run = TrainConfig.parse({"data": "m", "backbones": {"b": {"gpus": gpus}}}).backbones["b"]
    assert run.gpus == gpus
