"""Which rows are decomposed, and what is written: given elements stay as they are."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from tokenfocus_ray.datasets.manifest import Columns, find_columns
from tokenfocus_ray.elements.decomposed import Decomposed, decomposed, failed, nothing
from tokenfocus_ray.elements.rows import REASON, STATUS, ask, check_form, out_schema, with_results
from tokenfocus_ray.schema import ELEMENT_TYPE, Element

MADE = decomposed([Element("cat", "animal"), Element("red cat", "color")])


def columns_of(table: pa.Table) -> Columns:
    return find_columns(table.column_names, {}, "m", needs_images=False)


def written(table: pa.Table, results: list[Decomposed]) -> pa.Table:
    columns = columns_of(table)
    return with_results(table, columns, results, out_schema(table.schema, columns))


def test_rows_are_asked_for_or_say_why_not() -> None:
    table = pa.table(
        {
            "prompt": pa.array([b"a cat", None, b" \n", b"caf\xe9", b"a dog"]),
            "elements": [None, None, "", None, '["dog (animal)"]'],
        }
    )
    found = ask(table, columns_of(table), None, replace=False)
    assert [one.prompt for one in found] == ["a cat", None, None, None, None]
    assert [one.result.status if one.result else None for one in found] == [
        None, "none", "none", "none", "given"
    ]  # fmt: skip
    reasons = [one.result.reason if one.result else None for one in found]
    assert reasons[1:3] == ["the prompt is empty"] * 2
    assert str(reasons[3]).startswith("prompt is not utf-8: byte 3 is 0xe9")
    again = ask(table, columns_of(table), "latin-1", replace=True)
    assert [one.prompt for one in again] == ["a cat", None, None, "caf\xe9", "a dog"]


def test_a_table_without_elements_gets_them() -> None:
    table = pa.table({"id": [7, 8, 9], "prompt": ["a red cat", "", "x"]})
    found = written(table, [MADE, nothing("the prompt is empty"), failed("no answer")])
    assert found.schema.names == ["id", "prompt", "elements", STATUS, REASON]
    assert found.schema.field("elements").type == pa.list_(ELEMENT_TYPE)
    assert found.to_pylist() == [
        {
            "id": 7, "prompt": "a red cat",
            "elements": [{"text": "cat", "type": "animal"}, {"text": "red cat", "type": "color"}],
            STATUS: "made", REASON: None,
        },
        {"id": 8, "prompt": "", "elements": None, STATUS: "none", REASON: "the prompt is empty"},
        {"id": 9, "prompt": "x", "elements": None, STATUS: "failed", REASON: "no answer"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "new"),
    [
        (pa.array(['{"a (b)": [1]}', None]), '["cat (animal)", "red cat (color)"]'),
        (pa.array([["a (b)"], None]), ["cat (animal)", "red cat (color)"]),
        (pa.array([["a (b)"], None], pa.large_list(pa.string())),
         ["cat (animal)", "red cat (color)"]),
        (pa.array([[{"text": "a", "type": "b"}], None]),
         [{"text": "cat", "type": "animal"}, {"text": "red cat", "type": "color"}]),
        (pa.array([[{"type": "b", "text": "a"}], None]),
         [{"type": "animal", "text": "cat"}, {"type": "color", "text": "red cat"}]),
    ],
    ids=["json", "labels", "large", "structs", "other order"],
)  # fmt: skip
def test_new_elements_take_the_form_of_the_column(column: Any, new: Any) -> None:
    table = pa.table({"prompt": ["x", "a red cat"], "elements": column})
    assert check_form(table.schema, columns_of(table)) is None
    given = ask(table, columns_of(table), None, replace=False)[0].result
    assert given is not None
    found = written(table, [given, MADE])
    assert found["elements"].type == column.type
    assert found["elements"].to_pylist() == [column[0].as_py(), new]
    assert found[STATUS].to_pylist() == ["given", "made"]


def test_a_form_that_takes_no_new_ones_is_refused() -> None:
    table = pa.table({"prompt": ["x"], "elements": [{"cat (animal)": [1]}]})
    assert check_form(table.schema, columns_of(table)) == (
        "column 'elements' (elements) is of type struct<cat (animal): list<item: int64>>, into "
        "which no new elements can be written; wanted a list of texts, a list of structs of text "
        "and type, or JSON text: convert it"
    )


def test_what_an_earlier_run_said_of_its_elements_stays() -> None:
    table = pa.table(
        {
            "prompt": ["x", "a red cat", "y"],
            "elements": pa.array([["a (b)"], None, ["c"]]),
            STATUS: ["cut", "failed", None],
            REASON: ["too many", "no answer", None],
        }
    )
    given = Decomposed((), "given")
    found = written(table, [given, MADE, given])
    assert found.schema.names == table.schema.names
    assert found[STATUS].to_pylist() == ["cut", "made", "given"]
    assert found[REASON].to_pylist() == ["too many", None, None]


def test_given_elements_that_are_no_text_stay_as_they_are() -> None:
    raw = pa.array([b'["caf\xe9"]', b""], pa.binary())
    table = pa.table({"prompt": ["x", "a red cat"], "elements": raw.view(pa.string())})
    asked = ask(table, columns_of(table), None, replace=False)
    assert [one.prompt for one in asked] == [None, "a red cat"]
    results = [asked[0].result or MADE, MADE]
    found = written(table, results)
    assert found[STATUS].to_pylist() == ["given", "made"]
    kept: Any = found["elements"].combine_chunks().view(pa.binary())
    assert kept[0].as_py() == b'["caf\xe9"]'


def test_what_is_said_of_replaced_elements_goes_with_them() -> None:
    """Labels and parents of the elements of before would be taken for those of the new ones."""
    table = pa.table(
        {
            "prompt": ["a red cat", "a dog", "a pig"],
            "elements": [["cat", "red cat"], ["dog"], None],
            "element_parents": [[[], [0]], [[]], None],
            "element_labels": ["[1, 0]", "[1]", "none yet"],
        }
    )
    found = written(table, [MADE, Decomposed((), "given"), MADE])
    assert found["elements"].to_pylist() == [
        ["cat (animal)", "red cat (color)"], ["dog"], ["cat (animal)", "red cat (color)"]
    ]  # fmt: skip
    assert found["element_parents"].to_pylist() == [None, [[]], None]
    assert found["element_labels"].to_pylist() == [None, "[1]", "none yet"]
    assert found.schema.field("element_parents").type == table.schema.field("element_parents").type
