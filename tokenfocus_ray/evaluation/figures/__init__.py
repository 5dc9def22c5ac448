"""Every figure of a report, a function each.

A new one is a function from :class:`~tokenfocus_ray.evaluation.figures.figure.Evidence` to
:class:`~tokenfocus_ray.evaluation.figures.figure.Figure`, and a line in :data:`FIGURES`: report,
JSON, intervals, reasons and the printed table go by this list.
"""

from __future__ import annotations

from collections.abc import Callable

from tokenfocus_ray.evaluation.figures.calibration import calibration_error
from tokenfocus_ray.evaluation.figures.coefficients import krcc, plcc, srcc
from tokenfocus_ray.evaluation.figures.coverage import interval_coverage, interval_width
from tokenfocus_ray.evaluation.figures.figure import Evidence, Figure
from tokenfocus_ray.evaluation.figures.final import final_corrected, final_official
from tokenfocus_ray.evaluation.figures.fits import plcc_corrected, plcc_official
from tokenfocus_ray.evaluation.figures.pairs import pairwise_accuracy, pairwise_accuracy_ties
from tokenfocus_ray.evaluation.figures.present import (
    element_accuracy,
    element_accuracy_own,
    element_auc,
    element_f1,
)

#: In the order in which they are printed.
FIGURES: tuple[Callable[[Evidence], Figure], ...] = (
    srcc,
    plcc,
    plcc_official,
    plcc_corrected,
    krcc,
    pairwise_accuracy,
    pairwise_accuracy_ties,
    calibration_error,
    interval_coverage,
    interval_width,
    element_accuracy,
    element_accuracy_own,
    element_auc,
    element_f1,
    final_official,
    final_corrected,
)
