"""Whether scores are the labels that they predict."""

from __future__ import annotations

import math

from tokenfocus_ray.evaluation import reliability
from tokenfocus_ray.evaluation.figures.figure import Evidence, Figure


def calibration_error(rows: Evidence) -> Figure:
    """Mean distance of score and label over tenths of the scores, where both have one scale."""
    reason = _reason(rows)
    return Figure(
        "calibration_error",
        "calibration error",
        math.nan if reason else reliability.calibration_error(rows.scores, rows.labels),
        len(rows.scores),
        reason=reason and f"calibration error: {reason}",
    )


def _reason(rows: Evidence) -> str | None:
    if not len(rows.scores):
        return "no row has score and label"
    if rows.joined.on_scale:
        return None
    return reliability.other_scale(rows.scores, rows.labels)
