"""Resamples of whole prompts, the same for all figures of a report.

Legend: N rows, G groups, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.evaluation.join import Joined
from tokenfocus_ray.evaluation.resampling.bootstrap import MIN_GROUPS, Draws, ratio
from tokenfocus_ray.tables.columns import FloatArray

Interval = tuple[float, float]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Resamples:
    """Resamples of the groups that figures are over.

    Attributes:
        numbers: [G] of the groups, rising.
        draws: How often each was drawn.
    """

    numbers: IntArray
    draws: Draws

    @classmethod
    def of(cls, joined: Joined) -> Resamples | None:
        """None where there are too few groups."""
        numbers = used_groups(joined)
        return cls(numbers, Draws.of(len(numbers))) if len(numbers) >= MIN_GROUPS else None

    def places(self, groups_N: IntArray) -> IntArray:
        """[N] place of each row's group in the draws."""
        return np.searchsorted(self.numbers, groups_N).astype(np.int64)

    def shares(self, groups_N: IntArray, above_N: FloatArray, below_N: FloatArray) -> FloatArray:
        """[R] quotients of sums over the rows."""
        sums_R2 = self.draws.sums(self.places(groups_N), np.column_stack([above_N, below_N]))
        return ratio(sums_R2[:, 0], sums_R2[:, 1])


def used_groups(joined: Joined) -> IntArray:
    """[G] groups with a usable label of a sample or of an element, rising."""
    elements = joined.elements
    usable_E = np.isfinite(elements.scores) & np.isfinite(elements.labels)
    used_N = np.isfinite(joined.labels)
    used_N[elements.rows[usable_E]] = True
    return np.unique(joined.groups[used_N])
