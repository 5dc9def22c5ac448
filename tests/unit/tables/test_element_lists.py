"""Elements of many rows at once, in every form in which manifests carry them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from tokenfocus_ray.schema import ELEMENT_TYPE
from tokenfocus_ray.tables.element_lists import element_lists

STRUCTS = pa.list_(ELEMENT_TYPE)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(
            [[{"text": " a dog", "type": "animal "}, {"text": "red", "type": None}], None, [],
             [{"text": "a dog", "type": "animal"}]],
            STRUCTS,
        ),
        pa.array([["a dog (animal)", "red"], None, [], ["a dog (animal)"]]),
        pa.array(['["a dog (animal)", "red"]', None, "[]", '[{"text":"a dog","type":"animal"}]']),
    ],
    ids=["structs", "labels", "json"],
)  # fmt: skip
def test_every_form_is_the_same(column: Any) -> None:
    chunks = pa.chunked_array([column.slice(0, 1), column.slice(1)])
    found = element_lists(chunks)
    assert found.counts_N.tolist() == [2, 0, 0, 1]
    assert found.texts.to_pylist() == ["a dog", "red", "a dog"]
    assert found.types.to_pylist() == ["animal", "", "animal"]
    assert found.rows_E.tolist() == [0, 0, 3]


def test_structs_without_a_type() -> None:
    found = element_lists(pa.chunked_array([pa.array([[{"text": "a"}], [{"text": "b"}]])]))
    assert (found.texts.to_pylist(), found.types.to_pylist()) == (["a", "b"], ["", ""])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            pa.array([[{"text": " ", "type": ""}]], STRUCTS),
            "an element's text is empty: {'text': ' ', 'type': ''}",
        ),
        (
            pa.array([[{"text": None, "type": "x"}]], STRUCTS),
            "an element must be a string or have a 'text', got {'text': None, 'type': 'x'}",
        ),
        (pa.array([7]), "elements must be a list, got int: 7"),
    ],
)
def test_what_cannot_be_read(column: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        element_lists(pa.chunked_array([column]))
    assert str(caught.value) == message
