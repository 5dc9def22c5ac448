"""Questions with dependencies: positions of parents, and rows that say what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tokenfocus_ray.datasets.importers.base import Request
from tokenfocus_ray.datasets.importers.prompts import (
    Prompt,
    Question,
    plan_prompts,
    positions,
    prompt_table,
)
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE


def questions(**parents: str) -> list[Question]:
    """Questions by id, and the ids that each depends on."""
    return [Question(f"Is there {k}?", id=k, parents=tuple(v)) for k, v in parents.items()]


def test_positions_count_from_0_in_the_order_of_the_elements() -> None:
    assert positions(questions(a="", c="ab", b="a", d="cc")) == [[], [0, 2], [0], [1]]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            questions(a="", b="x"),
            "question 'b' depends on 'x', which is none of its questions (a, b); put its "
            "dependency right",
        ),
        (
            questions(a="", b="c", c="b"),
            "question 'b' depends on itself, by way of others or not; put its dependency right",
        ),
        (
            questions(a="a"),
            "question 'a' depends on itself, by way of others or not; put its dependency right",
        ),
        (
            [*questions(a=""), *questions(a="")],
            "question id 'a' stands there twice; give each its own",
        ),
    ],
    ids=["unknown", "circle", "itself", "twice"],
)
def test_what_is_wrong_spoils_the_row(asked: list[Question], message: str) -> None:
    with pytest.raises(ValueError, match="question") as caught:
        positions(asked)
    assert str(caught.value) == message
    row = prompt_table([Prompt("7", "a prompt", asked, depends=True)]).to_pylist()[0]
    assert row[ERROR_CODE] == "elements_invalid"
    assert row[ERROR_MESSAGE] == f"prompt '7': {message}"
    assert len(row["elements"]) == len(asked)
    assert row["element_parents"] is None


def test_an_empty_question_spoils_its_row() -> None:
    row = prompt_table([Prompt("7", "a", [Question(" "), Question("Is there a pig?")])]).to_pylist()
    assert row[0][ERROR_MESSAGE] == "prompt '7': one of its questions is empty; write it or drop it"
    assert row[0]["element_questions"] == [" ", "Is there a pig?"]


def test_columns_of_several_types_become_json() -> None:
    prompts = [Prompt("0", "a", others={"x": 1}), Prompt("1", "b", others={"x": ["y"]})]
    table = prompt_table(prompts)
    assert table["x"].to_pylist() == ["1", '["y"]']
    assert "element_parents" not in table.column_names


def test_a_field_is_not_taken_for_an_image_or_for_elements() -> None:
    others = {"elements": "x", "url": "http://x", "seed": 3, "image": "a.png"}
    row = prompt_table([Prompt("0", "a", others=others)]).to_pylist()[0]
    assert (row["elements"], row["input_elements"], row["seed"]) == (None, "x", 3)
    assert (row["input_url"], row["input_image"]) == ("http://x", "a.png")
    assert not {"url", "image"} & set(row)


def test_invalid_unicode_marks_its_row() -> None:
    row = prompt_table([Prompt("0", "a \ud83d pig")]).to_pylist()[0]
    assert (row["prompt"], row[ERROR_CODE]) == ("a \\ud83d pig", "text_invalid")


def test_nothing_to_import(tmp_path: Path) -> None:
    empty: list[Any] = []
    with pytest.raises(ManifestError) as caught:
        plan_prompts(Request("x.json", Store.of(tmp_path)), lambda: empty)
    assert str(caught.value) == "x.json: it has no prompts"
