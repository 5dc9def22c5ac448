"""Whether scores mean what they say: on the labels' scale, and within their intervals.

Legend: N rows, B parts of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.tables.columns import FloatArray

_BINS = 10


@dataclass(frozen=True, slots=True)
class Coverage:
    """What intervals hold.

    Attributes:
        n: Rows with an interval and a label.
        share: Of the labels that lie within, ends included; NaN without rows.
        width: Mean width, on the labels' scale; NaN without rows.
    """

    n: int
    share: float
    width: float


def tenths(scores_N: FloatArray) -> list[NDArray[np.int64]]:
    """Rows by rising score, in ten parts of about equal size; equal scores stay together."""
    order = np.argsort(scores_N, kind="stable")
    rising = scores_N[order]
    cuts = np.arange(1, _BINS) * len(order) // _BINS
    cuts = np.unique(np.searchsorted(rising, rising[cuts])) if len(order) else cuts[:0]
    return np.split(order, cuts[cuts > 0])


def calibration_error(scores_N: FloatArray, labels_N: FloatArray) -> float:
    """Mean distance of mean score and mean label, over tenths of the scores.

    Args:
        scores_N: On the labels' scale.
        labels_N: Finite.
    """
    parts = tenths(scores_N)
    gaps = [abs(scores_N[part].mean() - labels_N[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(scores_N))


def other_scale(scores_N: FloatArray, labels_N: FloatArray) -> str | None:
    """Why scores cannot be on the labels' scale, or None where they may be.

    Args:
        scores_N: Finite, at least one.
        labels_N: Finite.
    """
    middle, low, high = np.median(scores_N), labels_N.min(), labels_N.max()
    if low <= middle <= high:
        return None
    return (
        f"the median score, {middle:g}, is outside the labels' range, {low:g} to {high:g}; a "
        "calibration error needs scores on the labels' scale"
    )


def coverage(lows_N: FloatArray, highs_N: FloatArray, labels_N: FloatArray) -> Coverage:
    """Share of labels within their intervals, and the intervals' mean width.

    Args:
        lows_N: Lower ends; NaN where there is no interval.
        highs_N: Upper ends; likewise.
        labels_N: On the same scale; NaN where there is no label.
    """
    inside_N, known_N = labels_inside(lows_N, highs_N, labels_N)
    n = int(known_N.sum())
    if n == 0:
        return Coverage(0, np.nan, np.nan)
    width = (highs_N - lows_N)[known_N].mean()
    return Coverage(n, float(inside_N[known_N].mean()), float(width))


def labels_inside(
    lows_N: FloatArray, highs_N: FloatArray, labels_N: FloatArray
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """[N] whether an interval holds its label, and whether there are both."""
    known_N = np.isfinite(lows_N) & np.isfinite(highs_N) & np.isfinite(labels_N)
    return known_N & (lows_N <= labels_N) & (labels_N <= highs_N), known_N
