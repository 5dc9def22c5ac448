from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.reports import KINDS, SCHEMA, rows
from tokenfocus_ray.datasets.scored import ScoredColumns
from tokenfocus_ray.report.batch import CIRCULAR, GROUPS, UNEQUAL, UNREADABLE, Batch, row_elements

COLUMNS = ScoredColumns("prompt", "image_uri", "elements", None, None, "generator", None)


def batch(found: list[dict[str, Any]], columns: ScoredColumns = COLUMNS, **more: Any) -> Batch:
    table = pa.Table.from_pylist(found, schema=SCHEMA)
    for name, values in more.items():
        place = table.schema.get_field_index(name)
        table = (
            table.append_column(name, values)
            if place < 0
            else table.set_column(place, name, values)
        )
    return Batch.of(table, columns, 100)


def test_rows() -> None:
    found = batch(rows(24))
    assert found.rows_N.tolist() == list(range(100, 124))
    assert np.flatnonzero(~found.scored_N).tolist() == [5, 16]
    codes, messages = found.codes()
    assert codes == ["image_corrupt"] * 2
    assert messages == ["the file is cut off; fetch it again"] * 2
    assert len(set(found.hashes_N.tolist())) == 24


def test_a_score_without_the_status_is_none() -> None:
    """And one of NaN is none, whatever the status says."""
    own = rows(3)
    own[0]["status"], own[1]["score"] = "unscored", float("nan")
    found = batch(own)
    assert found.scored_N.tolist() == [False, False, True]
    assert found.codes()[0] == ["score_not_finite"] * 2


def test_prompts_are_dealt_whole() -> None:
    """Whatever their case and spacing; rows without stand for themselves."""
    own = rows(300)
    for row in own[200:]:
        row["prompt"] = None
    own[1]["prompt"] = f"  {own[0]['prompt'].upper()}"
    groups = batch(own).groups_N()
    assert ((groups >= 0) & (groups < GROUPS)).all()
    assert groups[0] == groups[1]
    for i in range(3, 198, 3):
        assert len({*groups[i : i + 3].tolist()}) == 1
    assert len({*groups[200:].tolist()}) > 50


def test_disagreement() -> None:
    own = rows(12)
    own[0]["member_scores"], own[1]["member_scores"] = [1.0, 5.0], [2.0]
    own[2]["member_scores"] = [1.0, float("nan"), 2.0]
    found = batch(own).disagreement_N()
    assert found[:3].tolist() == pytest.approx([2.0, math.nan, 0.5], nan_ok=True)
    assert found[3] == pytest.approx(np.std(own[3]["member_scores"]), rel=1e-4)  # float32
    assert math.isnan(found[5])  # unscored


@pytest.mark.parametrize("form", ["structs", "texts", "json"])
def test_elements_of_every_form(form: str) -> None:
    own = rows(12)
    forms: dict[str, Any] = {
        "structs": {},
        "texts": {"elements": pa.array([[f"{k} thing ({k})" for k in KINDS]] * 12)},
        "json": {"elements": pa.array(['["a (object)", "b (color)", "c (counting)"]'] * 12)},
    }
    elements, problems = batch(own, **forms[form]).elements(dependencies=False)
    assert (elements.kinds, +problems) == (list(KINDS), {})
    scored = [i for i in range(12) if i != 5]
    assert elements.rows_E.tolist() == [i for i in scored for _ in KINDS]
    wanted = [score for i in scored for score in own[i]["element_scores"]]
    assert elements.scores_E.tolist() == pytest.approx(wanted)


def test_elements_that_do_not_fit_are_counted() -> None:
    own = rows(12)
    own[0]["element_scores"], own[1]["elements"] = [0.5], None
    elements, problems = batch(own).elements(dependencies=False)
    assert problems == {UNEQUAL: 1}
    assert not {0, 1} & {*elements.rows_E.tolist()}
    texts = pa.array(["{", '["a"]', '["a", "b", "c"]', *["[]"] * 9])
    elements, problems = batch(own, elements=texts).elements(dependencies=False)
    assert problems == {UNREADABLE: 1, UNEQUAL: 1}
    assert elements.rows_E.tolist() == [2, 2, 2]


def test_dependencies() -> None:
    own = rows(3)
    for row in own:
        row["element_scores"] = [0.1, 0.9, 0.8]
    columns = ScoredColumns("prompt", None, "elements", None, "element_parents", None, None)
    parents = pa.array([[[], [0], [1]], None, [[], [9], []]], pa.list_(pa.list_(pa.int64())))
    found = batch(own, columns, element_parents=parents)
    elements, problems = found.elements(dependencies=True)
    assert elements.scores_E.reshape(3, 3).tolist() == pytest.approx(
        np.array([[0.1] * 3, [0.1, 0.9, 0.8], [0.1, 0.9, 0.8]])
    )
    assert problems == {CIRCULAR: 1}
    assert found.elements(dependencies=False)[0].scores_E[1] == pytest.approx(0.9)


def test_text_that_is_not_unicode_is_no_error() -> None:
    bad = pa.array([b"a\xff", b"b", None]).cast(pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, bad.buffers())
    found = batch(rows(3), generator=text)
    assert found.makers()[1] == ["a\\xff", "b", ""]


def test_row_elements() -> None:
    assert row_elements(None, []) == ([], [], None)
    found, scores, problem = row_elements(["a (b)"], [None])
    assert (found, problem) == ([("a", "b")], None)
    assert math.isnan(scores[0])
