"""The curve to the human scale, and intervals that hold what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from tokenfocus_ray.ensemble.isotonic import Calibrator, conformal_radius, cross_calibrated
from tokenfocus_ray.ensemble.stackers import group_folds
from tokenfocus_ray.evaluation.correlation import srcc


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    predicted = np.round(generator.normal(size=n), 2)  # with ties
    return predicted, 3 + np.tanh(predicted) + generator.normal(size=n) * 0.4


def test_blocks_are_those_of_scikit_learn() -> None:
    predicted, labels = rows(300, 0)
    curve = Calibrator.fit(predicted, labels, 1, 5)
    reference = IsotonicRegression().fit(predicted, labels)
    levels = np.unique(reference.predict(predicted))
    np.testing.assert_allclose(curve.y, levels, atol=1e-10)
    for level, center in zip(curve.y, curve.x, strict=True):
        block = predicted[np.isclose(reference.predict(predicted), level, atol=1e-12)]
        assert center == pytest.approx(block.mean(), abs=1e-10)


def test_curve_rises_and_keeps_the_order() -> None:
    predicted, labels = rows(300, 0)
    curve = Calibrator.fit(predicted, labels, 1, 5)
    line = curve(np.linspace(-4, 4, 500))
    assert (np.diff(line) >= 0).all()
    assert line.min() >= 1
    assert line.max() <= 5
    inside = np.linspace(curve.x[0], curve.x[-1], 200)
    assert (np.diff(curve(inside)) > 0).all()
    assert srcc(curve(predicted), labels) == pytest.approx(srcc(predicted, labels), abs=0.02)
    assert math.isnan(curve(np.array([math.nan]))[0])


def test_predictions_that_say_nothing() -> None:
    labels = np.arange(10.0)
    curve = Calibrator.fit(np.full(10, 2.0), labels, 0, 9)
    np.testing.assert_allclose(curve(np.array([1.0, 2.0, 3.0])), 4.5)
    falling = Calibrator.fit(np.arange(10.0), -labels, -9, 0)
    np.testing.assert_allclose(falling(np.arange(-5.0, 15.0)), -4.5)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_intervals_hold_their_share_of_new_labels(coverage: float) -> None:
    """Mean over draws, within two points; calibrated and measured on different rows."""
    held = []
    for seed in range(40):
        predicted, labels = rows(400, seed)
        folds = group_folds(np.arange(400), 5, seed)
        residuals = labels - cross_calibrated(predicted, labels, folds, -10, 10)
        radius = conformal_radius(residuals, coverage)
        curve = Calibrator.fit(predicted, labels, -10, 10)
        new, new_labels = rows(2000, 1000 + seed)
        held.append(np.mean(np.abs(new_labels - curve(new)) <= radius))
    assert np.mean(held) == pytest.approx(coverage, abs=0.02)


def test_too_few_rows_for_an_interval() -> None:
    assert conformal_radius(np.arange(9.0), 0.9) == 8.0
    assert conformal_radius(np.arange(8.0), 0.9) == math.inf
    assert conformal_radius(np.array([-3.0, 1.0, 2.0]), 0.5) == 2.0
