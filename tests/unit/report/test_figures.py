from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tokenfocus_ray.evaluation.resampling.bootstrap import resampled_groups
from tokenfocus_ray.report.batch import GROUPS
from tokenfocus_ray.report.figures import against, ranked
from tokenfocus_ray.report.runs import Runs, Shared


def sums(groups: np.ndarray, scores: np.ndarray) -> np.ndarray:
    found = np.zeros((GROUPS, 2))
    np.add.at(found[:, 0], groups, 1.0)
    np.add.at(found[:, 1], groups, scores)
    return found


def test_intervals_are_those_of_resampled_prompts() -> None:
    """As by drawing the rows themselves, a group with all of its rows."""
    chance = np.random.default_rng(0)
    groups = chance.integers(0, 90, 400)
    scores = chance.normal(3, 0.5, 400) + groups / 90
    (row,) = ranked({"a": sums(groups, scores)})
    means = [scores[own].mean() for own in resampled_groups(groups, 1000, 0)]
    low, high = np.percentile(means, [2.5, 97.5])
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=6e-4)
    assert (row["mean"], row["n"]) == (pytest.approx(scores.mean(), abs=6e-4), 400)


def test_places_move_where_generators_are_alike() -> None:
    chance = np.random.default_rng(1)
    groups = np.arange(100)
    scores = chance.normal(3, 0.5, 100)
    alike = scores + chance.normal(0, 0.5, 100)
    rows = ranked(
        {"low": sums(groups, scores - 2), "b": sums(groups, scores), "c": sums(groups, alike)}
    )
    assert [row["key"] for row in rows][2] == "low"
    assert [(row["first"], row["last"]) for row in rows] == [(1, 2), (1, 2), (3, 3)]


def test_one_group_has_no_interval() -> None:
    (row,) = ranked({"a": sums(np.zeros(9, np.int64), np.arange(9.0))})
    assert (row["mean"], row["low"], row["high"], row["first"]) == (4.0, None, None, None)


def compared(first: np.ndarray, second: np.ndarray) -> Runs:
    n = len(first)
    makers = np.array(["a", "b"] * n, object)[:n]
    numbers = np.arange(n)
    return Runs.of(numbers.astype(np.uint64), numbers, first, second, numbers % 40, makers)


def test_against() -> None:
    chance = np.random.default_rng(2)
    second = chance.normal(3, 0.5, 200)
    first = second + np.where(np.arange(200) % 2, 0.25, -0.125)
    first[7], second[8] = np.nan, np.nan
    runs = compared(first, second)
    found = against(Shared(runs), "other", runs.second)
    assert found["counts"] == {
        "both": 198, "first": 1, "second": 1, "neither": 0, "onlyFirst": 0, "onlySecond": 0,
    }  # fmt: skip
    assert [(row["name"], row["difference"], row["low"]) for row in found["makers"]] == [
        ("b", 0.25, 0.25), ("a", -0.125, -0.125),
    ]  # fmt: skip
    assert found["difference"] == pytest.approx(0.0625, abs=1e-4)
    assert found["interval"]["low"] < 0.0625 < found["interval"]["high"]
    both = np.isfinite(first) & np.isfinite(second)
    wanted = stats.spearmanr(first[both], second[both]).statistic
    assert found["srcc"] == pytest.approx(wanted, abs=1e-4)
    assert (len(found["rose"]), len(found["fell"])) == (12, 12)
    assert {found["moved"][row] for row in found["rose"]} == {0.25}
    assert {found["moved"][row] for row in found["fell"]} == {-0.125}


def test_against_nothing_shared() -> None:
    runs = compared(np.full(4, np.nan), np.ones(4))
    found = against(Shared(runs), "other", runs.second)
    assert (found["difference"], found["srcc"], found["pairs"]) == (None, None, [None, None])
