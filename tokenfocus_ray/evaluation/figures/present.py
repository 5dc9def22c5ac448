"""Which elements of the prompts are in the images.

Legend: R resamples, E elements with score and label.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.evaluation.challenge import THRESHOLD
from tokenfocus_ray.evaluation.elements import ElementFigures, agree, element_figures
from tokenfocus_ray.evaluation.figures.figure import Evidence, Figure
from tokenfocus_ray.evaluation.resampling.intervals import Resamples
from tokenfocus_ray.evaluation.resampling.resampled import resampled_auc
from tokenfocus_ray.tables.columns import FloatArray


def element_accuracy(rows: Evidence) -> Figure:
    """Share of elements on which score and label agree, both from 0.5 on."""
    found = rows.once(_elements)
    return Figure(
        "element_accuracy", "element accuracy", found.accuracy, found.n, "elements",
        interval=rows.interval(accuracy_samples), reason=_reason(found, found.accuracy),
        details={"n_elements": found.n, "n_elements_excluded": found.n_dropped}, optional=True,
    )  # fmt: skip


def element_accuracy_own(rows: Evidence) -> Figure:
    """The same with the table's own decisions."""
    found = rows.once(_elements)
    return Figure(
        "element_accuracy_own", "element accuracy, own", found.accuracy_own, found.n_own,
        "elements", interval=rows.interval(_own_samples), details={"n_elements_own": found.n_own},
        optional=True,
    )  # fmt: skip


def element_auc(rows: Evidence) -> Figure:
    """Area under the ROC curve over elements."""
    found = rows.once(_elements)
    return Figure(
        "element_auc", "element AUC", found.auc, found.n, "elements",
        interval=rows.interval(_auc_samples), reason=_reason(found, found.auc), optional=True,
    )  # fmt: skip


def element_f1(rows: Evidence) -> Figure:
    """F1 of "present"."""
    found = rows.once(_elements)
    return Figure(
        "element_f1", "element F1", found.f1, found.n, "elements",
        interval=rows.interval(_f1_samples), reason=_reason(found, found.f1), optional=True,
    )  # fmt: skip


def _elements(rows: Evidence) -> ElementFigures:
    elements = rows.joined.elements
    return element_figures(elements.scores, elements.labels, elements.present)


def _reason(found: ElementFigures, value: float) -> str | None:
    told = found.n and found.reason and math.isnan(value)
    return f"elements: {found.reason}" if told else None


def _usable(rows: Evidence) -> NDArray[np.bool_]:
    elements = rows.joined.elements
    return np.isfinite(elements.scores) & np.isfinite(elements.labels)


def _sides(rows: Evidence) -> tuple[NDArray[np.int64], FloatArray, NDArray[np.bool_]]:
    """[E] groups, scores, and whether the label says present; of all that have both."""
    elements, usable = rows.joined.elements, _usable(rows)
    groups_E = rows.joined.groups[elements.rows[usable]]
    return groups_E, elements.scores[usable], elements.labels[usable] >= THRESHOLD


def accuracy_samples(rows: Evidence, resamples: Resamples) -> FloatArray | None:
    """[R] element accuracy; None without elements."""
    groups_E, scores_E, present_E = rows.once(_sides)
    if not len(groups_E):
        return None
    right_E = ((scores_E >= THRESHOLD) == present_E).astype(np.float64)
    return resamples.shares(groups_E, right_E, np.ones_like(right_E))


def _own_samples(rows: Evidence, resamples: Resamples) -> FloatArray | None:
    elements = rows.joined.elements
    own = _usable(rows) & np.isfinite(elements.present)
    if not own.any():
        return None
    right_E = agree(elements.present[own], elements.labels[own])
    groups_E = rows.joined.groups[elements.rows[own]]
    return resamples.shares(groups_E, right_E, np.ones_like(right_E))


def _auc_samples(rows: Evidence, resamples: Resamples) -> FloatArray | None:
    groups_E, scores_E, present_E = rows.once(_sides)
    if present_E.all() == present_E.any():  # one class only, or nothing
        return None
    return resampled_auc(resamples.draws, resamples.places(groups_E), scores_E, present_E)


def _f1_samples(rows: Evidence, resamples: Resamples) -> FloatArray | None:
    groups_E, scores_E, present_E = rows.once(_sides)
    if present_E.all() == present_E.any():
        return None
    predicted_E = scores_E >= THRESHOLD
    both_E = (2 * (present_E & predicted_E)).astype(np.float64)
    return resamples.shares(groups_E, both_E, present_E.astype(np.float64) + predicted_E)
