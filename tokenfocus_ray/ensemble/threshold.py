"""From which score on an element counts as present.

Legend: E elements.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.evaluation.challenge import THRESHOLD
from tokenfocus_ray.tables.columns import FloatArray


def best_threshold(scores_E: FloatArray, labels_E: FloatArray) -> tuple[float, float]:
    """The threshold that agrees most often with the annotators, and how often.

    Half-way between the two scores that it parts; of several that are as good, the one nearest to
    their middle.

    Args:
        scores_E: Finite.
        labels_E: Mean ratings in 0..1; present from 0.5 on, as in the challenge.
    """
    order = np.argsort(scores_E, kind="stable")
    scores, present = scores_E[order], labels_E[order] >= THRESHOLD
    # cutting before place i: everything from i on is called present
    right = np.concatenate([[0], np.cumsum(~present)]) + np.concatenate(
        [np.cumsum(present[::-1])[::-1], [0]]
    )
    cuts = np.concatenate([[True], np.diff(scores) > 0, [True]])
    places = np.flatnonzero(cuts & (right == right[cuts].max()))
    place = int(places[np.abs(places - places.mean()).argmin()])
    if place == 0:
        threshold = float(scores[0])
    elif place == len(scores):
        threshold = float(np.nextafter(scores[-1], np.inf))
    else:
        threshold = float(scores[place - 1] + scores[place]) / 2
    return threshold, float(right[place] / len(scores))


def cross_decided(
    scores_E: FloatArray, labels_E: FloatArray, folds_E: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """[E] decisions, each by a threshold that saw none of its fold."""
    found = np.zeros(len(scores_E), bool)
    for fold in np.unique(folds_E):
        out = folds_E == fold
        threshold, _ = best_threshold(scores_E[~out], labels_E[~out])
        found[out] = scores_E[out] >= threshold
    return found
