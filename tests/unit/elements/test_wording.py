"""What a model is asked, and which answers are taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tokenfocus_ray.elements.decomposed import TYPES
from tokenfocus_ray.elements.wording import answer_schema, question, read_answer, wording
from tokenfocus_ray.schema import Element


def test_the_example_is_an_answer_of_the_schema() -> None:
    asked = question("a red cube\nand {braces}")
    assert asked.endswith("Prompt: a red cube and {braces}")
    (example,) = (line for line in asked.splitlines() if line.startswith("{"))
    assert len(read_answer(example)) == 10
    item: Any = answer_schema()["properties"]["elements"]["items"]
    assert item["properties"]["type"]["enum"] == list(TYPES)
    assert len(wording()) == 16


def answer(**element: Any) -> str:
    return json.dumps({"elements": [element]})


def test_answers_that_are_taken() -> None:
    assert read_answer(answer(text=" a  red\ncube ", type="Color")) == [
        Element("a red cube", "color")
    ]
    assert read_answer('{"elements": []}') == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sure!", "the answer is no JSON (Expecting value: line 1 column 1 (char 0)): 'sure!'"),
        ("[1]", "the answer has no list of elements: '[1]'"),
        ('{"elements": [3]}', "an element of the answer has no text and type: 3"),
        (answer(text="a"), "an element of the answer has no text and type: {'text': 'a'}"),
        (answer(text=" - ", type="color"), "an element's text is empty or too long: ' - '"),
        (
            answer(text="a", type="colour"),
            f"an element is of the type 'colour'; wanted one of {', '.join(TYPES)}",
        ),
    ],
)
def test_answers_that_are_not(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_answer(text)
    assert str(caught.value) == message
