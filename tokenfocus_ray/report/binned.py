"""Histograms whose bins widen by themselves, so that any numbers fit into bounded memory.

Bins begin at decimal numbers, as people write thresholds, and widths nest: 0.001, 0.002, 0.01, ...
So counts at the edges are exact, and what comes of merging depends neither on order nor on parts.

Legend: N values, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.tables.columns import FloatArray

#: Bins in a unit at the finest, and the factors by which they are widened, over and over.
FINEST, _FACTORS = 1_000, (2, 5)
#: Values beyond are counted in the outermost bins.
MOST = 1e12

IntArray = NDArray[np.int64]
Kind: TypeAlias = "type[np.float32] | type[np.float64]"


def fine_bins(values_N: FloatArray, kind: Kind = np.float64) -> IntArray:
    """[N] bin of each value, of the finest: ``k`` where ``k / 1000 <= value < (k + 1) / 1000``.

    >>> fine_bins(np.array([3.5, 0.2999, -0.001])).tolist()
    [3500, 299, -1]

    Args:
        values_N: Finite.
        kind: Of the numbers that they were, in whose precision they are compared: 3.1 that was kept
            in 32 bits is a little less, but not less than 3.1 in 32 bits.
    """
    values_N = np.clip(np.asarray(values_N, np.float64), -MOST, MOST)
    bins_N = np.floor(values_N * FINEST)
    bins_N += _edges(bins_N + 1, kind) <= values_N  # where the product was rounded
    bins_N -= _edges(bins_N, kind) > values_N
    return bins_N.astype(np.int64)


def _edges(bins_N: FloatArray, kind: Kind) -> FloatArray:
    edges_N: FloatArray = (bins_N / FINEST).astype(kind).astype(np.float64)
    return edges_N


def widening(level: int) -> int:
    """How many of the finest bins one of a level spans.

    >>> [widening(level) for level in range(5)]
    [1, 2, 10, 20, 100]
    """
    return int(np.prod([_FACTORS[i % 2] for i in range(level)], dtype=np.int64))


def level_for(low: int, high: int, level: int, most: int) -> int:
    """The first level from ``level`` on of which ``most`` bins span the bins given, of that level.

    Args:
        low: First occupied bin.
        high: Last.
        level: Theirs.
        most: Bins.
    """
    while high - low >= most:
        factor = _FACTORS[level % 2]
        low, high, level = low // factor, high // factor, level + 1
    return level


@dataclass(frozen=True, slots=True)
class Binned:
    """How many values lie where.

    Attributes:
        most: Bins at the most.
        level: Of the bins; see :func:`widening`.
        low: Number of the first bin.
        counts_B: Values in each bin; the first and the last hold some.
    """

    most: int
    level: int
    low: int
    counts_B: IntArray

    @classmethod
    def of(cls, values_N: FloatArray, most: int = 4_096, kind: Kind = np.float64) -> Self:
        """Counts values.

        Args:
            values_N: Finite.
            most: Bins at the most.
            kind: See :func:`fine_bins`.
        """
        if not len(values_N):
            return cls(most, 0, 0, np.zeros(0, np.int64))
        bins_N = fine_bins(values_N, kind)
        level = level_for(int(bins_N.min()), int(bins_N.max()), 0, most)
        bins_N //= widening(level)
        low = int(bins_N.min())
        return cls(most, level, low, np.bincount(bins_N - low).astype(np.int64))

    def merged(self, other: Binned) -> Binned:
        """Both, as if all values had been counted at once."""
        if not len(self.counts_B) or not len(other.counts_B):
            return self if len(self.counts_B) else other
        level = max(self.level, other.level)
        a, b = self._at(level), other._at(level)
        low, high = min(a.low, b.low), max(a._high, b._high)
        level = level_for(low, high, level, self.most)
        a, b = a._at(level), b._at(level)
        low, high = min(a.low, b.low), max(a._high, b._high)
        counts_B = np.zeros(high - low + 1, np.int64)
        for one in (a, b):
            counts_B[one.low - low : one._high - low + 1] += one.counts_B
        return Binned(self.most, level, low, counts_B)

    def _at(self, level: int) -> Binned:
        """With wider bins."""
        if level == self.level:
            return self
        factor = widening(level) // widening(self.level)
        bins = (self.low + np.arange(len(self.counts_B))) // factor
        low = int(bins[0])
        counts_B = np.bincount(bins - low, self.counts_B).astype(np.int64)
        return Binned(self.most, level, low, counts_B)

    @property
    def _high(self) -> int:
        return self.low + len(self.counts_B) - 1

    @property
    def n(self) -> int:
        """Values in all."""
        return int(self.counts_B.sum())

    @property
    def width(self) -> float:
        """Of a bin."""
        return widening(self.level) / FINEST

    def edge(self, b: int) -> float:
        """Where a bin begins, from 0 for the first; the nearest number to that decimal one."""
        return (self.low + b) * widening(self.level) / FINEST

    def quantile(self, share: float) -> float:
        """Where the bin begins that holds the value below which such a share lies.

        Args:
            share: In 0..1.
        """
        below_B = np.cumsum(self.counts_B)
        return self.edge(int(np.searchsorted(below_B, share * self.n, side="left")))
