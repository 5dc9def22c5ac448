"""Whether scores mean what they say: on the labels' scale, and within their intervals.

Legend: N rows.
"""

from __future__ import annotations

import numpy as np

from tokenfocus_ray.evaluation.correlation import FloatArray

_BINS = 10


def calibration_error(scores_N: FloatArray, labels_N: FloatArray) -> float:
    """Mean distance of mean score and mean label, over tenths of the scores.

    Args:
        scores_N: On the labels' scale.
        labels_N: Finite.
    """
    order = np.argsort(scores_N, kind="stable")
    parts = np.array_split(order, min(_BINS, len(order)))
    gaps = [abs(scores_N[part].mean() - labels_N[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(order))
