from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from tokenfocus_ray.config import ScoringConfig
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
        config.backbone = "c"  # type: ignore[misc]


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
    message = message_of({"dtype": "float32"})
    assert message.startswith("c.yaml: backbone")
    assert message.endswith("Field required")


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
