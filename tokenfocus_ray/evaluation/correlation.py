"""How well scores follow labels: SRCC, PLCC and KRCC in float64.

Legend: N pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from tokenfocus_ray.tables.columns import FloatArray

#: With two pairs every coefficient is 1 or -1, whatever the scores.
MIN_PAIRS = 3


@dataclass(frozen=True, slots=True)
class Correlations:
    """All three coefficients over the same pairs.

    Attributes:
        n: Pairs used.
        n_dropped: Pairs left out because a side is NaN or infinite.
        srcc: Spearman's rank correlation; ties share their mean rank.
        plcc: Pearson's linear correlation, without any fit.
        krcc: Kendall's tau-b.
        reason: Why the coefficients are NaN; None where they are numbers.
    """

    n: int
    n_dropped: int
    srcc: float
    plcc: float
    krcc: float
    reason: str | None = None


def finite_pairs(scores: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """The pairs of which both sides are finite, as float64.

    Args:
        scores: [N] predictions.
        labels: [N] labels.

    Returns:
        Scores and labels, [<= N] each, in their order.

    Raises:
        ValueError: when the two are not one-dimensional and equally long.
    """
    scores_N = np.asarray(scores, dtype=np.float64)
    labels_N = np.asarray(labels, dtype=np.float64)
    if scores_N.ndim != 1 or scores_N.shape != labels_N.shape:
        raise ValueError(
            "scores and labels must be one-dimensional and equally long, got shapes "
            f"{scores_N.shape} and {labels_N.shape}"
        )
    keep_N = np.isfinite(scores_N) & np.isfinite(labels_N)
    return scores_N[keep_N], labels_N[keep_N]


def correlations(scores: ArrayLike, labels: ArrayLike) -> Correlations:
    """SRCC, PLCC and KRCC of the pairs of which both sides are finite.

    Args:
        scores: [N] predictions on any scale.
        labels: [N] labels on any scale.

    Returns:
        The coefficients; NaN with a reason, never 0, where they are not defined.

    Raises:
        ValueError: when the two are not one-dimensional and equally long.

    Example:
        >>> correlations([1.0, 2.0, 4.0, float("nan")], [1, 3, 5, 2]).srcc
        1.0
    """
    x, y = finite_pairs(scores, labels)
    n, n_dropped = len(x), np.size(scores) - len(x)
    reason = undefined_reason(x, y)
    if reason is not None:
        return Correlations(n, n_dropped, math.nan, math.nan, math.nan, reason)
    return Correlations(
        n,
        n_dropped,
        srcc=float(stats.spearmanr(x, y).statistic),
        plcc=float(stats.pearsonr(x, y).statistic),
        krcc=float(stats.kendalltau(x, y, variant="b").statistic),
    )


def undefined_reason(scores: FloatArray, labels: FloatArray) -> str | None:
    """Why no correlation of these finite pairs exists, or None where one does."""
    if len(scores) < MIN_PAIRS:
        return f"{len(scores)} pairs of score and label; a correlation needs {MIN_PAIRS}"
    for name, values in (("scores", scores), ("labels", labels)):
        if (values == values[0]).all():
            return f"all {len(values)} {name} equal {values[0]:g}; a correlation needs spread"
    return None


def srcc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Spearman's rank correlation; see :func:`correlations`."""
    return correlations(scores, labels).srcc


def plcc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Pearson's linear correlation; see :func:`correlations`."""
    return correlations(scores, labels).plcc


def krcc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Kendall's tau-b; see :func:`correlations`."""
    return correlations(scores, labels).krcc
