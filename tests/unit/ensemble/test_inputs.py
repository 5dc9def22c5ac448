"""Features of score tables: members, bags, means of elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.scores import NAN, metadata, score_table
from tokenfocus_ray.ensemble.inputs import ScoreColumns
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.tables.features import feature_names
from tokenfocus_ray.tables.members import ScoreTableInfo

TWO = {"q": ["m0", "m1"], "i": ["base"]}
ROWS: list[dict[str, Any]] = [
    {"id": "a", "scores": [1.0, 3.0, 5.0], "elements": [[0.0, 1.0], [0.5, 1.0], [0.25, 0.75]]},
    {"id": "b", "n": 3},
    {"id": "c", "scores": [2.0, 2.0, 4.0], "elements": [[0.5], [1.0], [0.0]]},
    {"id": "d", "scores": [1.0, 2.0, 3.0], "elements": [[], [], []]},
]


def columns() -> ScoreColumns:
    return ScoreColumns.of(score_table(TWO, ROWS), "t")


def test_bags_are_means_of_their_members() -> None:
    found = columns()
    assert found.info.stacked() == ["q", "i"]
    np.testing.assert_array_equal(found.total("q"), [2, NAN, 2, 1.5])
    np.testing.assert_array_equal(found.total("i"), [5, NAN, 4, 3])
    np.testing.assert_array_equal(found.total("q/m1"), [3, NAN, 2, 2])


def test_elements_stand_row_after_row() -> None:
    found = columns()
    np.testing.assert_array_equal(found.counts_N, [2, 3, 1, 0])
    np.testing.assert_allclose(found.element("q"), [0.25, 1, NAN, NAN, NAN, 0.75])
    np.testing.assert_allclose(found.element("i"), [0.25, 0.75, NAN, NAN, NAN, 0])
    np.testing.assert_allclose(found.mean_element("q"), [0.625, NAN, 0.75, NAN])
    total, elements = found.stacked(["q", "i"])
    assert list(total) == ["m_q", "m_i", "elements_q", "elements_i"]
    assert list(elements) == ["e_q", "e_i"]


def test_a_slice_of_a_table_has_the_numbers_of_its_rows() -> None:
    part = ScoreColumns.of(score_table(TWO, ROWS).slice(1, 2), "t")
    np.testing.assert_array_equal(part.total("q"), [NAN, 2])
    np.testing.assert_allclose(part.element("q"), [NAN, NAN, NAN, 0.75])
    np.testing.assert_allclose(part.mean_element("q"), [NAN, 0.75])


def test_what_some_members_could_not_score_is_the_mean_of_the_others() -> None:
    row = {"id": "a", "scores": [NAN, 3.0, 5.0], "elements": [[NAN], [0.5], [0.25]]}
    found = ScoreColumns.of(score_table(TWO, [row]), "t")
    assert found.total("q")[0] == 3
    assert found.element("q")[0] == 0.5


def test_one_backbone_stacks_its_members() -> None:
    rows = [{"id": "a", "scores": [1.0, 3.0], "elements": [[1.0], [0.0]]}]
    found = ScoreColumns.of(score_table({"Qwen/Qwen2.5-VL-7B": ["m0", "m1"]}, rows), "t")
    assert found.info.stacked() == ["m0", "m1"]
    assert found.info.bags == {"Qwen2_5-VL-7B": [0, 1]}
    assert found.column("m_Qwen2_5-VL-7B") == [2]
    assert found.column("elements_m1") == [0]
    assert found.column("clip") is None


def test_names_that_can_be_asked_for() -> None:
    assert feature_names({"q": ["m0"], "i": ["base"]}) == {
        f"{kind}{name}"
        for kind in ("m_", "e_", "elements_")
        for name in ("q", "i", "q/m0", "i/base")
    }
    info = ScoreTableInfo.of(score_table(TWO, ROWS).schema, "t")
    assert {f"m_{name}" for name in info.places()} <= feature_names(TWO)


def test_tables_that_no_job_wrote() -> None:
    table = score_table(TWO, ROWS)
    with pytest.raises(ManifestError) as caught:
        ScoreColumns.of(table.replace_schema_metadata(None), "t")
    assert str(caught.value) == (
        "t: the table's metadata names no members; give the output of `tokenfocus score` as it "
        "was written, or any table by --table"
    )
    uneven = "t: a row has lists of another length than the {} members that the table's metadata "
    uneven += "names; give the output of one scoring job as it was written"
    fewer = metadata({"q": ["m0"], "i": ["base"]})
    with pytest.raises(ManifestError) as caught:
        ScoreColumns.of(table.replace_schema_metadata(dict(fewer)), "t")
    assert str(caught.value) == uneven.format(2)
    index = table.column_names.index("member_element_scores")
    ragged: pa.Array[Any] = pa.array([[[1.0]], [], [], []], table.schema.field(index).type)
    with pytest.raises(ManifestError) as caught:
        ScoreColumns.of(table.set_column(index, "member_element_scores", ragged), "t")
    assert str(caught.value) == uneven.format(3)
