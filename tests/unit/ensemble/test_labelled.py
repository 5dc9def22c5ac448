"""Score tables of one backbone or several become columns to stack, next to their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.scores import NAN, score_table
from tokenfocus_ray.ensemble.labelled import join_labels, join_out_of_fold
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation.labels import Label, read_labels
from tokenfocus_ray.training.oof import merge_out_of_fold

ROWS: list[dict[str, Any]] = [
    {"id": "a", "scores": [1.0, 3.0], "elements": [[0.0, 1.0], [0.5, 1.0]], "prompt": "A  Pig"},
    {"id": "b", "n": 1},
    {"id": "c", "scores": [2.0, 4.0], "elements": [[0.5], [1.0]]},
]


def labels(**counts: int) -> dict[str, Label]:
    """Total labels 1, 2, ..., and for each element 1, 0, 1, ..."""
    table = [
        {
            "sample_id": key,
            "total_scores": [1 + i],
            "elements": [{"text": f"claim {e}", "type": "object"} for e in range(count)],
            "element_labels": [[(e + 1) % 2] for e in range(count)],
        }
        for i, (key, count) in enumerate(counts.items())
    ]
    return read_labels(pa.Table.from_pylist(table))


def test_one_row_a_sample_and_one_an_element() -> None:
    table = score_table({"q": ["m0"], "i": ["m0"]}, ROWS, clip=[0.1, 0.2, 0.3])
    joined = join_labels({"x": table}, labels(c=1, a=2, b=1, z=1))
    assert joined.features == ("m_q", "m_i", "elements_q", "elements_i")
    total = joined.total.select(["sample_id", "label", "prompt", *joined.features, "clip"])
    assert total.to_pylist() == [
        {"sample_id": "c", "label": 1.0, "prompt": "prompt c", "m_q": 2.0, "m_i": 4.0,
         "elements_q": 0.5, "elements_i": 1.0, "clip": 0.3},
        {"sample_id": "a", "label": 2.0, "prompt": "a pig", "m_q": 1.0, "m_i": 3.0,
         "elements_q": 0.5, "elements_i": 0.75, "clip": 0.1},
    ]  # fmt: skip
    assert joined.elements.to_pylist() == [
        {"label": 1.0, "prompt": "prompt c", "e_q": 0.5, "e_i": 1.0},
        {"label": 1.0, "prompt": "a pig", "e_q": 0.0, "e_i": 0.5},
        {"label": 0.0, "prompt": "a pig", "e_q": 1.0, "e_i": 1.0},
    ]


def test_tables_of_one_backbone_each_become_a_bag_each() -> None:
    """What one of them could not score is left out."""
    first = score_table({"org/q": ["m0", "m1"]}, ROWS)
    second = score_table({"i": ["m0", "m1"]}, [{**ROWS[0], "scores": [5.0, 4.0]}, {"id": "c"}])
    joined = join_labels({"x": first, "y": second}, labels(a=2, c=1))
    assert joined.total["m_q"].to_pylist() == [2.0]
    assert joined.total["m_i"].to_pylist() == [4.5]
    assert joined.elements.num_rows == 2


def test_labels_without_elements() -> None:
    joined = join_labels({"x": score_table({"q": ["m0", "m1"]}, ROWS)}, labels(a=0, c=1))
    assert joined.elements["e_m0"].to_pylist() == [0.5]
    joined = join_labels({"x": score_table({"q": ["m0", "m1"]}, ROWS)}, labels(a=0))
    assert joined.elements.num_rows == 0
    assert joined.total["elements_m0"].to_pylist() == [0.5]


def test_tables_that_do_not_fit() -> None:
    table = score_table({"q": ["m0", "m1"]}, ROWS)
    given = {"x": table, "y": table}
    with pytest.raises(ManifestError) as caught:
        join_labels(given, labels(a=2))
    assert str(caught.value) == (
        "y: an earlier table has scores of 'q' too; score both in one job, under `backbones` with "
        "names of their own"
    )
    with pytest.raises(ManifestError) as caught:
        join_labels(given, labels(b=1))
    assert str(caught.value) == (
        "no sample_id is labelled, and scored in each of x, y; score and label the same manifest"
    )
    with pytest.raises(ManifestError) as caught:
        join_labels({"x": table}, labels(a=1))
    assert str(caught.value) == (
        "x: sample a: 2 element scores of ['claim 0', 'claim 1'], but the labels have "
        "['claim 0']; score and label the same elements in the same order"
    )
    with pytest.raises(ManifestError) as caught:
        join_labels({"x": table.append_column("m_m0", pa.array([1, 2, 3]))}, labels(a=2))
    assert str(caught.value) == (
        "x: column 'm_m0' has the name of a feature of the members; rename it"
    )


def test_out_of_fold_predictions() -> None:
    """What training writes; samples without elements, and rows that no member scored."""
    samples = pa.table(
        {
            "sample_id": ["a", "b", "c"],
            "group": [0, 0, 1],
            "prompt": ["x", "x", "y"],
            "prompt_type": ["real"] * 3,
            "elements": [[{"text": "t", "type": ""}] * 2, [], [{"text": "t", "type": ""}]],
            "total_scores": [[1, 2], [3], [5]],
            "element_labels": [[[1, 0], [1]], [], [[0]]],
        }
    )
    held = score_table({"q": ["m0"]}, [
        {"id": "a", "scores": [2.0], "elements": [[0.5, 0.25]]},
        {"id": "b", "scores": [3.0], "elements": [[]]},
        {"id": "c", "n": 1},
    ])  # fmt: skip
    joined = join_out_of_fold(merge_out_of_fold(samples, [("q", "q-bag0", held)]), "run")
    assert joined.features == ("m_q", "elements_q")
    np.testing.assert_array_equal(joined.total["label"].to_numpy(), [1.5, 3, 5])
    assert joined.total["m_q"].to_pylist() == [2.0, 3.0, None]
    np.testing.assert_array_equal(joined.total["elements_q"].to_numpy(), [0.375, NAN, NAN])
    assert joined.elements["prompt"].to_pylist() == [0, 0, 1]
    np.testing.assert_array_equal(joined.elements["label"].to_numpy(), [0.5, 1, 0])
    np.testing.assert_array_equal(joined.elements["e_q"].to_numpy(), [0.5, 0.25, NAN])
