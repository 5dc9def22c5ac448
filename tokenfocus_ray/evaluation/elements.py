"""How well scores of elements tell which elements are present.

Legend: E elements of all samples together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tokenfocus_ray.evaluation.challenge import THRESHOLD, element_accuracy
from tokenfocus_ray.evaluation.correlation import finite_pairs
from tokenfocus_ray.tables.columns import FloatArray


@dataclass(frozen=True, slots=True)
class ElementFigures:
    """How well elements are told apart; labelled present is a mean annotation of at least 0.5.

    Attributes:
        n: Elements with score and label.
        n_dropped: Elements left out because a side is NaN.
        accuracy: Share on which both sides agree, each thresholded at >= 0.5.
        auc: Area under the ROC curve: the probability that an element labelled present scores
            higher than one labelled absent, a tie counting half.
        f1: 2 TP / (2 TP + FP + FN) of "present", predicted by a score >= 0.5.
        n_own: Elements with a label and a decision of the table's own.
        accuracy_own: Share on which that decision agrees with the label; NaN without any.
        reason: Why accuracy, AUC or F1 are NaN; None where all are there.
        accuracy_low: Lower end of the accuracy's 95 % interval; NaN unless asked for.
        accuracy_high: Upper end.
    """

    n: int
    n_dropped: int
    accuracy: float
    auc: float
    f1: float
    n_own: int
    accuracy_own: float
    reason: str | None = None
    accuracy_low: float = math.nan
    accuracy_high: float = math.nan


def element_figures(
    element_scores: ArrayLike, element_labels: ArrayLike, element_present: ArrayLike
) -> ElementFigures:
    """Accuracy, AUC and F1 over the elements that have both a score and a label.

    Args:
        element_scores: [E] in 0..1; NaN where unscored.
        element_labels: [E] mean of the annotators' 0 or 1; NaN where unlabelled.
        element_present: [E] decisions of the table's own, 0 or 1; NaN where there are none.

    Raises:
        ValueError: when they are not one-dimensional and equally long.
    """
    scores_E, labels_E = finite_pairs(element_scores, element_labels)
    found = element_accuracy(element_scores, element_labels)
    present_E, predicted_E = labels_E >= THRESHOLD, scores_E >= THRESHOLD
    auc = f1 = math.nan
    reason = found.reason
    if reason is None and present_E.all() == present_E.any():
        reason = (
            f"all {found.n} elements are labelled {'present' if present_E.all() else 'absent'}; "
            "AUC and F1 need both"
        )
    elif reason is None:
        auc = _auc(scores_E[present_E], scores_E[~present_E])
        f1 = float(2 * (present_E & predicted_E).sum() / (present_E.sum() + predicted_E.sum()))
    own, own_labels = finite_pairs(element_present, element_labels)
    accuracy_own = float(agree(own, own_labels).mean()) if len(own) else math.nan
    return ElementFigures(
        found.n, found.n_dropped, found.accuracy, auc, f1, len(own), accuracy_own, reason
    )


def agree(predicted_E: FloatArray, labels_E: FloatArray) -> FloatArray:
    """[E] 1 where both sides say present, or both absent; else 0."""
    found: NDArray[np.bool_] = (predicted_E >= THRESHOLD) == (labels_E >= THRESHOLD)
    return found.astype(np.float64)


def _auc(present: FloatArray, absent: FloatArray) -> float:
    """By Mann and Whitney's U."""
    ranks = stats.rankdata(np.concatenate([present, absent]))[: len(present)]
    u = ranks.sum() - len(present) * (len(present) + 1) / 2
    return float(u / (len(present) * len(absent)))
