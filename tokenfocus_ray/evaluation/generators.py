"""Figures of each image generator: how its images are scored, and how well.

Legend: N rows.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.evaluation.correlation import correlations
from tokenfocus_ray.evaluation.join import Joined
from tokenfocus_ray.evaluation.resampling.bootstrap import interval
from tokenfocus_ray.evaluation.resampling.intervals import Resamples
from tokenfocus_ray.evaluation.resampling.resampled import resampled_srcc


@dataclass(frozen=True, slots=True)
class GeneratorFigures:
    """Of the images of one generator; ends of 95 % intervals are NaN where none were asked for.

    Attributes:
        n: Rows with score and label.
        n_dropped: Scored rows without a usable label.
        srcc: Spearman's rank correlation.
        plcc: Pearson's correlation without a fit.
        krcc: Kendall's tau-b.
        mean_score: Over the n rows.
        mean_label: Over the same rows.
        reason: Why coefficients are NaN; None where they are numbers.
        srcc_low: Lower end of its interval.
        srcc_high: Upper end.
        mean_score_low: Likewise.
        mean_score_high: Likewise.
        mean_label_low: Likewise.
        mean_label_high: Likewise.
    """

    n: int
    n_dropped: int
    srcc: float
    plcc: float
    krcc: float
    mean_score: float
    mean_label: float
    reason: str | None = None
    srcc_low: float = math.nan
    srcc_high: float = math.nan
    mean_score_low: float = math.nan
    mean_score_high: float = math.nan
    mean_label_low: float = math.nan
    mean_label_high: float = math.nan


def generator_figures(joined: Joined, resamples: Resamples | None) -> dict[str, GeneratorFigures]:
    """Figures by generator, in alphabetical order; with intervals where there are resamples."""
    makers_N = np.array([maker or "" for maker in joined.generators], dtype=np.str_)
    found = {}
    for name in sorted({maker for maker in joined.generators if maker}):
        rows_N = makers_N == name
        scores, labels = joined.scores[rows_N], joined.labels[rows_N]
        whole = correlations(scores, labels)
        known_N = rows_N & np.isfinite(joined.labels)
        means = (math.nan, math.nan)
        if whole.n:
            means = float(joined.scores[known_N].mean()), float(joined.labels[known_N].mean())
        figures = GeneratorFigures(
            whole.n, whole.n_dropped, whole.srcc, whole.plcc, whole.krcc, *means, whole.reason
        )
        if resamples is not None and whole.n:
            figures = _with_intervals(figures, joined, known_N, resamples)
        found[name] = figures
    return found


def _with_intervals(
    figures: GeneratorFigures, joined: Joined, rows_N: NDArray[np.bool_], resamples: Resamples
) -> GeneratorFigures:
    scores, labels, groups = joined.scores[rows_N], joined.labels[rows_N], joined.groups[rows_N]
    ones = np.ones_like(scores)
    ends = {
        "mean_score": interval(resamples.shares(groups, scores, ones)),
        "mean_label": interval(resamples.shares(groups, labels, ones)),
    }
    if figures.reason is None:
        places = resamples.places(groups)
        ends["srcc"] = interval(resampled_srcc(resamples.draws, places, scores, labels))
    flat: dict[str, Any] = {
        f"{name}_{end}": value
        for name, pair in ends.items()
        for end, value in zip(("low", "high"), pair, strict=True)
    }
    return dataclasses.replace(figures, **flat)
