from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tokenfocus_ray.exports.confidence import Certainty, paired_variance, sigma_of
from tokenfocus_ray.tables.columns import FloatArray


def check_calibrated(stated_P: FloatArray, right_P: FloatArray, tolerance: float) -> None:
    """Of pairs with a stated probability, as many have the order."""
    for low in np.arange(0.5, 1.0, 0.1):
        own = (stated_P >= low) & (stated_P < low + 0.1)
        assert own.sum() > 500
        assert abs(stated_P[own].mean() - right_P[own].mean()) < tolerance


def test_shared_bias_of_a_member_cancels() -> None:
    first, second = np.array([[3.0, 4.0, 3.5]]), np.array([[2.0, 2.0, 3.0]])
    bias = np.array([[10.0, -5.0, 0.0]])
    plain = paired_variance(first, second)
    assert plain == pytest.approx(np.var([1, 2, 0.5], ddof=1) / 3, rel=1e-12)
    np.testing.assert_allclose(paired_variance(first + bias, second + bias), plain, rtol=1e-12)
    assert paired_variance(first[:, :1], second[:, :1]).tolist() == [0.0]


def test_against_scipy() -> None:
    assert sigma_of(1.0, 0.9) == pytest.approx(1 / stats.norm.ppf(0.95), rel=1e-12)
    calibrated = Certainty.calibrated(4, 0.5, 2.0, 0.01)
    z = calibrated.deviations(np.array([0.8]), np.array([0.03]))
    assert z == pytest.approx(0.8 / math.sqrt(0.5 - 0.04 + 0.12), rel=1e-12)
    assert calibrated.probability(z) == pytest.approx(stats.norm.cdf(z), rel=1e-12)
    bare = Certainty(4)
    z = bare.deviations(np.array([0.8]), np.array([0.03]))
    assert bare.probability(z) == pytest.approx(stats.t.cdf(0.8 / math.sqrt(0.03), 3), rel=1e-12)


def test_unknown_of_a_single_member() -> None:
    alone = Certainty(1)
    assert not alone.is_known
    z = alone.deviations(np.array([0.8]), np.array([0.0]))
    assert np.isnan(z).all()
    assert np.isnan(alone.probability(z)).all()


def test_members_that_agree_to_the_last_digit() -> None:
    z = Certainty(3).deviations(np.array([0.5, 0.0]), np.zeros(2))
    assert Certainty(3).probability(z).tolist() == [1.0, 0.5]


def test_members_never_explain_more_than_there_is() -> None:
    assert Certainty.calibrated(2, 0.1, 1.0, 5.0).residual == 0.0


def test_stated_is_empirical_with_intervals() -> None:
    """Members with biases of their own and images on which they differ more or less."""
    rng = np.random.default_rng(1)
    n, members = 60_000, 4
    truth = rng.normal(3, 0.6, (2, n))
    apart = rng.choice([0.1, 0.9], n)  # of a pair: how far members differ on it
    noise = rng.normal(0, 1, (2, n, members)) * apart[None, :, None]
    x = truth[:, :, None] + rng.normal(0, 1, members) + noise
    label = truth + rng.normal(0, 0.3, (2, n))
    # the ensemble: the regression of labels on the members' mean, and its intervals
    mean = x.mean(axis=2)
    slope, bias = np.polyfit(mean.ravel(), label.ravel(), 1)
    score = slope * mean + bias
    radius = float(np.quantile(np.abs(label - score), 0.9))
    order = np.where(score[0] > score[1], 0, 1)
    pick = np.arange(n)
    first, second = x[order, pick], x[1 - order, pick]
    margin = score[order, pick] - score[1 - order, pick]
    variance = paired_variance(first, second)
    sure = Certainty.calibrated(members, sigma_of(radius, 0.9), slope, float(variance.mean()))
    stated = sure.probability(sure.deviations(margin, variance))
    right = (label[order, pick] > label[1 - order, pick]).astype(float)
    check_calibrated(stated, right, 0.04)
    # pairs on which members differ are less sure at an equal margin
    near = (margin > 0.2) & (margin < 0.4)
    assert stated[near & (apart < 0.5)].mean() > stated[near & (apart > 0.5)].mean() + 0.05


def test_stated_is_empirical_of_members_alone() -> None:
    """The order of the mean of ever more members, of which nothing is known beforehand."""
    rng = np.random.default_rng(2)
    n, members = 400_000, 3
    truth = rng.uniform(-500, 500, n)
    spread = np.exp(rng.uniform(-2, 9, n))
    bias = rng.normal(0, 50, members)
    second = rng.normal(0, 1, (n, members)) + bias
    first = second + truth[:, None] + rng.normal(0, 1, (n, members)) * spread[:, None]
    margin = (first - second).mean(axis=1)
    first, second = np.where(margin[:, None] > 0, (first, second), (second, first))
    certainty = Certainty(members)
    variance = paired_variance(first, second)
    stated = certainty.probability(certainty.deviations(np.abs(margin), variance))
    right = (np.sign(truth) == np.sign(margin)).astype(float)
    seen = (variance > 10**2) & (variance < 100**2)  # far from the ends of what was drawn
    check_calibrated(stated[seen], right[seen], 0.02)
