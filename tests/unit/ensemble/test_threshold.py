"""Thresholds against a search over all of them."""

from __future__ import annotations

import numpy as np
import pytest

from tokenfocus_ray.ensemble.threshold import best_threshold, cross_decided


@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_is_better(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = int(generator.integers(1, 40))
    scores = np.round(generator.random(n), 1)  # with ties
    labels = generator.integers(0, 4, n) / 3
    threshold, accuracy = best_threshold(scores, labels)
    present = labels >= 0.5
    assert accuracy == pytest.approx(((scores >= threshold) == present).mean())
    tried = [((scores >= t) == present).mean() for t in np.arange(-0.05, 1.1, 0.05)]
    assert accuracy == pytest.approx(max(tried))


def test_half_way_between_what_it_parts() -> None:
    assert best_threshold(np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 0, 1, 1])) == (0.4, 1.0)
    assert best_threshold(np.array([0.3, 0.4]), np.ones(2)) == (0.3, 1.0)
    threshold, accuracy = best_threshold(np.array([0.3, 0.4]), np.zeros(2))
    assert threshold > 0.4
    assert accuracy == 1.0


def test_decisions_saw_nothing_of_their_fold() -> None:
    """A fold that is turned round cannot make its own threshold fit."""
    scores = np.concatenate([np.linspace(0, 1, 50), np.linspace(0, 1, 50)])
    labels = np.concatenate([scores[:50] >= 0.7, scores[50:] >= 0.2]).astype(float)
    folds = np.repeat([0, 1], 50)
    decided = cross_decided(scores, labels, folds)
    np.testing.assert_array_equal(decided[:50], scores[:50] >= 0.2)
    np.testing.assert_array_equal(decided[50:], scores[50:] >= 0.7)
