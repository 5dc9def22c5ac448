from __future__ import annotations

import math

import numpy as np
import pytest

from tokenfocus_ray.evaluation.reliability import (
    Coverage,
    calibration_error,
    coverage,
    other_scale,
    tenths,
)

NAN = math.nan


def test_tenths_are_equal_parts_of_rising_scores() -> None:
    scores = np.random.default_rng(0).permutation(100) / 100
    parts = tenths(scores)
    assert [len(part) for part in parts] == [10] * 10
    np.testing.assert_array_equal(np.sort(scores), scores[np.concatenate(parts)])


def test_equal_scores_stay_together() -> None:
    scores = np.array([1.0] * 7 + [0.0, 2.0, 3.0, 3.0])
    shares = [sorted(scores[part].tolist()) for part in tenths(scores)]
    assert shares == [[0.0], [1.0] * 7, [2.0], [3.0, 3.0]]
    assert [part.tolist() for part in tenths(np.array([5.0, 5.0]))] == [[0, 1]]


def test_calibration_error_by_hand() -> None:
    assert calibration_error(np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0])) == 0.5
    # one part of three equal scores, whose labels are 3 on average, and one of one
    found = calibration_error(np.array([2.0, 2.0, 2.0, 5.0]), np.array([1.0, 3.0, 5.0, 4.5]))
    assert found == (3 * 1 + 0.5) / 4
    scores = np.random.default_rng(0).uniform(1, 5, size=1000)
    assert calibration_error(scores, scores - 0.25) == pytest.approx(0.25, abs=1e-10)


def test_other_scales_are_told() -> None:
    labels = np.array([1.0, 5.0])
    assert other_scale(np.array([0.5, 3.0, 4.0]), labels) is None
    assert other_scale(np.array([0.1, 0.2, 4.0]), labels) == (
        "the median score, 0.2, is outside the labels' range, 1 to 5; a calibration error needs "
        "scores on the labels' scale"
    )


@pytest.mark.filterwarnings("error")
def test_coverage_by_hand() -> None:
    lows = np.array([1.0, 2.0, 3.0, NAN, 1.0])
    highs = np.array([2.0, 2.5, 4.0, 4.0, 5.0])
    labels = np.array([2.0, 1.9, 3.5, 3.0, NAN])  # on an end, below, within, no interval, no label
    assert coverage(lows, highs, labels) == Coverage(3, 2 / 3, (1 + 0.5 + 1) / 3)
    none = coverage(lows[3:4], highs[3:4], labels[3:4])
    assert none.n == 0
    assert np.isnan([none.share, none.width]).all()
