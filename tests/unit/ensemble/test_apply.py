"""Ensembles applied to tables: which columns come, and that rows stand for themselves."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.scores import random_scores, score_table, with_text_as
from tokenfocus_ray.config import StackConfig
from tokenfocus_ray.ensemble.apply import merge
from tokenfocus_ray.ensemble.bundle import Ensemble
from tokenfocus_ray.ensemble.inputs import ScoreColumns
from tokenfocus_ray.ensemble.judge import fit_calibrated
from tokenfocus_ray.ensemble.labelled import join_labels
from tokenfocus_ray.ensemble.stack_table import StackTable, read_stack_table
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation import evaluate_tables
from tokenfocus_ray.evaluation.labels import read_labels
from tokenfocus_ray.schema import ENSEMBLE_COLUMNS
from tokenfocus_ray.tables.members import member_tables

TWO = {"q": ["m0", "m1"], "i": ["base"]}
NEW = list(ENSEMBLE_COLUMNS)


@functools.cache
def fitted(method: str = "nnls") -> Ensemble:
    """On 240 samples of two backbones."""
    table, labels = random_scores(TWO, 240)
    joined = join_labels({"t": table}, read_labels(labels))
    config = StackConfig.parse({"method": method, "seeds": 1, "folds": 2})

    def read(rows: pa.Table, features: Any) -> StackTable:
        return read_stack_table(
            rows, target="label", features=features, group="prompt", label_range=None, where="t"
        )

    total, _ = fit_calibrated(read(joined.total, joined.features), config)
    elements, report = fit_calibrated(read(joined.elements, ["e_*"]), config, elements=True)
    assert report.decisions is not None
    assert report.decisions.accuracy > 0.85
    return Ensemble(total, elements)


def new_scores(n: int = 40, **options: Any) -> tuple[pa.Table, pa.Table]:
    return random_scores(TWO, n, seed=1, **options)


def test_scores_follow_labels_better_than_a_member() -> None:
    table, labels = new_scores(200)
    before = [evaluate_tables(one, labels) for one in member_tables(table).values()]
    merged = merge(fitted(), {"t": table})
    after = evaluate_tables(merged, labels)
    assert after.srcc > max(one.srcc for one in before) + 0.02
    assert after.element_accuracy > max(one.element_accuracy for one in before)
    assert merged.column_names == [*table.column_names, *NEW]
    assert merged.schema.field("score").type == table.schema.field("score").type
    metadata = {k.decode(): v.decode() for k, v in merged.schema.metadata.items()}
    assert metadata["tokenfocus.ensemble"] == fitted().fingerprint()
    assert metadata["tokenfocus.coverage"] == "0.9"
    assert metadata["tokenfocus.members"] == "q/m0,q/m1,i/base"


def test_intervals_and_decisions() -> None:
    merged = merge(fitted(), {"t": new_scores()[0]})
    rows: list[dict[str, Any]] = merged.to_pylist()
    elements = fitted().elements
    assert elements is not None
    threshold = elements.threshold
    assert threshold is not None
    assert merged.schema.metadata[b"tokenfocus.element_threshold"] == f"{threshold:.17g}".encode()
    for row in rows:
        assert 1 <= row["score_low"] <= row["score"] <= row["score_high"] <= 5
        for low, score, high in zip(
            row["element_low"], row["element_scores"], row["element_high"], strict=True
        ):
            assert 0 <= low <= score <= high <= 1
        assert row["element_present"] == [s >= threshold for s in row["element_scores"]]


def test_unscored_rows_stay_so() -> None:
    table, _ = new_scores(unscored=(3, 17))
    merged = merge(fitted(), {"t": table})
    for name in ("status", "error_code", "error_message", "sample_id", "member_scores"):
        assert merged[name].equals(table[name])
    row: dict[str, Any] = merged.slice(17, 1).to_pylist()[0]
    assert np.isnan([row["score"], row["score_low"], row["score_high"]]).all()
    assert np.isnan([*row["element_scores"], *row["element_low"], *row["element_high"]]).all()
    assert row["element_present"] == [None] * 3
    assert np.isfinite(merged["score"].to_numpy()).sum() == 38


def test_a_row_without_a_finite_score_is_unscored_with_its_reason() -> None:
    """A member's score that is NaN or infinite in a row that says ok: total or element."""
    table, _ = new_scores(12)
    rows: list[dict[str, Any]] = table.to_pylist()
    rows[2]["member_scores"][1] = float("nan")
    rows[5]["member_element_scores"][2][0] = float("inf")
    rows[7]["member_element_scores"] = None
    broken = pa.Table.from_pylist(rows, schema=table.schema)
    merged = merge(fitted(), {"t": broken})
    assert merged.schema.field("status").type == table.schema.field("status").type
    whole = merge(fitted(), {"t": table})
    good = pa.array([i for i in range(12) if i not in (2, 5, 7)])
    for name in ("score", "status", "error_code", "element_present"):
        assert merged[name].take(good).equals(whole[name].take(good))
    for i, members in ((2, ["q/m1"]), (5, ["i/base"]), (7, ["q/m0", "q/m1", "i/base"])):
        row: dict[str, Any] = merged.slice(i, 1).to_pylist()[0]
        assert (row["status"], row["error_code"]) == ("unscored", "score_not_finite")
        assert row["error_message"] == (
            f"members {members} have NaN or infinity in t; score the row again"
        )
        numbers = [row["score"], row["score_low"], *row["element_scores"], *row["element_high"]]
        assert np.isnan(numbers).all()
        assert set(row["element_present"]) == {None}


def test_a_row_without_any_feature_is_unscored_with_its_reason() -> None:
    """Of score rows that are merged with other columns alone."""
    table, labels = random_scores(TWO, 60)
    columns: dict[str, Any] = {"clip": np.arange(60.0) % 7, "aesthetic": np.arange(60.0) % 5}
    ratings: list[Any] = labels["total_scores"].to_pylist()
    rows = pa.table(
        {
            "label": [own[0] for own in ratings],
            "prompt": range(60),
            **columns,
        }
    )
    read = read_stack_table(
        rows, target="label", features=list(columns), group="prompt", label_range=None, where="t"
    )
    config = StackConfig.parse({"method": "nnls", "seeds": 1, "folds": 2})
    ensemble = Ensemble(fit_calibrated(read, config)[0])
    for name, values in columns.items():
        table = table.append_column(name, pa.array([None, *values[1:]]))
    merged = merge(ensemble, {"t": table})
    assert merged["error_code"].to_pylist() == ["score_not_finite"] + [None] * 59
    assert merged["error_message"][0].as_py() == (
        "the ensemble gives NaN: none of its columns (clip, aesthetic) has a value in this row"
    )


@pytest.mark.parametrize("method", ["blend", "rank_mean", "single"])
def test_rows_do_not_depend_on_each_other(method: str) -> None:
    """The same bits alone, in any batch and in any order."""
    table, _ = new_scores(30, unscored=(4,))
    whole = merge(fitted(method), {"t": table})
    parts = [merge(fitted(method), {"t": table.slice(at, 7)}) for at in range(0, 30, 7)]
    again = pa.concat_tables(parts)
    for name in ("score", *NEW):
        assert repr(again[name].to_pylist()) == repr(whole[name].to_pylist())
    order = np.random.default_rng(0).permutation(30)
    turned = merge(fitted(method), {"t": table.take(order)})
    np.testing.assert_array_equal(turned["score"].to_numpy(), whole["score"].to_numpy()[order])


def test_of_two_tables_the_same_scores_as_of_one() -> None:
    """A backbone each; rows that one of them could not score are unscored, with its reason."""
    table, _ = new_scores(30)
    numbers = ScoreColumns.of(table, "t")

    def alone(name: str, places: list[int], bad: int) -> pa.Table:
        starts = np.cumsum(numbers.counts_N) - numbers.counts_N
        rows = [
            {
                "id": key,
                "scores": [] if i == bad else numbers.total_NM[i, places].tolist(),
                "elements": numbers.element_EM[s : s + n, places].T.tolist(),
                "n": int(n),
            }
            for i, (key, s, n) in enumerate(
                zip(table["sample_id"].to_pylist(), starts, numbers.counts_N, strict=True)
            )
        ]
        return score_table({name: TWO[name]}, rows)

    first, second = alone("q", [0, 1], 3), alone("i", [2], 5)
    merged = merge(fitted(), {"x": first, "y": second})
    whole = merge(fitted(), {"t": table})
    good = [i for i in range(30) if i not in (3, 5)]
    for name in ("score", "score_low", "element_scores", "element_present"):
        assert merged[name].take(pa.array(good)).equals(whole[name].take(pa.array(good)))
    assert merged["status"].to_pylist() == ["unscored" if i in (3, 5) else "ok" for i in range(30)]
    assert merged["error_code"][5].as_py() == "image_missing"
    assert np.isnan(merged["score"].to_numpy()[[3, 5]]).all()
    assert not {"member_scores", "level_probs"} & set(merged.column_names)
    assert merged.schema.metadata[b"tokenfocus.members"] == b"q/m0,q/m1,i/base"
    for kind in (pa.string_view(), pa.dictionary(pa.int32(), pa.string())):  # of other tools
        again = merge(fitted(), {"x": with_text_as(first, kind), "y": second})
        for name in ("score", "status", "error_code", "error_message", "element_present"):
            assert repr(again[name].to_pylist()) == repr(merged[name].to_pylist())


def test_input_columns_under_the_names_of_new_ones_are_kept() -> None:
    """With a prefix, as beside plain scores; those of an earlier merge are replaced."""
    table, _ = new_scores(8)
    given = {name: [f"{name} {i}" for i in range(8)] for name in (*NEW, "input_score_low")}
    for name, values in given.items():
        table = table.append_column(name, pa.array(values))
    merged = merge(fitted(), {"t": table})
    assert merged.column_names == [
        *new_scores(8)[0].column_names, "input_input_score_low", "input_score_high",
        "input_element_low", "input_element_high", "input_element_present", "input_score_low", *NEW,
    ]  # fmt: skip
    assert merged["input_input_score_low"].to_pylist() == given["score_low"]
    assert merged["input_score_low"].to_pylist() == given["input_score_low"]
    assert merged["input_element_present"].to_pylist() == given["element_present"]
    plain = merge(fitted(), {"t": new_scores(8)[0]})
    assert merged.select(NEW).equals(plain.select(NEW))
    assert merge(fitted(), {"t": merged}).column_names == merged.column_names
    only_total = merge(Ensemble(fitted().total), {"t": table})
    assert only_total["input_element_low"].to_pylist() == given["element_low"]
    assert "element_low" not in only_total.column_names


def test_any_table() -> None:
    """Of a bundle that `stack --table` made; a column called score is kept under another name."""
    generator = np.random.default_rng(0)
    labels: Any = generator.normal(size=100)
    rows = pa.table(
        {"human": labels, "m_a": labels + generator.normal(size=100), "m_b": labels * 2 + 1,
         "score": labels, "prompt": [f"p{i // 4}" for i in range(100)]}
    )  # fmt: skip
    config = StackConfig.parse({"method": "nnls", "seeds": 1})
    read = read_stack_table(
        rows, target="human", features=["m_*"], group="prompt", label_range=None, where="t"
    )
    ensemble = Ensemble(fit_calibrated(read, config)[0])
    new = pa.table({"m_b": ["3", "refused", None], "m_a": [1.0, None, 2.0], "score": [7, 8, 9]})
    merged = merge(ensemble, {"t": new})
    assert merged.column_names == [
        "m_b", "m_a", "input_score", "score", "score_low", "score_high"
    ]  # fmt: skip
    twice = merge(ensemble, {"t": merged})
    assert twice.column_names == [
        "m_b", "m_a", "input_score", "input_input_score", "input_score_low", "input_score_high",
        "score", "score_low", "score_high",
    ]  # fmt: skip
    scores = merged["score"].to_numpy()
    assert np.isnan(scores[1])
    assert scores[0] == pytest.approx(1, abs=0.1)
    assert ensemble.total.threshold is None


def test_tables_that_do_not_fit() -> None:
    table, _ = new_scores(10)
    cases: list[tuple[dict[str, pa.Table], str]] = [
        (
            {"x": table, "y": table},
            "x + y: more than one of them has the members of 'm_q', which the ensemble takes; give "
            "each backbone once",
        ),
        (
            {"x": table, "y": table.slice(1)},
            "x and y do not have the same samples in the same order: 10 and 9 rows; score the same "
            "manifest with both backbones, or both in one job",
        ),
        (
            {"x": table, "y": table.take(pa.array([1, 0, *range(2, 10)]))},
            "x and y do not have the same samples in the same order: 's00000' in one stands where "
            "'s00001' stands in the other; score the same manifest with both backbones, or both in "
            "one job",
        ),
        (
            {"x": table, "y": table.drop_columns(["sample_id"])},
            "y: there is no column 'sample_id' to join x and y",
        ),
    ]
    for tables, message in cases:
        with pytest.raises(ManifestError) as caught:
            merge(fitted(), tables)
        assert str(caught.value) == message
    one = {"id": "a", "scores": [1.0, 2.0], "elements": [[0.5], [0.5]]}
    other = {"id": "a", "scores": [1.0], "elements": [[0.5, 0.5]]}
    with pytest.raises(ManifestError) as caught:
        merge(fitted(), {
            "x": score_table({"q": ["m0", "m1"]}, [one]), "y": score_table({"i": ["base"]}, [other])
        })  # fmt: skip
    assert str(caught.value) == (
        "x and y have different numbers of elements in a row; score the same manifest with both "
        "backbones, or both in one job"
    )
    with pytest.raises(ManifestError) as caught:
        merge(fitted(), {"x": random_scores({"q": ["m0"], "other": ["base"]}, 3)[0]})
    assert str(caught.value).startswith(
        "x: the ensemble takes a column 'm_i', which is not there. Did you mean 'm_q'? Known: "
    )
