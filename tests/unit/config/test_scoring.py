from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from tokenfocus_ray.config import (
    JobConfig,
    PoolConfig,
    ScoringConfig,
    TrainConfig,
    load_score_config,
)
from tokenfocus_ray.errors import ConfigError

ROOT = Path(__file__).parents[3]
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


def test_every_key_of_a_job_stands_in_the_docs() -> None:
    page = (ROOT / "docs" / "scoring.md").read_text(encoding="utf-8")
    table = page.partition("| key of `job` |")[2].partition("\n\n")[0]
    firsts = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert sorted(re.findall(r"`(\w+)`", " ".join(firsts))) == sorted(JobConfig.model_fields)


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
        jobs = ROOT / "jobs"
        scoring, _ = load_score_config(str(jobs / "score_images.yaml"))
        assert list(scoring) == ["Qwen/Qwen2.5-VL-7B-Instruct"]
        for name in ("train_bags.yaml", "train_shapes.yaml"):
            assert TrainConfig.load(jobs / name).backbones


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
