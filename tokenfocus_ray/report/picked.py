"""Rows that are picked out: by a key, or at random; whatever the parts they come in.

Chance is a hash of the sample id, so that another run, or other parts, pick the same rows.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.report.binned import fine_bins, level_for, widening
from tokenfocus_ray.tables.columns import FloatArray

IntArray = NDArray[np.int64]
HashArray = NDArray[np.uint64]


def hashes(texts: Sequence[str | None]) -> HashArray:
    """[N] 64 bits of each text."""
    each = [blake2b((t or "").encode("utf-8", "surrogatepass"), digest_size=8) for t in texts]
    return np.frombuffer(b"".join(one.digest() for one in each), np.uint64)


@dataclass(frozen=True, slots=True)
class Least:
    """The rows of the least keys; of equal keys those of the least hash.

    Attributes:
        most: Rows at the most.
        keys_N: Rising.
        hashes_N: Of the sample ids.
        rows_N: Numbers in the table.
    """

    most: int
    keys_N: FloatArray
    hashes_N: HashArray
    rows_N: IntArray

    @classmethod
    def of(cls, most: int, keys_N: FloatArray, hashes_N: HashArray, rows_N: IntArray) -> Self:
        """Picks; arguments as the attributes, in any order of rows.

        Rows whose key is NaN are passed over.
        """
        keep_N = ~np.isnan(keys_N)
        keys_N, hashes_N, rows_N = keys_N[keep_N], hashes_N[keep_N], rows_N[keep_N]
        if len(keys_N) > most:  # all that can be among the least, ties included
            keep_N = keys_N <= np.partition(keys_N, most - 1)[most - 1]
            keys_N, hashes_N, rows_N = keys_N[keep_N], hashes_N[keep_N], rows_N[keep_N]
        order = np.lexsort((rows_N, hashes_N, keys_N))[:most]
        return cls(most, keys_N[order], hashes_N[order], rows_N[order])

    @classmethod
    def none(cls, most: int) -> Self:
        """No row yet."""
        return cls(most, np.zeros(0), np.zeros(0, np.uint64), np.zeros(0, np.int64))

    def merged(self, other: Least) -> Least:
        """Both."""
        each = [
            np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("keys_N", "hashes_N", "rows_N")
        ]
        return Least.of(self.most, *each)


@dataclass(frozen=True, slots=True)
class Spread:
    """A few rows, chosen at random, from each stretch of the scores.

    Attributes:
        stretches: At the most; they widen as :class:`~tokenfocus_ray.report.binned.Binned` does.
        each: Rows of a stretch.
        level: Width of the stretches.
        picks: Stretch -> its rows, by the hash alone.
    """

    stretches: int
    each: int
    level: int
    picks: dict[int, Least]

    @classmethod
    def of(
        cls, stretches: int, each: int, scores_N: FloatArray, hashes_N: HashArray, rows_N: IntArray
    ) -> Self:
        """Picks; arguments as the attributes, and finite scores of rows in any order."""
        if not len(scores_N):
            return cls(stretches, each, 0, {})
        bins_N = fine_bins(scores_N)
        level = level_for(int(bins_N.min()), int(bins_N.max()), 0, stretches)
        bins_N //= widening(level)
        order = np.argsort(bins_N, kind="stable")
        found, starts = np.unique(bins_N[order], return_index=True)
        picks = {
            int(b): _by_hash(each, hashes_N[own], rows_N[own])
            for b, own in zip(found, np.split(order, starts[1:]), strict=True)
        }
        return cls(stretches, each, level, picks)

    def merged(self, other: Spread) -> Spread:
        """Both."""
        if not self.picks or not other.picks:
            return self if self.picks else other
        level = max(self.level, other.level)
        a, b = self._at(level), other._at(level)
        every = a.picks.keys() | b.picks.keys()
        level = level_for(min(every), max(every), level, self.stretches)
        picks = a._at(level).picks
        for stretch, least in b._at(level).picks.items():
            picks[stretch] = picks[stretch].merged(least) if stretch in picks else least
        return Spread(self.stretches, self.each, level, picks)

    def _at(self, level: int) -> Spread:
        """With wider stretches."""
        factor = widening(level) // widening(self.level)
        picks: dict[int, Least] = {}
        for stretch, least in self.picks.items():
            to = stretch // factor
            picks[to] = picks[to].merged(least) if to in picks else least
        return Spread(self.stretches, self.each, level, picks)

    @property
    def rows(self) -> list[int]:
        """Numbers of all rows that are picked."""
        return sorted(int(row) for least in self.picks.values() for row in least.rows_N)


def _by_hash(most: int, hashes_N: HashArray, rows_N: IntArray) -> Least:
    return Least.of(most, np.zeros(len(rows_N)), hashes_N, rows_N)
