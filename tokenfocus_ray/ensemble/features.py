"""Columns of scores on one footing: turned, bounded, filled and scaled, learnt from training rows.

Legend: N rows, F feature columns, K kept columns, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation.correlation import MIN_PAIRS
from tokenfocus_ray.tables.columns import FloatArray

#: Columns are bounded at these percentiles, so that one outlier cannot decide.
BOUNDS = (1.0, 99.0)
#: Points of a column's distribution function that are kept.
QUANTILES = 257


@dataclass(frozen=True, slots=True)
class Note:
    """What was done with a column, or noticed about it.

    Attributes:
        column: Its name.
        what: In words.
    """

    column: str
    what: str

    def __str__(self) -> str:
        return f"{self.column}: {self.what}"


@dataclass(frozen=True, slots=True)
class Scaler:
    """Puts columns on one footing, as training rows had them.

    Attributes:
        kept: [K] indices among the F columns; constant and duplicate ones are left out.
        sign: [K] 1, or -1 where lower is better.
        low: [K] lower bound.
        high: [K] upper bound.
        fill: [K] what stands for a missing value: the median.
        center: [K] mean after bounding and filling.
        scale: [K] standard deviation likewise.
        quantiles: [K, Q] of the values that are there.
    """

    kept: NDArray[np.int64]
    sign: FloatArray
    low: FloatArray
    high: FloatArray
    fill: FloatArray
    center: FloatArray
    scale: FloatArray
    quantiles: FloatArray

    @classmethod
    def fit(cls, values_NF: FloatArray, labels_N: FloatArray) -> Self:
        """Learns from training rows; the labels say which way a column points.

        Args:
            values_NF: NaN where missing.
            labels_N: Finite.

        Raises:
            ManifestError: no column varies.
        """
        kept = [f for f in range(values_NF.shape[1]) if _varies(values_NF[:, f])]
        kept = [f for i, f in enumerate(kept) if not _repeats(values_NF, f, kept[:i])]
        if not kept:
            raise ManifestError(
                f"none of the {values_NF.shape[1]} columns varies on the {len(labels_N)} training "
                f"rows of a fold: they have too few known or different values to be stacked; give "
                f"more rows, or other columns"
            )
        values_NK = values_NF[:, kept]
        sign = np.array([_direction(values_NK[:, k], labels_N) for k in range(len(kept))])
        low, high = np.nanpercentile(values_NK, BOUNDS, axis=0)
        fill = np.nanmedian(values_NK, axis=0)
        # a column that is nearly constant has equal bounds: then it is left as it is
        flat = high <= low
        low = np.where(flat, np.nanmin(values_NK, axis=0), low)
        high = np.where(flat, np.nanmax(values_NK, axis=0), high)
        whole = np.clip(np.where(np.isnan(values_NK), fill, values_NK), low, high)
        steps = np.linspace(0, 1, QUANTILES)
        quantiles = np.nanquantile(values_NK, steps, axis=0).T
        return cls(
            np.array(kept, np.int64), sign, low, high, fill, whole.mean(axis=0), whole.std(axis=0),
            quantiles,
        )  # fmt: skip

    def scaled(self, values_NF: FloatArray) -> FloatArray:
        """[N, K] turned, bounded, filled, with mean 0 and standard deviation 1 in training."""
        values_NK = values_NF[:, self.kept]
        whole = np.clip(np.where(np.isnan(values_NK), self.fill, values_NK), self.low, self.high)
        scaled: FloatArray = (whole - self.center) / self.scale * self.sign
        return scaled

    def ranks(self, values_NF: FloatArray) -> FloatArray:
        """[N, K] shares of the training rows below, ties in the middle, turned; NaN if missing."""
        values_NK = values_NF[:, self.kept]
        ranks_NK = np.full(values_NK.shape, np.nan)
        for k, known in enumerate(self.quantiles):
            below = np.searchsorted(known, values_NK[:, k], "left")
            upto = np.searchsorted(known, values_NK[:, k], "right")
            rank = (below + upto) / (2 * len(known))
            ranks_NK[:, k] = rank if self.sign[k] > 0 else 1 - rank
        ranks_NK[np.isnan(values_NK)] = np.nan
        return ranks_NK

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of :meth:`arrays`."""
        return cls(**{name: arrays[name] for name in cls.__slots__})


def _varies(values_N: FloatArray) -> bool:
    known = values_N[~np.isnan(values_N)]
    return len(known) > 1 and bool((known != known[0]).any())


def _repeats(values_NF: FloatArray, column: int, earlier: Sequence[int]) -> bool:
    mine = values_NF[:, column]
    return any(np.array_equal(mine, values_NF[:, f], equal_nan=True) for f in earlier)


def _direction(values_N: FloatArray, labels_N: FloatArray) -> float:
    known = ~np.isnan(values_N)
    if known.sum() < MIN_PAIRS or (labels_N[known] == labels_N[known][0]).all():
        return 1.0
    return -1.0 if stats.spearmanr(values_N[known], labels_N[known]).statistic < 0 else 1.0


#: A column that follows the labels so closely is probably made from them.
LEAKAGE = 0.995


def describe(names: Sequence[str], values_NF: FloatArray, labels_N: FloatArray) -> list[Note]:
    """What :class:`Scaler` does with each column, and which look like the label itself.

    Args:
        names: [F] of the columns.
        values_NF: NaN where missing.
        labels_N: Finite.
    """
    notes = []
    kept: list[int] = []
    n_rows = len(labels_N)
    for f, name in enumerate(names):
        values_N = values_NF[:, f]
        known = ~np.isnan(values_N)
        if not _varies(values_N):
            what = "is empty" if not known.any() else f"is {values_N[known][0]:g} in every row"
            notes.append(Note(name, f"{what}; left out"))
            continue
        if _repeats(values_NF, f, kept):
            same = next(
                k for k in kept if np.array_equal(values_N, values_NF[:, k], equal_nan=True)
            )
            notes.append(Note(name, f"equals {names[same]}; left out"))
            continue
        kept.append(f)
        if not known.all():
            notes.append(Note(name, f"{n_rows - known.sum()} of {n_rows} values missing"))
        if _direction(values_N, labels_N) < 0:
            notes.append(Note(name, "lower is better; turned"))
        low, high = np.percentile(values_N[known], BOUNDS)
        spread = high - low
        far = (values_N[known] < low - 3 * spread) | (values_N[known] > high + 3 * spread)
        if spread > 0 and far.any():
            worst = values_N[known][far][np.abs(values_N[known][far] - low).argmax()]
            notes.append(Note(name, f"{far.sum()} outliers, such as {worst:g}; bounded"))
        if known.sum() > n_rows / 2 and _correlation(values_N[known], labels_N[known]) > LEAKAGE:
            notes.append(
                Note(name, "follows the labels almost exactly: if it was made from them, leave it "
                "out, or every figure here is an illusion")
            )  # fmt: skip
    return notes


def _correlation(values_N: FloatArray, labels_N: FloatArray) -> float:
    if (labels_N == labels_N[0]).all() or (values_N == values_N[0]).all():
        return 0.0
    return abs(float(stats.spearmanr(values_N, labels_N).statistic))
