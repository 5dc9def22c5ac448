"""The score of the NTIRE 2025 text-to-image quality challenge, track 1 (EvalMuse-40K).

Final = 0.25 SRCC + 0.25 PLCC + 0.5 ACC, where PLCC is taken after a 4-parameter logistic fit and
ACC is micro over all elements. There are two fits, see :data:`Variant`. A fit may fall as well as
rise, so scores that run against the labels keep a positive PLCC; SRCC shows their sign.

Source: the challenge's description and evaluation script, with EvalMuse (arXiv 2412.18150).

Legend: N samples, E elements of all samples together.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from tokenfocus_ray.evaluation.correlation import correlations, finite_pairs
from tokenfocus_ray.tables.columns import FloatArray

#: ``"official"`` is what the official script computes: its arguments are swapped at the call, so
#: the logistic maps label to prediction and PLCC is taken against the prediction. ``"corrected"``
#: maps prediction to label, which is what the challenge describes.
Variant = Literal["official", "corrected"]

#: Both a predicted and a mean annotated element score count as "present" from here on.
THRESHOLD = 0.5

# The official script allows 1e8 evaluations; a fit that needs more than these does not converge.
_MAX_EVALUATIONS = 10_000
_N_PARAMETERS = 4


@dataclass(frozen=True, slots=True)
class ElementAccuracy:
    """Share of elements on which prediction and annotators agree.

    Attributes:
        n: Elements used.
        n_dropped: Elements left out because a side is NaN.
        accuracy: In 0..1; NaN where no element is left.
        reason: Why the accuracy is NaN, or None.
    """

    n: int
    n_dropped: int
    accuracy: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ChallengeScore:
    """The challenge's score with its parts.

    Attributes:
        variant: Direction of the logistic fit.
        n: Samples used for SRCC and PLCC.
        n_elements: Elements used for the accuracy.
        srcc: Spearman's rank correlation.
        plcc: Pearson's correlation after the fit, or without it where ``fit`` is None.
        fit: The logistic's b1, b2, b3, b4; None where there is none.
        element_accuracy: Micro accuracy over all elements, in 0..1.
        final_score: 0.25 SRCC + 0.25 PLCC + 0.5 element accuracy.
        reason: Why the fit is missing or a number is NaN; None where all is well.
    """

    variant: Variant
    n: int
    n_elements: int
    srcc: float
    plcc: float
    fit: tuple[float, float, float, float] | None
    element_accuracy: float
    final_score: float
    reason: str | None = None


def logistic(x: ArrayLike, b1: float, b2: float, b3: float, b4: float) -> FloatArray:
    """f(x) = b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|)), safe for every finite argument.

    Args:
        x: [N] values.
        b1: Upper asymptote (for b1 > b2).
        b2: Lower asymptote.
        b3: Midpoint, in units of ``x``.
        b4: Width, in units of ``x``; only its magnitude counts.

    Returns:
        [N] values between b2 and b1.
    """
    width = max(abs(b4), np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):  # expit takes the infinity that a width near 0 gives
        return np.asarray(b2 + (b1 - b2) * special.expit((np.asarray(x) - b3) / width))


def fit_logistic(
    x: FloatArray, y: FloatArray
) -> tuple[tuple[float, float, float, float] | None, str | None]:
    """Least-squares fit of :func:`logistic`, from [max y, min y, mean x, std x].

    Args:
        x: [N] finite values that are not all equal.
        y: [N] finite values.

    Returns:
        The parameters and None, or None and the reason why there is no usable fit.
    """
    if len(x) < _N_PARAMETERS:
        return None, f"{len(x)} pairs; the logistic fit needs {_N_PARAMETERS}"
    start = [y.max(), y.min(), x.mean(), x.std()]
    try:
        with warnings.catch_warnings():
            # The covariance, which an exact fit leaves undefined, is not used.
            warnings.simplefilter("ignore", optimize.OptimizeWarning)
            found, _ = optimize.curve_fit(logistic, x, y, p0=start, maxfev=_MAX_EVALUATIONS)
    except RuntimeError:
        return (None, f"the logistic fit did not converge in {_MAX_EVALUATIONS} evaluations")
    b1, b2, b3, b4 = (float(value) for value in found)
    fitted = logistic(x, b1, b2, b3, b4)
    if not np.isfinite(fitted).all() or np.ptp(fitted) == 0:
        return None, "the logistic fit is constant or not finite"
    return (b1, b2, b3, b4), None


def element_accuracy(element_scores: ArrayLike, element_labels: ArrayLike) -> ElementAccuracy:
    """Micro accuracy over all elements, both sides thresholded at >= 0.5.

    Args:
        element_scores: [E] predictions in 0..1; NaN where unscored.
        element_labels: [E] mean of the annotators' 0 or 1; NaN where unlabelled.

    Returns:
        The accuracy; NaN with a reason where no element has both sides.

    Raises:
        ValueError: when the two are not one-dimensional and equally long.
    """
    predicted, labelled = finite_pairs(element_scores, element_labels)
    n, n_dropped = len(predicted), np.size(element_scores) - len(predicted)
    if n == 0:
        return ElementAccuracy(n, n_dropped, math.nan, "no element has both a score and a label")
    agree = (predicted >= THRESHOLD) == (labelled >= THRESHOLD)
    return ElementAccuracy(n, n_dropped, float(agree.mean()))


def challenge_score(
    scores: ArrayLike,
    labels: ArrayLike,
    element_scores: ArrayLike,
    element_labels: ArrayLike,
    variant: Variant,
) -> ChallengeScore:
    """The challenge's final score.

    Args:
        scores: [N] predicted total scores.
        labels: [N] mean annotated total scores, 1..5.
        element_scores: [E] predicted element scores of all samples, 0..1.
        element_labels: [E] mean annotated element scores, 0..1.
        variant: Direction of the logistic fit; see :data:`Variant`.

    Returns:
        The score. Without a usable fit, PLCC is the raw one and ``reason`` says so; where
        elements or correlations are missing the final score is NaN with a reason.

    Raises:
        ValueError: when scores and labels are not aligned.
    """
    raw = correlations(scores, labels)
    elements = element_accuracy(element_scores, element_labels)
    plcc, fit, fit_reason = raw.plcc, None, None
    if raw.reason is None:
        x, y = finite_pairs(scores, labels)
        if variant == "official":
            x, y = y, x
        fit, fit_reason = fit_logistic(x, y)
        if fit is not None:
            plcc = float(stats.pearsonr(logistic(x, *fit), y).statistic)
        else:
            fit_reason = f"{fit_reason}; PLCC is raw"
    reasons = [reason for reason in (raw.reason, fit_reason, elements.reason) if reason]
    return ChallengeScore(
        variant=variant,
        n=raw.n,
        n_elements=elements.n,
        srcc=raw.srcc,
        plcc=plcc,
        fit=fit,
        element_accuracy=elements.accuracy,
        final_score=0.25 * raw.srcc + 0.25 * plcc + 0.5 * elements.accuracy,
        reason="; ".join(reasons) or None,
    )
