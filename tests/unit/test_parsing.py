"""YAML, read within bounds: no file makes a message that is long, a traceback, or a long wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tokenfocus_ray.config import ScoringConfig, load_score_config
from tokenfocus_ray.errors import ConfigError, shown
from tokenfocus_ray.parsing import read_yaml

LAUGHS = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)
MERGED = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 9)
)
TOO_MANY = (
    "holds more than 10,000 values, aliases written out; a configuration needs a few dozen: give "
    "another file"
)
TOO_DEEP = "is nested deeper than 32 levels; a configuration needs a few"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{LAUGHS}backbone: *a8\n", TOO_MANY),
        (f"{LAUGHS}job: *a8\n", TOO_MANY),
        (MERGED, TOO_MANY),
        ("backbone: b\n" + "".join(f"k{i}: 1\n" for i in range(5000)), TOO_MANY),
        (f"backbone: {'[' * 40}{']' * 40}", TOO_DEEP),
        (f"backbone: {'[' * 1500}{']' * 1500}", TOO_DEEP),
        ("backbone: &a [*a]", TOO_DEEP),
        ("backbone: a\ndtype: auto\nbackbone: b\n", "key 'backbone' stands twice, the second time "
         "in line 3; keep one of them"),
        ("backbone: 2024-13-45", "holds a value that YAML cannot make (ValueError: month must be "
         "in 1..12); put quotes around it"),
        ("backbone: !!bool x", "holds a value that YAML cannot make (KeyError: 'x'); put quotes "
         "around it"),
        (f"backbone: b\nmax_visual_tokens: {'9' * 5000}", "holds a value that YAML cannot make "
         "(ValueError: Exceeds the limit (4300 digits) for integer string conversion: value has "
         "5000 di); put quotes around it"),
    ],
    ids=["laughs", "laughs-job", "merged", "many", "deep", "deeper", "itself", "twice", "date",
         "bool", "digits"],
)  # fmt: skip
def test_yaml_beyond_bounds_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_score_config(str(path))
    assert str(caught.value) == f"{path}: {message}"


def test_ordinary_aliases_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "backbones:\n  a: &a {backbone: tiny-internvl, dtype: float32}\n"
        "  b: {<<: *a, max_visual_tokens: 64}\n  c: *a\n"
    )
    found, _ = load_score_config(str(path))
    assert {name: (one.dtype, one.max_visual_tokens) for name, one in found.items()} == {
        "a": ("float32", None), "b": ("float32", 64), "c": ("float32", None),
    }  # fmt: skip


def test_values_and_keys_are_cut_in_messages() -> None:
    nested: Any = ["lol"] * 9
    for _ in range(20):  # 9 ** 21 of them, written out
        nested = [nested] * 9
    with pytest.raises(ConfigError) as caught:
        ScoringConfig.parse({"backbone": nested, "dtype": "x" * 10**6, "k" * 10**6: 1})
    problems = str(caught.value).split("; ")
    assert problems[0].startswith("configuration: backbone = [[[[...], [...], ")
    assert max(map(len, problems)) < 300
    with pytest.raises(ConfigError) as caught:
        ScoringConfig.parse({"backbone": "b", **{f"k{i}": 1 for i in range(5000)}})
    assert str(caught.value).endswith("; and 4990 more")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"),
        ([1, {"b": None}], "[1, {'b': None}]"),
        (10**5000, "<int>"),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, ...]"),
    ],
    ids=["text", "nested", "digits", "long"],
)
def test_shown(value: Any, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_levels_must_be_finite(value: float) -> None:
    with pytest.raises(ConfigError) as caught:
        ScoringConfig.parse({"backbone": "b", "total_levels": {"bad": 1.0, "good": value}}, "c")
    assert str(caught.value) == f"c: total_levels.good = {value}: Input should be a finite number"


def load_error(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    return str(caught.value)


def test_yaml_values(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text('backbone: tiny-internvl\ntotal_levels: {"1": 1, "2": 2}\n', encoding="utf-8")
    assert read_yaml(path) == {
        "backbone": "tiny-internvl",
        "total_levels": {"1": 1, "2": 2},
    }


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n"])
def test_empty_yaml_has_no_values(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    assert read_yaml(path) == {}


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
