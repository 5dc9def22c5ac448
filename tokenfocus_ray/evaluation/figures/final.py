"""The challenge's final score: 0.25 SRCC + 0.25 PLCC after a fit + 0.5 element accuracy.

Legend: R resamples.
"""

from __future__ import annotations

from collections.abc import Callable

from tokenfocus_ray.evaluation.challenge import ChallengeScore, logistic
from tokenfocus_ray.evaluation.figures.coefficients import plcc_samples, srcc_samples
from tokenfocus_ray.evaluation.figures.figure import Evidence, Figure
from tokenfocus_ray.evaluation.figures.fits import corrected, fit_reason, official
from tokenfocus_ray.evaluation.figures.present import accuracy_samples
from tokenfocus_ray.evaluation.resampling.intervals import Resamples
from tokenfocus_ray.evaluation.resampling.resampled import resampled_plcc
from tokenfocus_ray.tables.columns import FloatArray


def final_official(rows: Evidence) -> Figure:
    """As the challenge's script computes it."""
    return _figure(rows, rows.once(official), _official_samples)


def final_corrected(rows: Evidence) -> Figure:
    """With the fit from prediction to label."""
    return _figure(rows, rows.once(corrected), _corrected_samples)


def _figure(
    rows: Evidence,
    score: ChallengeScore,
    samples: Callable[[Evidence, Resamples], FloatArray | None],
) -> Figure:
    return Figure(
        f"final_{score.variant}", f"challenge score ({score.variant})", score.final_score,
        score.n_elements, "", interval=rows.interval(samples), reason=fit_reason(rows, score),
        optional=True,
    )  # fmt: skip


def _official_samples(rows: Evidence, resamples: Resamples) -> FloatArray | None:
    return _samples(rows, resamples, rows.once(official), rows.labels, rows.scores)


def _corrected_samples(rows: Evidence, resamples: Resamples) -> FloatArray | None:
    return _samples(rows, resamples, rows.once(corrected), rows.scores, rows.labels)


def _samples(
    rows: Evidence, resamples: Resamples, score: ChallengeScore, x: FloatArray, y: FloatArray
) -> FloatArray | None:
    """[R] of a fit from x to y."""
    srcc_R, plcc_R = rows.resampled(srcc_samples), rows.resampled(plcc_samples)
    accuracy_R = rows.resampled(accuracy_samples)
    if srcc_R is None or plcc_R is None or accuracy_R is None:
        return None
    if score.fit is not None:
        places_N = resamples.places(rows.groups)
        plcc_R = resampled_plcc(resamples.draws, places_N, logistic(x, *score.fit), y)
    return 0.25 * srcc_R + 0.25 * plcc_R + 0.5 * accuracy_R
