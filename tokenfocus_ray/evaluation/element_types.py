"""Figures of each type of element.

Legend: E elements of all samples together.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.evaluation.elements import ElementFigures, agree, element_figures
from tokenfocus_ray.evaluation.join import Joined
from tokenfocus_ray.evaluation.resampling.bootstrap import interval
from tokenfocus_ray.evaluation.resampling.intervals import Interval, Resamples


def type_figures(joined: Joined, resamples: Resamples | None) -> dict[str, ElementFigures]:
    """Figures by type, in alphabetical order; with intervals where there are resamples."""
    elements = joined.elements
    types_E = np.array(elements.types, dtype=np.str_)
    found = {}
    for kind in sorted(set(elements.types)):
        own_E = types_E == kind
        figures = element_figures(
            elements.scores[own_E], elements.labels[own_E], elements.present[own_E]
        )
        if resamples is not None and figures.n:
            low, high = accuracy_interval(joined, resamples, own_E)
            figures = dataclasses.replace(figures, accuracy_low=low, accuracy_high=high)
        found[kind] = figures
    return found


def accuracy_interval(
    joined: Joined, resamples: Resamples, chosen_E: NDArray[np.bool_]
) -> Interval:
    """Of the accuracy over some of the elements."""
    elements = joined.elements
    usable_E = np.isfinite(elements.scores) & np.isfinite(elements.labels) & chosen_E
    groups = joined.groups[elements.rows[usable_E]]
    right = agree(elements.scores[usable_E], elements.labels[usable_E])
    return interval(resamples.shares(groups, right, np.ones_like(right)))
