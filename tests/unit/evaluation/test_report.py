from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation import correlations, evaluate_tables
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
        {
            "sample_id": f"s{i}",
            "prompt": f"prompt  {i // 3}",
            "total_scores": [label],
            "generator": f"g{i % 2}",
        }
        for i, label in enumerate(LABELS)
    ]


def test_everything_joins() -> None:
    report = evaluate_tables(scores_table(*good_scores()), labels_table(*reversed(good_labels())))
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
    # each of six pigs, .75 and present, beats five reds and ties with one; two reds are taken too
    assert report.element_auc == pytest.approx(6 * 5.5 / 36, abs=1e-10)
    assert report.element_f1 == pytest.approx(12 / 14, abs=1e-10)
    for name, first in (("g0", 0), ("g1", 1)):
        whole = correlations(SCORES[first::2], LABELS[first::2])
        own = report.by_generator[name]
        assert (own.n, own.n_dropped, own.reason) == (3, 0, None)
        assert (own.srcc, own.plcc, own.krcc) == (whole.srcc, whole.plcc, whole.krcc)
        assert own.mean_score == pytest.approx(sum(SCORES[first::2]) / 3, abs=1e-10)
        assert own.mean_label == pytest.approx(sum(LABELS[first::2]) / 3, abs=1e-10)
    # prompts {1, 2, 3} and {4, 5, 3}: six pairs, of which 4.5 against 4.0 is in the wrong order
    assert (report.n_groups, report.n_pairs, report.n_pairs_tied) == (2, 6, 0)
    assert report.pairwise_accuracy == report.pairwise_accuracy_ties == 5 / 6
    assert report.pairwise_epsilon == 0
    # one sample a tenth: distances .5 0 .5 .5 1 0
    assert report.calibration_error == pytest.approx(2.5 / 6, abs=1e-10)
    assert report.intervals == {}
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
        {"sample_id": "x0", "total_scores": [], "prompt": "x"},
        {"sample_id": "x1", "total_scores": [6], "prompt": "x"},
        {"sample_id": "u0", "total_scores": [5]},
        {"sample_id": "lonely", "total_scores": [5]},
    ]
    report = evaluate_tables(scores_table(*scores), labels_table(*labels))
    clean = evaluate_tables(scores_table(*good_scores()), labels_table(*good_labels()))
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
    report = evaluate_tables(scores, labels_table(*good_labels()))
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
    report = evaluate_tables(scores_table(*good_scores()), labels)
    assert report.srcc == pytest.approx(stats.spearmanr(SCORES, LABELS).statistic, abs=1e-10)
    assert (report.n_elements, report.n_elements_excluded, report.by_element_type) == (0, 0, {})


def test_generator_of_the_score_rows_serves_where_labels_have_none() -> None:
    generator = pa.array([f"h{i % 2}" for i in range(6)])
    scores = scores_table(*good_scores()).append_column("generator", generator)
    labels = labels_table(*good_labels()).drop_columns("generator")
    assert list(evaluate_tables(scores, labels).by_generator) == ["h0", "h1"]


def test_intervals_are_flat_keys_of_the_json() -> None:
    scores, labels = scores_table(*good_scores()), labels_table(*good_labels())
    report = evaluate_tables(scores, labels, intervals=True)
    assert set(report.intervals) == {
        "srcc", "plcc", "krcc", "pairwise_accuracy", "pairwise_accuracy_ties", "element_accuracy",
        "element_accuracy_own", "element_auc", "element_f1", "interval_coverage", "final_official",
        "final_corrected",
    }  # fmt: skip
    plain = report.to_dict()
    assert (plain["srcc_low"], plain["srcc_high"]) == report.intervals["srcc"]
    assert plain["srcc_low"] <= plain["srcc"] <= plain["srcc_high"]
    assert (plain["interval_coverage_low"], plain["interval_coverage"]) == (None, None)
    assert "intervals" not in plain
    own = plain["by_element_type"]["animal"]
    assert (own["accuracy_low"], own["accuracy_high"]) == (1, 1)
    assert plain["by_generator"]["g0"]["mean_score_low"] < report.by_generator["g0"].mean_score
    json.dumps(plain, allow_nan=False)


def test_one_prompt_has_no_intervals() -> None:
    labels = labels_table(*({**label, "prompt": "A  cat"} for label in good_labels()))
    report = evaluate_tables(scores_table(*good_scores()), labels, intervals=True)
    assert math.isfinite(report.srcc)
    assert (report.n_groups, report.n_pairs) == (1, 15)
    assert np.isnan(list(report.intervals.values())).all()
    assert report.reasons == ("intervals: 1 prompt; an interval needs 2",)
    assert report.to_dict()["by_element_type"]["animal"]["accuracy_low"] is None


def test_without_prompts_every_row_stands_for_itself() -> None:
    labels = labels_table(*good_labels()).drop_columns("prompt")
    report = evaluate_tables(scores_table(*good_scores()), labels, intervals=True)
    assert report.n_groups == 6
    assert math.isnan(report.pairwise_accuracy)
    assert math.isfinite(report.intervals["srcc"][0])
    assert math.isnan(report.intervals["pairwise_accuracy"][0])
    assert report.reasons == (
        "no prompts in labels or scores; every row stands for itself",
        "pairwise accuracy: no prompt has two images with score and label",
    )
    prompts = pa.array([f" Prompt {i // 3}" for i in range(6)])
    scores = scores_table(*good_scores()).append_column("prompt", prompts)
    assert evaluate_tables(scores, labels).n_groups == 2


def test_equal_labels_and_equal_scores() -> None:
    labels = labels_table(*({**label, "total_scores": [4]} for label in good_labels()))
    report = evaluate_tables(scores_table(*good_scores()), labels, intervals=True)
    why = "all 6 labels equal 4; a correlation needs spread"
    assert report.reasons == (
        f"challenge score, both fits: {why}",
        "pairwise accuracy: the labels of all 6 pairs of images of one prompt are equal",
    )
    assert math.isnan(report.srcc)
    assert report.pairwise_accuracy_ties == 1
    assert np.isnan([report.intervals["srcc"], report.intervals["final_official"]]).all()
    scores = scores_table(*({**score, "score": 3.0} for score in good_scores()))
    report = evaluate_tables(scores, labels_table(*good_labels()), intervals=True)
    assert report.reasons == (
        "challenge score, both fits: all 6 scores equal 3; a correlation needs spread",
    )
    assert report.pairwise_accuracy == 0.5
    json.dumps(report.to_dict(), allow_nan=False)


def test_nothing_scored() -> None:
    scores = scores_table({"sample_id": "s0", "status": "unscored", "error_code": "image_missing"})
    report = evaluate_tables(scores, labels_table(*good_labels()), intervals=True)
    assert (report.n_scored, report.n_labelled, report.n_elements) == (0, 0, 0)
    plain = report.to_dict()
    names = ("srcc", "pairwise_accuracy", "element_auc", "calibration_error", "final_official")
    assert [plain[name] for name in names] == [None] * 5
    assert report.reasons == (
        "1 rows unscored",
        "5 labels without a score row",
        "challenge score, both fits: 0 pairs of score and label; a correlation needs 3; no element "
        "has both a score and a label",
        "pairwise accuracy: no prompt has two images with score and label",
        "calibration error: no row has score and label",
        "intervals: 0 prompts; an interval needs 2",
    )


def test_decisions_and_intervals_of_an_ensemble() -> None:
    scores = scores_table(*good_scores())
    scores = scores.append_column("score_low", pa.array([v - 0.5 for v in SCORES]))
    scores = scores.append_column("score_high", pa.array([v + 0.5 for v in SCORES]))
    decided = [[True, False], [True, True], None, [True, None], [False, False], [True, False]]
    scores = scores.append_column("element_present", pa.array(decided, pa.list_(pa.bool_())))
    report = evaluate_tables(scores, labels_table(*good_labels()), intervals=True)
    # of the labels 1 2 3 4 5 3 only 5 is out of its interval, 4 +- .5
    assert (report.n_intervals, report.interval_coverage) == (6, 5 / 6)
    assert report.interval_width == pytest.approx(1, abs=1e-10)
    assert report.n_elements_own == 9
    assert report.element_accuracy_own == pytest.approx(7 / 9, abs=1e-10)
    assert report.element_accuracy == pytest.approx(10 / 12, abs=1e-10)
    low, high = report.intervals["element_accuracy_own"]
    assert low <= 7 / 9 <= high
    decided[0] = [True]
    scores = scores.set_column(
        scores.schema.get_field_index("element_present"), "element_present",
        pa.array(decided, pa.list_(pa.bool_())),
    )  # fmt: skip
    with pytest.raises(ManifestError) as error:
        evaluate_tables(scores, labels_table(*good_labels()))
    assert str(error.value) == (
        "scores: sample s0: 1 element decisions, but 2 labelled elements; score and label the same "
        "elements in the same order"
    )


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
        evaluate_tables(scores, labels)
    assert str(error.value) == message
