"""Correlations of scores and labels over all rows.

Legend: R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tokenfocus_ray.evaluation.correlation import Correlations, correlations
from tokenfocus_ray.evaluation.figures.figure import Evidence, Figure
from tokenfocus_ray.evaluation.figures.fits import fit_reason, official
from tokenfocus_ray.evaluation.resampling.bootstrap import Draws
from tokenfocus_ray.evaluation.resampling.intervals import Resamples
from tokenfocus_ray.evaluation.resampling.resampled import (
    IntArray,
    resampled_krcc,
    resampled_plcc,
    resampled_srcc,
)
from tokenfocus_ray.tables.columns import FloatArray


def srcc(rows: Evidence) -> Figure:
    """Spearman's rank correlation."""
    return _figure(rows, "SRCC", "srcc", srcc_samples)


def plcc(rows: Evidence) -> Figure:
    """Pearson's correlation without a fit."""
    return _figure(rows, "PLCC (no fit)", "plcc", plcc_samples)


def krcc(rows: Evidence) -> Figure:
    """Kendall's tau-b."""
    return _figure(rows, "KRCC (tau-b)", "krcc", _krcc_samples)


def coefficients(rows: Evidence) -> Correlations:
    """All three."""
    return correlations(rows.scores, rows.labels)


def srcc_samples(rows: Evidence, resamples: Resamples) -> FloatArray | None:
    """[R] SRCC; None where it is not defined."""
    return _samples(rows, resamples, resampled_srcc)


def plcc_samples(rows: Evidence, resamples: Resamples) -> FloatArray | None:
    """[R] PLCC likewise."""
    return _samples(rows, resamples, resampled_plcc)


def _krcc_samples(rows: Evidence, resamples: Resamples) -> FloatArray | None:
    return _samples(rows, resamples, resampled_krcc)


def _samples(
    rows: Evidence,
    resamples: Resamples,
    resampled: Callable[[Draws, IntArray, FloatArray, FloatArray], FloatArray],
) -> FloatArray | None:
    if rows.once(coefficients).reason is not None:
        return None
    return resampled(resamples.draws, resamples.places(rows.groups), rows.scores, rows.labels)


def _figure(
    rows: Evidence,
    title: str,
    name: str,
    samples: Callable[[Evidence, Resamples], FloatArray | None],
) -> Figure:
    found = rows.once(coefficients)
    value: float = getattr(found, name)
    # the challenge's score lacks what they lack, and says so in the same line
    reason = fit_reason(rows, rows.once(official)) if math.isnan(value) else None
    return Figure(name, title, value, found.n, interval=rows.interval(samples), reason=reason)
