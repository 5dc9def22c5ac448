from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pytest
from scipy import stats

from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation import correlations, evaluate_scores
from tokenfocus_ray.schema import ELEMENT_TYPE, SCORE_SCHEMA

NAN = math.nan
PIG = {"text": "pig", "type": "animal"}
RED = {"text": "red", "type": ""}
SCORES = [1.5, 2.0, 2.5, 4.5, 4.0, 3.0]
LABELS = [1, 2, 3, 4, 5, 3]


def scores_table(*rows: dict[str, Any]) -> pa.Table:
    full = [{"status": "ok", "elements": [PIG, RED], **row} for row in rows]
    elements = pa.field("elements", pa.list_(ELEMENT_TYPE))
    return pa.Table.from_pylist(full, schema=SCORE_SCHEMA.append(elements))


def labels_table(*rows: dict[str, Any]) -> pa.Table:
    full = [
        {"elements": [PIG, RED], "element_labels": [[1, 1, 0], [0, 1, 0]], **row} for row in rows
    ]
    return pa.Table.from_pylist(full)


def good_scores() -> list[dict[str, Any]]:
    return [
        {"sample_id": f"s{i}", "score": score, "element_scores": [0.75, 0.25 * (i % 4)]}
        for i, score in enumerate(SCORES)
    ]


def good_labels() -> list[dict[str, Any]]:
    return [
        {"sample_id": f"s{i}", "total_scores": [label], "generator": f"g{i % 2}"}
        for i, label in enumerate(LABELS)
    ]


def test_everything_joins() -> None:
    report = evaluate_scores(scores_table(*good_scores()), labels_table(*reversed(good_labels())))
    assert report.reasons == ()
    assert (report.n_rows, report.n_scored, report.n_labelled, report.n_labels) == (6, 6, 6, 6)
    assert report.srcc == pytest.approx(stats.spearmanr(SCORES, LABELS).statistic, abs=1e-10)
    assert report.plcc == pytest.approx(stats.pearsonr(SCORES, LABELS).statistic, abs=1e-10)
    assert report.krcc == pytest.approx(stats.kendalltau(SCORES, LABELS).statistic, abs=1e-10)
    # pig: 0.75 against 2/3, always right; red: 0, .25, .5, .75, 0, .25 against 1/3: 4 of 6 right
    assert {k: (v.n, v.accuracy) for k, v in report.by_element_type.items()} == {
        "animal": (6, 1.0),
        "(untyped)": (6, pytest.approx(4 / 6, abs=1e-10)),
    }
    assert report.n_elements == 12
    assert report.element_accuracy == pytest.approx(10 / 12, abs=1e-10)
    assert report.by_generator == {
        "g0": correlations(SCORES[0::2], LABELS[0::2]),
        "g1": correlations(SCORES[1::2], LABELS[1::2]),
    }
    for score, final in (
        (report.official, report.final_official),
        (report.corrected, report.final_corrected),
    ):
        expected = 0.25 * report.srcc + 0.25 * score.plcc + 0.5 * report.element_accuracy
        assert final == pytest.approx(expected, abs=1e-10)
    assert report.official.plcc != report.corrected.plcc


def test_what_cannot_be_used_is_excluded_and_counted() -> None:
    scores = [
        *good_scores(),
        {"sample_id": "s0", "score": 1.5},  # again
        {"sample_id": "u0", "status": "unscored", "error_code": "image_missing", "score": NAN},
        {"sample_id": "u1", "status": "unscored", "error_code": "image_missing", "score": None},
        {"sample_id": "u2", "score": NAN},
        {"sample_id": "stranger", "score": 3.0},
        {"sample_id": "x0", "score": 3.0, "element_scores": []},
        {"sample_id": "x1", "score": 3.0, "element_scores": [1.0, NAN]},
    ]
    labels = [
        *good_labels(),
        {"sample_id": "x0", "total_scores": []},
        {"sample_id": "x1", "total_scores": [6]},
        {"sample_id": "u0", "total_scores": [5]},
        {"sample_id": "lonely", "total_scores": [5]},
    ]
    report = evaluate_scores(scores_table(*scores), labels_table(*labels))
    clean = evaluate_scores(scores_table(*good_scores()), labels_table(*good_labels()))
    assert (report.srcc, report.plcc, report.krcc) == (clean.srcc, clean.plcc, clean.krcc)
    assert (report.n_rows, report.n_scored, report.n_unscored) == (13, 9, 3)
    assert report.unscored == {"image_missing": 2, "score_not_finite": 1}
    assert (report.n_labelled, report.n_elements) == (6, 13)
    assert report.reasons == (
        "1 rows left out because an earlier row has their sample_id",
        "3 rows unscored",
        "1 scored rows without a label",
        "2 scored rows whose total label is empty or out of 1..5",
        "1 labels without a score row",
        "3 elements without a score or a usable label",
    )


def test_without_elements_the_final_score_is_nan_with_a_reason() -> None:
    scores = scores_table(*good_scores()).drop_columns(["element_scores", "elements"])
    report = evaluate_scores(scores, labels_table(*good_labels()))
    assert math.isfinite(report.srcc)
    assert math.isnan(report.final_official)
    assert report.reasons == (
        "12 elements without a score or a usable label",
        "challenge score, both fits: no element has both a score and a label",
    )
    plain = report.to_dict()
    assert plain["final_official"] is None
    assert plain["corrected"]["final_score"] is None
    assert plain["by_element_type"]["animal"]["accuracy"] is None
    assert plain["reasons"] == list(report.reasons)
    assert plain["by_generator"]["g0"]["srcc"] == report.by_generator["g0"].srcc
    json.dumps(plain, allow_nan=False)


def test_labels_of_the_total_score_only() -> None:
    labels = labels_table(*good_labels()).drop_columns(["elements", "element_labels"])
    report = evaluate_scores(scores_table(*good_scores()), labels)
    assert report.srcc == pytest.approx(stats.spearmanr(SCORES, LABELS).statistic, abs=1e-10)
    assert (report.n_elements, report.n_elements_excluded, report.by_element_type) == (0, 0, {})


def test_generator_of_the_score_rows_serves_where_labels_have_none() -> None:
    generator = pa.array([f"h{i % 2}" for i in range(6)])
    scores = scores_table(*good_scores()).append_column("generator", generator)
    labels = labels_table(*good_labels()).drop_columns("generator")
    assert list(evaluate_scores(scores, labels).by_generator) == ["h0", "h1"]


def one(**changes: Any) -> pa.Table:
    return scores_table({**good_scores()[0], **changes})


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (
            pa.table({"sample_id": ["a"], "rating": [1.0]}),
            labels_table(*good_labels()),
            "scores: missing columns status, score; wanted sample_id, status, score; found "
            "sample_id, rating",
        ),
        (
            one(sample_id="other"),
            labels_table(*good_labels()),
            "no sample_id of scores (first: 'other') is in labels (first: 's0'); score and label "
            "the same manifest, or give both the same sample_id",
        ),
        (
            scores_table(),
            labels_table(*good_labels()),
            "scores: no rows; there is nothing to evaluate",
        ),
        (
            one(),
            labels_table(*good_labels()).slice(0, 0),
            "labels: no rows; there is nothing to evaluate",
        ),
        (
            one(element_scores=[1.0]),
            labels_table(*good_labels()),
            "scores: sample s0: 1 element scores, but 2 labelled elements; score and label the "
            "same elements in the same order",
        ),
        (
            one(elements=[RED, PIG]),
            labels_table(*good_labels()),
            "scores: sample s0: element 0 is 'red', but 'pig' in the labels; score and label the "
            "same elements in the same order",
        ),
        (
            scores_table(*good_scores(), {"sample_id": "s0", "score": 2.5}),
            labels_table(*good_labels()),
            "scores: sample s0 has two scores, 1.5000 and 2.5000; evaluate one run at a time",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(
    scores: pa.Table, labels: pa.Table, message: str
) -> None:
    with pytest.raises(ManifestError) as error:
        evaluate_scores(scores, labels)
    assert str(error.value) == message
