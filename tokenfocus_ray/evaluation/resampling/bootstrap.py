"""Intervals by resampling whole groups: rows of one prompt are not independent.

A resample draws as many groups as there are, with replacement; a row then counts as often as its
group was drawn. Figures that are ratios of sums need those counts only, not the rows.

Legend: N rows, G groups, R resamples, K sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.tables.columns import FloatArray

#: Resamples of an interval, and its two ends in percent.
RESAMPLES, ENDS = 1000, (2.5, 97.5)
#: With one group every resample is equal, and the interval a point that promises too much.
MIN_GROUPS = 2

# Bounds the memory of sums to some MB, whatever the number of groups.
_AT_ONCE = 100


def resampled_groups(
    groups_N: NDArray[np.int64], count: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Rows of groups drawn with replacement, as many groups as there are.

    Args:
        groups_N: Group of each row.
        count: Resamples.
        seed: Equal seeds draw equally.
    """
    order = np.argsort(groups_N, kind="stable")
    _, starts = np.unique(groups_N[order], return_index=True)
    members = np.split(order, starts[1:])
    generator = np.random.default_rng(seed)
    for _ in range(count):
        drawn = generator.integers(0, len(members), len(members))
        yield np.concatenate([members[i] for i in drawn])


@dataclass(frozen=True, slots=True)
class Draws:
    """How often each group was drawn; with equal seeds, as :func:`resampled_groups` draws them.

    Attributes:
        counts_RG: Non-negative; each row sums to the number of groups.
    """

    counts_RG: NDArray[np.uint16]

    @classmethod
    def of(cls, n_groups: int, count: int = RESAMPLES, seed: int = 0) -> Draws:
        """Draws from groups that are numbered from 0.

        Args:
            n_groups: Number of groups.
            count: Resamples.
            seed: Equal seeds draw equally.
        """
        generator = np.random.default_rng(seed)
        counts_RG = np.empty((count, n_groups), np.uint16)
        for r in range(count):
            drawn = generator.integers(0, n_groups, n_groups)
            counts_RG[r] = np.bincount(drawn, minlength=n_groups)
        return cls(counts_RG)

    def weights(self, groups_N: NDArray[np.int64]) -> Iterator[FloatArray]:
        """[N] how often each row counts, for each resample."""
        for counts_G in self.counts_RG:
            yield counts_G[groups_N].astype(np.float64)

    def sums(self, groups_N: NDArray[np.int64], values_NK: FloatArray) -> FloatArray:
        """[R, K] sums of the rows' values over each resample."""
        sums_GK = np.zeros((self.counts_RG.shape[1], values_NK.shape[1]))
        np.add.at(sums_GK, groups_N, values_NK)
        parts = range(0, len(self.counts_RG), _AT_ONCE)
        return np.concatenate(
            [self.counts_RG[r : r + _AT_ONCE].astype(np.float64) @ sums_GK for r in parts]
        )


def too_few_groups(n_groups: int) -> str | None:
    """Why there is no interval, or None where there is one."""
    if n_groups >= MIN_GROUPS:
        return None
    return f"{n_groups} prompt{'s' * (n_groups != 1)}; an interval needs {MIN_GROUPS}"


def interval(samples_R: FloatArray) -> tuple[float, float]:
    """The ends of the 95 % interval, by percentiles.

    Resamples on which the figure is undefined do not count; where most are, so is the interval.
    """
    known = samples_R[np.isfinite(samples_R)]
    if 2 * len(known) <= len(samples_R):
        return math.nan, math.nan
    low, high = np.percentile(known, ENDS)
    return float(low), float(high)


def ratio(above_R: FloatArray, below_R: FloatArray) -> FloatArray:
    """[R] quotients; NaN where there is nothing to divide by."""
    found_R = np.full(len(above_R), np.nan)
    np.divide(above_R, below_R, out=found_R, where=below_R > 0)
    return found_R
