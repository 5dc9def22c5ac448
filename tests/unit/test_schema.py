from __future__ import annotations

import ast
import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest

import tokenfocus_ray
from tokenfocus_ray.schema import (
    ERROR_CODES,
    SCORE_SCHEMA,
    Element,
    ScoreRow,
    parse_elements,
    sample_id,
)
from tokenfocus_ray.training.samples import SKIP_CODES

PIG = Element("pig", "animal")
SUN = Element("sun")


@pytest.mark.parametrize(
    ("label", "element"),
    [
        ("pig giants (animal)", Element("pig giants", "animal")),
        ("bright colors(color)", Element("bright colors", "color")),
        ("  pig ( animal ) ", PIG),
        ("a (small) pig (animal)", Element("a (small) pig", "animal")),
        ("pig", Element("pig", "")),
        ("pig ()", Element("pig", "")),
        ("(animal)", Element("(animal)", "")),
        ("pig (animal", Element("pig (animal", "")),
        ("pig (animal) runs", Element("pig (animal) runs", "")),
        ("a dog (pet (animal))", Element("a dog", "pet (animal)")),
        ("a dog (pet) ((animal))", Element("a dog (pet)", "(animal)")),
        ("happy :) (emotion)", Element("happy :)", "emotion")),
        ("sad :( (emotion)", Element("sad :(", "emotion")),
        ("((a) b)", Element("((a) b)", "")),
        ("pig (animal))", Element("pig", "animal)")),
        ("pig :)", Element("pig :)", "")),
        ("(old) pig (animal)", Element("(old) pig", "animal")),
        ("pig（animal）", Element("pig（animal）", "")),  # noqa: RUF001
    ],
)
def test_a_label_is_split_at_the_parenthesis_that_its_end_closes(
    label: str, element: Element
) -> None:
    assert Element.parse(label) == element


@pytest.mark.parametrize(
    "element", [PIG, SUN, Element("a (small) pig", "animal"), Element("dog", "pet (animal)")]
)
def test_label_round_trips(element: Element) -> None:
    assert Element.parse(element.label()) == element


@pytest.mark.parametrize(
    "value", [None, math.nan, "", "  ", "null", "[]", "{}", [], (), {}], ids=repr
)
def test_no_elements(value: Any) -> None:
    assert parse_elements(value) is None


@pytest.mark.parametrize(
    "value",
    [
        ["pig (animal)", "sun"],
        ("pig (animal)", "sun"),
        [PIG, SUN],
        [{"text": " pig ", "type": "animal"}, {"text": "sun", "type": None}],
        [{"text": "pig", "type": "animal"}, {"text": "sun"}],
        {"pig (animal)": [1, 0, 1], "sun": [], "cow": None},
        {"pig (animal)": None, "sun": None},
        '["pig (animal)", "sun"]',
        '[{"text": "pig", "type": "animal"}, {"text": "sun"}]',
        '{"pig (animal)": 1, "sun": 0}',
    ],
    ids=repr,
)
def test_every_shape_of_elements(value: Any) -> None:
    assert parse_elements(value) == [PIG, SUN]


def test_duplicate_elements_are_kept() -> None:
    assert parse_elements(["sun", "pig (animal)", "sun"]) == [SUN, PIG, SUN]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a, b", "elements are not JSON (Expecting value: line 1 column 1 (char 0)): 'a, b'"),
        ('"pig"', "elements must be a list, got str: 'pig'"),
        (5, "elements must be a list, got int: 5"),
        (b"pig", "elements must be a list, got bytes: b'pig'"),
        ([5], "an element must be a string or have a 'text', got 5"),
        ([None], "an element must be a string or have a 'text', got None"),
        ([{"type": "a"}], "an element must be a string or have a 'text', got {'type': 'a'}"),
        ([{"text": None}], "an element must be a string or have a 'text', got {'text': None}"),
        (["pig", "  "], "an element's text is empty: '  '"),
        ([{"text": " "}], "an element's text is empty: {'text': ' '}"),
        ([Element("")], "an element's text is empty: Element(text='', type='')"),
    ],
)
def test_bad_elements(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_elements(value)


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(ValueError, match="an element must be") as caught:
        parse_elements([list(range(1000))])
    assert len(str(caught.value)) < 150


def test_nested_json_without_end_is_an_error_of_the_row() -> None:
    """A RecursionError would take the whole batch with it."""
    with pytest.raises(ValueError, match="elements are not JSON"):
        parse_elements("[" * 100_000)


def test_sample_id_is_stable() -> None:
    """Ids stand in users' tables: a change would break joins across versions."""
    assert sample_id("a.png", "a red circle") == "57e182b33f4ddbd8e0f978a118600597"


def test_sample_id_of_bytes_and_text_agree() -> None:
    assert sample_id(b"a.png", "a red circle") == sample_id("a.png", "a red circle")


def test_sample_id_knows_where_the_image_ends() -> None:
    assert sample_id("ab", "c") != sample_id("a", "bc")


def test_score_schema_has_the_fields_of_a_score_row() -> None:
    assert SCORE_SCHEMA.names == [field.name for field in dataclasses.fields(ScoreRow)]


def test_score_row_is_nan_until_scored() -> None:
    row = ScoreRow("id", "unscored", "prompt_empty", "message")
    assert math.isnan(row.score)
    assert (row.member_scores, row.element_scores, row.width, row.height) == ([], [], 0, 0)


def test_score_rows_share_no_list() -> None:
    first, second = ScoreRow("a", "ok"), ScoreRow("b", "ok")
    first.element_scores.append(1.0)
    assert second.element_scores == []


def codes_in_source() -> set[str]:
    """Codes of every RowError that the package makes, and of rows that jobs mark in columns."""
    found: set[str] = set()
    for path in Path(tokenfocus_ray.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            given: list[ast.expr | None] = []
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", "")
                if name in ("RowError", "ImageDecodeError", "PromptError"):
                    given = [*node.args[:1]]
                elif name == "with_errors":
                    given = [*node.args[2:3]]
            elif isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                given = [v for k, v in pairs if _is_code(k)]
                given += [v.body for v in given if isinstance(v, ast.IfExp)]
            found |= {str(g.value) for g in given if isinstance(g, ast.Constant)}
    return found


def _is_code(key: ast.expr | None) -> bool:
    return getattr(key, "value", "") == "error_code" or getattr(key, "id", "") == "ERROR_CODE"


def test_codes_that_can_happen_are_those_documented() -> None:
    # a training leaves rows out for reasons of its own
    assert codes_in_source() == set(ERROR_CODES) | set(SKIP_CODES)


def test_reasons_of_training_are_documented() -> None:
    page = (Path(tokenfocus_ray.__file__).parents[1] / "docs" / "training.md").read_text()
    assert [code for code in SKIP_CODES if f"`{code}`" not in page] == []
