"""What the scores' own intervals hold.

Legend: R resamples.
"""

from __future__ import annotations

import numpy as np

from tokenfocus_ray.evaluation.figures.figure import Evidence, Figure
from tokenfocus_ray.evaluation.reliability import Coverage, coverage, labels_inside
from tokenfocus_ray.evaluation.resampling.intervals import Resamples
from tokenfocus_ray.tables.columns import FloatArray


def interval_coverage(rows: Evidence) -> Figure:
    """Share of labels within their score's interval."""
    found = rows.once(_coverage)
    return Figure(
        "interval_coverage", "coverage of intervals", found.share, found.n, "intervals",
        interval=rows.interval(_samples), details={"n_intervals": found.n}, optional=True,
    )  # fmt: skip


def interval_width(rows: Evidence) -> Figure:
    """Mean width of those intervals."""
    found = rows.once(_coverage)
    return Figure(
        "interval_width", "width of intervals", found.width, found.n, "intervals", optional=True
    )


def _coverage(rows: Evidence) -> Coverage:
    return coverage(rows.joined.lows, rows.joined.highs, rows.joined.labels)


def _samples(rows: Evidence, resamples: Resamples) -> FloatArray:
    whole = rows.joined
    inside_N, bounded_N = labels_inside(whole.lows, whole.highs, whole.labels)
    inside = inside_N[bounded_N].astype(np.float64)
    return resamples.shares(whole.groups[bounded_N], inside, np.ones_like(inside))
