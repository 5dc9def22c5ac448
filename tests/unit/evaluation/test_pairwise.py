from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tokenfocus_ray.evaluation import PairwiseAccuracy, pairwise, pairwise_accuracy

NAN = math.nan


def by_hand(
    scores: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> tuple[int, int, float, float, float]:
    """Both accuracies by going through all pairs, for each candidate epsilon anew."""
    pairs = [
        (scores[i] - scores[j], labels[i] - labels[j])
        for i, j in itertools.combinations(range(len(scores)), 2)
        if groups[i] == groups[j]
    ]
    untied = [(s, y) for s, y in pairs if y != 0]
    half = sum(0.5 if s == 0 else float(s * y > 0) for s, y in untied) / len(untied)

    def acc_eq(epsilon: float) -> float:
        right = [abs(s) <= epsilon if y == 0 else abs(s) > epsilon and s * y > 0 for s, y in pairs]
        return float(sum(right) / len(pairs))

    candidates = sorted({0.0, *(abs(s) for s, _ in pairs)})
    best = max(candidates, key=acc_eq)  # the first of several
    return len(pairs), len(pairs) - len(untied), half, acc_eq(best), best


@pytest.mark.parametrize("decimals", [0, 1, 6])
@pytest.mark.parametrize("seed", range(4))
def test_equals_going_through_all_pairs(seed: int, decimals: int) -> None:
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, 12, size=60)
    labels = generator.integers(3, 10, size=60) / 3
    scores = np.round(labels + generator.normal(size=60) * 0.7, decimals)
    n, n_tied, half, ties, epsilon = by_hand(scores, labels, groups)
    found = pairwise_accuracy(scores, labels, groups)
    assert (found.n, found.n_tied, found.reason) == (n, n_tied, None)
    assert found.accuracy == pytest.approx(half, abs=1e-10)
    assert found.accuracy_ties == pytest.approx(ties, abs=1e-10)
    assert found.epsilon == epsilon


def test_hand_made_case() -> None:
    # prompt a: labels 1 1 2, scores 1 2 4: pairs tied (distance 1), right (3), right (2)
    # prompt b: labels 3 1, scores 1 1: differs, scores tied; prompt c: one image, no pair
    scores, labels = [1.0, 2.0, 4.0, 1.0, 1.0, 9.0], [1, 1, 2, 3, 1, 5]
    found = pairwise_accuracy(scores, labels, list("aaabbc"))
    # of three pairs that differ, two are right and one is half right; with epsilon 1 the tied pair
    # counts too, and the one of prompt b is wrong whatever epsilon is
    assert found == PairwiseAccuracy(4, 1, 2.5 / 3, 3 / 4, 1.0)


def test_constant_scores_are_right_by_chance_only() -> None:
    found = pairwise_accuracy([3.0] * 4, [1, 2, 2, 3], ["a"] * 4)
    assert (found.accuracy, found.accuracy_ties, found.epsilon) == (0.5, 1 / 6, 0)


def test_rows_that_are_not_finite_are_left_out() -> None:
    clean = pairwise_accuracy([1.0, 2.0, 4.0], [1, 1, 2], list("aaa"))
    holed = pairwise_accuracy([1.0, 2.0, 4.0, NAN, 5.0], [1, 1, 2, 5, NAN], list("aaaaa"))
    assert holed == clean


@pytest.mark.filterwarnings("error")
def test_undefined_is_nan_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found = pairwise_accuracy([1.0, 2.0], [1, 2], ["a", "b"])
    assert found.reason == "no prompt has two images with score and label"
    assert all(math.isnan(v) for v in (found.accuracy, found.accuracy_ties, found.epsilon))
    found = pairwise_accuracy([1.0, 2.0], [2, 2], ["a", "a"])
    assert found.reason == "the labels of all 1 pairs of images of one prompt are equal"
    assert math.isnan(found.accuracy)
    assert (found.accuracy_ties, found.epsilon) == (1, 1)
    monkeypatch.setattr(pairwise, "MAX_PAIRS", 2)
    found = pairwise_accuracy([1.0, 2.0, 3.0], [1, 2, 3], ["a"] * 3)
    assert found.reason == "more than 2 pairs of images of one prompt; too many to compare"
    assert math.isnan(found.accuracy)
