"""Correlations on resamples of groups, from how often each row counts; nothing is sorted anew.

Each equals the figure of the resample's rows written out, up to rounding.

Legend: N rows, G groups, R resamples, B blocks of equal values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.evaluation.resampling.bootstrap import Draws
from tokenfocus_ray.tables.columns import FloatArray

# Relative variance below which a column is constant but for rounding.
_NO_SPREAD = 1e-12

IntArray = NDArray[np.int64]


def _blocks(values_N: FloatArray) -> IntArray:
    """[N] rank of each row's value among the different values."""
    return np.unique(values_N, return_inverse=True)[1].astype(np.int64)


def resampled_plcc(
    draws: Draws, groups_N: IntArray, scores_N: FloatArray, labels_N: FloatArray
) -> FloatArray:
    """[R] Pearson's correlation.

    Args:
        draws: The resamples.
        groups_N: From 0.
        scores_N: Finite.
        labels_N: Finite.
    """
    x, y = scores_N - scores_N.mean(), labels_N - labels_N.mean()  # against cancellation
    columns_NK = np.column_stack([np.ones_like(x), x, y, x * x, y * y, x * y])
    n, sx, sy, sxx, syy, sxy = draws.sums(groups_N, columns_NK).T
    with np.errstate(invalid="ignore", divide="ignore"):
        x_spread, y_spread = sxx - sx * sx / n, syy - sy * sy / n
        found = (sxy - sx * sy / n) / np.sqrt(x_spread * y_spread)
    spread = (x_spread > _NO_SPREAD * sxx) & (y_spread > _NO_SPREAD * syy)
    return np.where(spread, found, np.nan)


def resampled_srcc(
    draws: Draws, groups_N: IntArray, scores_N: FloatArray, labels_N: FloatArray
) -> FloatArray:
    """[R] Spearman's rank correlation; ties share their mean rank. See :func:`resampled_plcc`."""
    x, y = _blocks(scores_N), _blocks(labels_N)
    found_R = np.full(len(draws.counts_RG), np.nan)
    for r, weights_N in enumerate(draws.weights(groups_N)):
        x_rank, x_spread = _ranks(x, weights_N)
        y_rank, y_spread = _ranks(y, weights_N)
        if x_spread > 0 and y_spread > 0:
            together = float((weights_N * x_rank[x]) @ y_rank[y])
            found_R[r] = together / np.sqrt(x_spread * y_spread)
    return found_R


def _ranks(blocks_N: IntArray, weights_N: FloatArray) -> tuple[FloatArray, float]:
    """[B] mean ranks less their mean over the rows, and the sum of their squares over the rows."""
    weights_B = np.bincount(blocks_N, weights_N)
    ends_B = np.cumsum(weights_B)
    ranks_B = ends_B - (weights_B + ends_B[-1]) / 2
    return ranks_B, float(weights_B @ (ranks_B * ranks_B))


def resampled_krcc(
    draws: Draws, groups_N: IntArray, scores_N: FloatArray, labels_N: FloatArray
) -> FloatArray:
    """[R] Kendall's tau-b. See :func:`resampled_plcc`.

    Two values differ at a highest bit of their blocks' numbers. So pairs that agree are counted bit
    by bit, each by one running sum, in orders that are the same for all resamples.
    """
    x, y = _blocks(scores_N), _blocks(labels_N)
    if x.max() < y.max():  # fewer blocks, fewer bits; the coefficient is symmetric
        x, y = y, x
    both = np.unique(x * (y.max() + 1) + y, return_inverse=True)[1]
    steps = [_step(x, y, bit) for bit in range(int(y.max()).bit_length())]
    found_R = np.full(len(draws.counts_RG), np.nan)
    for r, weights_N in enumerate(draws.weights(groups_N)):
        agree = 0.0
        for lower, upper, before, start in steps:
            below = np.concatenate([[0.0], np.cumsum(weights_N[lower])])
            agree += float(weights_N[upper] @ (below[before] - below[start]))
        # twice the number of pairs, those of a row with itself among them: they cancel out
        square = weights_N.sum() ** 2
        x_tied, y_tied, tied = (_squares(blocks, weights_N) for blocks in (x, y, both))
        x_untied, y_untied = square - x_tied, square - y_tied
        if x_untied > 0 and y_untied > 0:
            untied = square - x_tied - y_tied + tied
            found_R[r] = (4 * agree - untied) / np.sqrt(x_untied * y_untied)
    return found_R


def _step(x: IntArray, y: IntArray, bit: int) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """For pairs whose y agree above a bit and differ in it.

    Returns:
        Rows with 0 there, those with 1, and for each of the latter the part of the former that has
        its y above the bit and a lower x: up to where it reaches, and from where.
    """
    above = y >> (bit + 1)
    order = np.lexsort((x, above))
    has = (y[order] >> bit & 1).astype(bool)
    lower, upper = order[~has], order[has]
    key = above * (x.max() + 1) + x
    before = np.searchsorted(key[lower], key[upper])
    start = np.searchsorted(above[lower], above[upper])
    return lower, upper, before, start


def _squares(blocks_N: IntArray, weights_N: FloatArray) -> float:
    weights_B = np.bincount(blocks_N, weights_N)
    return float(weights_B @ weights_B)


def resampled_auc(
    draws: Draws, groups_N: IntArray, scores_N: FloatArray, present_N: NDArray[np.bool_]
) -> FloatArray:
    """[R] area under the ROC curve of scores for what is present; ties count half.

    Args:
        draws: The resamples.
        groups_N: From 0.
        scores_N: Finite.
        present_N: The class.
    """
    blocks = _blocks(scores_N)
    size = int(blocks.max(initial=0)) + 1
    found_R = np.full(len(draws.counts_RG), np.nan)
    for r, weights_N in enumerate(draws.weights(groups_N)):
        present_B = np.bincount(blocks, weights_N * present_N, size)
        absent_B = np.bincount(blocks, weights_N, size) - present_B
        pairs = present_B.sum() * absent_B.sum()
        if pairs > 0:
            below_B = np.cumsum(absent_B) - absent_B / 2
            found_R[r] = float(present_B @ below_B) / pairs
    return found_R
