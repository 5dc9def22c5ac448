"""Which of two images of one prompt is better: how often scores and labels say the same.

Source: Deutsch, Foster and Freitag, Ties Matter, EMNLP 2023 (arXiv 2305.14324), for ties and their
calibration. There, pairs are of translations of one sentence.

Legend: N rows, P pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tokenfocus_ray.tables.columns import FloatArray
from tokenfocus_ray.tables.prompts import group_numbers

#: Pairs are held in memory, all at once.
MAX_PAIRS = 5_000_000


@dataclass(frozen=True, slots=True)
class Pairs:
    """All pairs of images of one prompt.

    Attributes:
        groups_P: Number of the prompt.
        agreement_P: 1 where scores and labels order the two equally, -1 where contrarily, 0 where
            either is tied.
        tied_P: Whether the labels are equal.
        distances_P: Between the scores, 0 or more.
    """

    groups_P: NDArray[np.int64]
    agreement_P: FloatArray
    tied_P: NDArray[np.bool_]
    distances_P: FloatArray

    def halves(self) -> FloatArray:
        """[P] 1 where the order is right, 0.5 where the scores are tied; else 0."""
        return np.where(self.tied_P, 0.0, (1 + self.agreement_P) / 2)

    def right(self, epsilon: float) -> NDArray[np.bool_]:
        """[P] whether order or tie is right, scores that differ by at most epsilon being tied."""
        near = self.distances_P <= epsilon
        return np.where(self.tied_P, near, ~near & (self.agreement_P > 0))


@dataclass(frozen=True, slots=True)
class PairwiseAccuracy:
    """Share of pairs within prompts on which scores and labels agree.

    Attributes:
        n: Pairs.
        n_tied: Pairs whose labels are equal.
        accuracy: Over the pairs whose labels differ: 1 for each in the labels' order, 1/2 for each
            whose scores are equal.
        accuracy_ties: acc_eq after tie calibration, over all pairs: see :func:`calibrate_ties`.
        epsilon: The largest difference of scores that counts as a tie there.
        reason: Why numbers are NaN; None where all are there.
    """

    n: int
    n_tied: int
    accuracy: float
    accuracy_ties: float
    epsilon: float
    reason: str | None = None


def pairs_within(
    scores_N: FloatArray, labels_N: FloatArray, groups_N: NDArray[np.int64]
) -> Pairs | None:
    """Pairs of rows of one group; None where they are more than :data:`MAX_PAIRS`.

    Args:
        scores_N: Finite.
        labels_N: Finite.
        groups_N: Numbers of the prompts.
    """
    order = np.argsort(groups_N, kind="stable")
    numbers, starts, sizes = np.unique(groups_N[order], return_index=True, return_counts=True)
    if (sizes * (sizes - 1) // 2).sum() > MAX_PAIRS:
        return None
    groups, rows = [np.empty(0, np.int64)], [np.empty((2, 0), np.int64)]
    for size in np.unique(sizes[sizes > 1]):
        first, second = np.triu_indices(size, 1)
        these = np.flatnonzero(sizes == size)
        groups.append(np.repeat(numbers[these], len(first)))
        rows.append(np.stack([(starts[these, None] + k).ravel() for k in (first, second)]))
    i, j = order[np.concatenate(rows, axis=1)]
    by_score, by_label = scores_N[i] - scores_N[j], labels_N[i] - labels_N[j]
    agreement = np.sign(by_score) * np.sign(by_label)
    return Pairs(np.concatenate(groups), agreement, by_label == 0, np.abs(by_score))


def calibrate_ties(pairs: Pairs) -> tuple[float, float]:
    """The best acc_eq, and its epsilon.

    acc_eq(eps) = (C + T) / P, over all P pairs: C counts those whose labels differ, in the order of
    their scores, which are more than eps apart; T those whose labels are equal and whose scores are
    at most eps apart. In the paper's terms (C + T_hm) / (C + D + T_h + T_m + T_hm), pooled over all
    prompts. The epsilon that maximises it is 0 or one of the distances; of several, the least.

    Args:
        pairs: At least one.
    """
    order = np.argsort(pairs.distances_P)
    distances = pairs.distances_P[order]
    concordant = (pairs.agreement_P > 0) & ~pairs.tied_P
    # what becomes a tie is gained where the labels are tied, and lost where the order was right
    gains = np.cumsum(pairs.tied_P[order].astype(np.int64) - concordant[order])
    last = np.append(distances[1:] != distances[:-1], True)  # of equal distances
    candidates = np.append(0.0, distances[last])
    at_zero = gains[last][0] if distances[0] == 0 else 0
    right = concordant.sum() + np.append(at_zero, gains[last])
    best = int(np.argmax(right))
    return float(right[best] / len(distances)), float(candidates[best])


def pairwise_accuracy(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike) -> PairwiseAccuracy:
    """Both accuracies over the pairs of rows of one group; not finite rows are left out.

    Args:
        scores: [N] on any scale; higher is better.
        labels: [N] on any scale.
        groups: [N] the prompts: numbers or texts.

    Example:
        >>> pairwise_accuracy([1.0, 2.0, 2.0], [1, 2, 3], ["a", "a", "a"]).accuracy
        0.8333333333333334
    """
    scores_N, labels_N = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    keep = np.isfinite(scores_N) & np.isfinite(labels_N)
    return accuracy_of(
        pairs_within(scores_N[keep], labels_N[keep], group_numbers(np.asarray(groups)[keep]))
    )


def accuracy_of(pairs: Pairs | None) -> PairwiseAccuracy:
    """Both accuracies of pairs that :func:`pairs_within` made."""
    if pairs is None:
        reason = f"more than {MAX_PAIRS:,} pairs of images of one prompt; too many to compare"
        return PairwiseAccuracy(0, 0, math.nan, math.nan, math.nan, reason)
    n, n_tied = len(pairs.tied_P), int(pairs.tied_P.sum())
    if n == 0:
        reason = "no prompt has two images with score and label"
        return PairwiseAccuracy(0, 0, math.nan, math.nan, math.nan, reason)
    accuracy_ties, epsilon = calibrate_ties(pairs)
    if n_tied == n:
        reason = f"the labels of all {n} pairs of images of one prompt are equal"
        return PairwiseAccuracy(n, n_tied, math.nan, accuracy_ties, epsilon, reason)
    accuracy = float(pairs.halves().sum() / (n - n_tied))
    return PairwiseAccuracy(n, n_tied, accuracy, accuracy_ties, epsilon)
