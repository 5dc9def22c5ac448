"""What is computed from counts equals what the resample's rows give, written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from tokenfocus_ray.evaluation.resampling.bootstrap import Draws, interval, ratio, resampled_groups
from tokenfocus_ray.evaluation.resampling.resampled import (
    resampled_auc,
    resampled_krcc,
    resampled_plcc,
    resampled_srcc,
)
from tokenfocus_ray.tables.prompts import group_numbers

RESAMPLES = 30
Resampled = Callable[[Draws, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def rows(seed: int, decimals: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups of several sizes in no order, scores with ties or without, labels with many."""
    generator = np.random.default_rng(seed)
    groups = group_numbers(generator.integers(0, 17, size=90))
    labels = generator.integers(3, 16, size=90) / 3
    scores = labels + generator.normal(size=90)
    return groups, scores if decimals is None else np.round(scores, decimals), labels


@pytest.mark.parametrize("decimals", [None, 0])
@pytest.mark.parametrize("turned", [False, True], ids=["ties in labels", "ties in scores"])
@pytest.mark.parametrize(
    ("resampled", "reference"),
    [
        (resampled_srcc, stats.spearmanr),
        (resampled_plcc, stats.pearsonr),
        (resampled_krcc, stats.kendalltau),
    ],
)
def test_equals_scipy_on_each_resample(
    resampled: Resampled, reference: Any, turned: bool, decimals: int | None
) -> None:
    groups, scores, labels = rows(1, decimals)
    if turned:
        scores, labels = labels, scores
    found = resampled(Draws.of(groups.max() + 1, RESAMPLES, 5), groups, scores, labels)
    expected = [
        reference(scores[own], labels[own]).statistic
        for own in resampled_groups(groups, RESAMPLES, 5)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-10, rtol=0)


def test_auc_equals_scikit_learn_on_each_resample() -> None:
    groups, scores, labels = rows(2, 1)
    present = labels > 3
    found = resampled_auc(Draws.of(groups.max() + 1, RESAMPLES, 5), groups, scores, present)
    expected = [
        roc_auc_score(present[own], scores[own]) for own in resampled_groups(groups, RESAMPLES, 5)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-10, rtol=0)


def test_sums_are_those_of_the_rows() -> None:
    groups, scores, labels = rows(3, None)
    values = np.column_stack([scores, labels])
    found = Draws.of(groups.max() + 1, 250, 5).sums(groups, values)
    expected = [values[own].sum(axis=0) for own in resampled_groups(groups, 250, 5)]
    np.testing.assert_allclose(found, expected, atol=1e-10, rtol=0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("resampled", [resampled_srcc, resampled_plcc, resampled_krcc])
def test_a_resample_without_spread_has_no_coefficient(resampled: Resampled) -> None:
    """Two groups, of which the first is constant but for what rounding makes of a tenth."""
    groups = np.array([0, 0, 0, 1, 1, 1])
    scores = np.array([0.1, 0.1, 0.1, 0.3, 0.2, 0.5])
    labels = np.array([1.0, 2.0, 3.0, 1.0, 3.0, 2.0])
    draws = Draws(np.array([[2, 0], [0, 2], [1, 1]], np.uint16))
    for sides in ((scores, labels), (labels, scores)):
        found = resampled(draws, groups, *sides)
        assert np.isnan(found).tolist() == [True, False, False]


def test_one_class_has_no_auc() -> None:
    draws = Draws(np.array([[2, 0], [1, 1]], np.uint16))
    found = resampled_auc(draws, np.array([0, 1]), np.array([0.9, 0.1]), np.array([True, False]))
    assert np.isnan(found[0])
    assert found[1] == 1


def test_interval_goes_without_undefined_resamples() -> None:
    known = np.arange(101.0)
    assert interval(known) == (2.5, 97.5)
    assert interval(np.append(known, [np.nan] * 100)) == (2.5, 97.5)
    assert np.isnan(interval(np.append(known, [np.nan] * 101))).all()


@pytest.mark.filterwarnings("error")
def test_ratio_of_nothing_is_nan() -> None:
    np.testing.assert_equal(ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0])), [0.5, np.nan])
