"""From a stacker's prediction to the human scale, with an interval for each score.

Legend: N rows, B blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from tokenfocus_ray.tables.columns import FloatArray


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A rising curve through the centres of isotonic regression's blocks.

    Plain isotonic regression is a staircase, which ties scores that differ. Between the centres of
    its steps this one is a line (centred isotonic regression, Oron and Flournoy 2017); beyond the
    outermost it goes on as a line of the overall slope, within the labels' range.

    Attributes:
        x: [B] predictions.
        y: [B] labels, rising.
        slope: Of both ends.
        low: Lowest score that is given.
        high: Highest.
    """

    x: FloatArray
    y: FloatArray
    slope: float
    low: float
    high: float

    @classmethod
    def fit(cls, predicted_N: FloatArray, labels_N: FloatArray, low: float, high: float) -> Self:
        """Fits the curve.

        Args:
            predicted_N: Out-of-fold predictions.
            labels_N: Their labels.
            low: Of the labels' range.
            high: Likewise.
        """
        order = np.argsort(predicted_N, kind="stable")
        x, first = np.unique(predicted_N[order], return_index=True)
        counts = np.diff([*first, len(order)])
        means = np.add.reduceat(labels_N[order], first) / counts
        found = optimize.isotonic_regression(means, weights=counts.astype(float))
        starts = found.blocks[:-1]
        sizes = np.add.reduceat(counts, starts)
        centers = np.add.reduceat(x * counts, starts) / sizes
        levels = found.x[starts]
        spread = float(np.var(predicted_N))
        slope = 0.0
        if spread > 0:
            joint = np.mean((predicted_N - predicted_N.mean()) * (labels_N - labels_N.mean()))
            slope = max(0.0, float(joint) / spread)
        return cls(centers, levels, slope, low, high)

    def __call__(self, predicted_N: FloatArray) -> FloatArray:
        """[N] scores on the labels' scale."""
        inside = np.interp(predicted_N, self.x, self.y)
        beyond = np.minimum(predicted_N - self.x[0], 0) + np.maximum(predicted_N - self.x[-1], 0)
        scores: FloatArray = np.clip(inside + self.slope * beyond, self.low, self.high)
        return scores


def conformal_radius(residuals_N: FloatArray, coverage: float) -> float:
    """Half the width of a split-conformal interval.

    The ceil((N + 1) coverage)-th smallest absolute residual: of exchangeable rows, a new one lies
    within with at least this probability (Lei et al. 2018). Infinite where N is too small.

    Args:
        residuals_N: Label minus calibrated prediction, of rows that neither was fitted on.
        coverage: In 0..1.
    """
    rank = math.ceil((len(residuals_N) + 1) * coverage)
    if rank > len(residuals_N):
        return math.inf
    return float(np.partition(np.abs(residuals_N), rank - 1)[rank - 1])


def cross_calibrated(
    predicted_N: FloatArray,
    labels_N: FloatArray,
    folds_N: NDArray[np.int64],
    low: float,
    high: float,
) -> FloatArray:
    """[N] calibrated predictions, each by a curve that saw none of its fold."""
    found = np.full(len(labels_N), np.nan)
    for fold in np.unique(folds_N):
        out = folds_N == fold
        curve = Calibrator.fit(predicted_N[~out], labels_N[~out], low, high)
        found[out] = curve(predicted_N[out])
    return found
