"""Two columns of scores on the same rows: which follows the labels better, and by how much.

Both columns are judged on the same resamples, so what they have in common falls out of the
difference, whose interval is narrower than those of the two columns would suggest.

Legend: N rows.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tokenfocus_ray.evaluation.correlation import Correlations, correlations
from tokenfocus_ray.evaluation.resampling.bootstrap import Draws, interval, too_few_groups
from tokenfocus_ray.evaluation.resampling.resampled import (
    resampled_krcc,
    resampled_plcc,
    resampled_srcc,
)
from tokenfocus_ray.tables.prompts import group_numbers

_RESAMPLED = {"srcc": resampled_srcc, "plcc": resampled_plcc, "krcc": resampled_krcc}


@dataclass(frozen=True, slots=True)
class Difference:
    """One coefficient of both columns.

    Attributes:
        first: Of the first column.
        second: Of the second column.
        difference: First less second.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two columns follow the same labels.

    Attributes:
        n: Rows with a label and both scores.
        n_dropped: Rows left out of both because one of the three is not finite.
        n_groups: Groups among the rows used.
        srcc: Spearman's rank correlation.
        plcc: Pearson's correlation without a fit.
        krcc: Kendall's tau-b.
        reason: Why numbers are NaN; None where all are there.
    """

    n: int
    n_dropped: int
    n_groups: int
    srcc: Difference
    plcc: Difference
    krcc: Difference
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Flat keys for JSON, such as ``srcc_difference_low``; NaN becomes None."""
        plain: dict[str, Any] = {
            "n": self.n,
            "n_dropped": self.n_dropped,
            "n_groups": self.n_groups,
            "reason": self.reason,
        }
        for name in _RESAMPLED:
            found = dataclasses.asdict(getattr(self, name))
            keys = ("first", "second", "difference", "difference_low", "difference_high")
            for key, value in zip(keys, found.values(), strict=True):
                plain[f"{name}_{key}"] = value if math.isfinite(value) else None
        return plain


def compare(
    first_N: ArrayLike, second_N: ArrayLike, labels_N: ArrayLike, groups_N: ArrayLike
) -> Comparison:
    """Compares two columns on the rows that have a label and both scores.

    Args:
        first_N: Scores on any scale.
        second_N: Scores on any scale, of the same rows.
        labels_N: Labels on any scale.
        groups_N: What is resampled as a whole, the prompt: numbers or texts.

    Returns:
        Coefficients, differences and their 95 % intervals by ``bootstrap.RESAMPLES`` resamples
        of whole groups; NaN with a reason where they are not defined.

    Raises:
        ValueError: when the four are not one-dimensional and equally long.
    """
    first, second, labels = (np.asarray(a, dtype=np.float64) for a in (first_N, second_N, labels_N))
    groups = np.asarray(groups_N)
    shapes = [a.shape for a in (first, second, labels, groups)]
    if first.ndim != 1 or len(set(shapes)) > 1:
        raise ValueError(
            "both scores, labels and groups must be one-dimensional and equally long, got shapes "
            + ", ".join(map(str, shapes))
        )
    keep = np.isfinite(first) & np.isfinite(second) & np.isfinite(labels)
    first, second, labels, groups = first[keep], second[keep], labels[keep], groups[keep]
    numbers = group_numbers(groups)
    n_groups = int(numbers.max(initial=-1)) + 1
    whole = correlations(first, labels), correlations(second, labels)
    reason = _reason(whole, n_groups)
    differences = {}
    for name, resampled in _RESAMPLED.items():
        first_value, second_value = (getattr(one, name) for one in whole)
        ends = (math.nan, math.nan)
        if reason is None:
            draws = Draws.of(n_groups)
            ends = interval(
                resampled(draws, numbers, first, labels) - resampled(draws, numbers, second, labels)
            )
        differences[name] = Difference(first_value, second_value, first_value - second_value, *ends)
    n_dropped = int(keep.size - keep.sum())
    return Comparison(len(first), n_dropped, n_groups, **differences, reason=reason)


def _reason(whole: tuple[Correlations, Correlations], n_groups: int) -> str | None:
    reasons = {
        f"{which}: {one.reason}": None
        for which, one in zip(("first", "second"), whole, strict=True)
        if one.reason
    }
    return "; ".join(reasons) or too_few_groups(n_groups)
