"""Which human ratings are impossible: typing errors, and codes for "no answer".

Real labels are often skewed: where most are 0, the few at the top are far out by any count of
quartiles. So what counts is the distance from the bulk, in units of the bulk's own range and steps.

Legend: N rows, R raters, D different values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.tables.columns import FloatArray

#: How far off the bulk a rating must be to be impossible, in ranges and in steps of the bulk; a
#: value that recurs must be farther, since typing errors seldom agree.
_FAR, _FAR_RECURRING = (2.0, 10.0), (5.0, 20.0)
#: A value in up to this share of the ratings may still be a typing error that somebody repeated.
_RARE = 1e-3
#: Negative codes for "no answer": -1, -9, -99, ...
_CODES = (-1.0, *(1.0 - 10.0**e for e in range(1, 7)))


@dataclass(frozen=True, slots=True)
class Ratings:
    """What is possible.

    Attributes:
        low: Lowest possible rating.
        high: Highest.
        impossible: [N, R] which of the ratings are not to be used.
        notes: Of ratings that are used although they stand apart.
    """

    low: float
    high: float
    impossible: NDArray[np.bool_]
    notes: tuple[str, ...] = ()

    def described(self, bad_NR: NDArray[np.bool_], ratings_NR: FloatArray) -> str:
        """Some impossible ratings in words.

        Args:
            bad_NR: Which; one at the least.
            ratings_NR: What they are part of.
        """
        shown = ", ".join(f"{v:g}" for v in np.unique(ratings_NR[bad_NR])[:5])
        return (
            f"{bad_NR.sum()} impossible ratings ({shown}; {self.low:g}..{self.high:g} is usual); "
            f"not used"
        )


def judge_ratings(ratings_NR: FloatArray, given: tuple[float, float] | None) -> Ratings:
    """Finds the ratings that are impossible.

    Args:
        ratings_NR: A column a rater, all on one scale; NaN where missing.
        given: What is possible. None: everything, but for values far off the bulk of the ratings,
            and for a negative code for "no answer" that no step of the scale leads to.

    >>> found = judge_ratings(np.array([[1, 2, 3, 4, 5, 5, 4, 41.0]]), None)
    >>> found.low, found.high, int(found.impossible.sum())
    (1.0, 5.0, 1)
    """
    if given is not None:
        low, high = given
        return Ratings(low, high, (ratings_NR < low) | (ratings_NR > high))
    known = ratings_NR[np.isfinite(ratings_NR)]
    if not len(known):
        return Ratings(0.0, 0.0, np.zeros(ratings_NR.shape, bool))
    values_D, counts_D = np.unique(known, return_counts=True)
    first, last = _bulk(values_D, counts_D)
    if _is_code(values_D[first : last + 1]):
        first += 1
    low, high = float(values_D[first]), float(values_D[last])
    notes = _apart(values_D[first : last + 1], counts_D[first : last + 1])
    return Ratings(low, high, (ratings_NR < low) | (ratings_NR > high), notes)


def _bulk(values_D: FloatArray, counts_D: NDArray[np.int64]) -> tuple[int, int]:
    """First and last place of the values that belong together.

    Grows from the narrowest span with half of the ratings, nearest neighbour first.
    """
    total = int(counts_D.sum())
    upto = np.cumsum(counts_D)
    before = upto - counts_D
    ends = np.searchsorted(upto, before + (total + 1) // 2)
    whole = np.flatnonzero(ends < len(values_D))
    at = int(whole[np.argmin(values_D[ends[whole]] - values_D[whole])])
    first, last = at, int(ends[at])
    values = values_D.tolist()
    most_below = np.maximum.accumulate(counts_D)
    most_above = np.maximum.accumulate(counts_D[::-1])[::-1]
    while first > 0 or last < len(values) - 1:
        below = values[first] - values[first - 1] if first else np.inf
        above = values[last + 1] - values[last] if last < len(values) - 1 else np.inf
        gap, reach = min(below, above), values[last] - values[first]
        # of one value alone neither range nor step is known
        if reach > 0 and gap > _FAR[0] * reach:
            most = most_below[first - 1] if below <= above else most_above[last + 1]
            ranges, steps = _FAR if most <= max(1, _RARE * total) else _FAR_RECURRING
            step = float(np.median(np.diff(values_D[first : last + 1])))
            if gap > max(ranges * reach, steps * step):
                break
        first, last = (first - 1, last) if below <= above else (first, last + 1)
    return first, last


def _is_code(values_D: FloatArray) -> bool:
    """Whether the lowest stands for "no answer".

    A scale may well begin at -1, so it must be the only negative one, and further from the others
    than these are from each other.
    """
    if len(values_D) < 3 or values_D[0] not in _CODES or values_D[1] < 0:
        return False
    gaps = np.diff(values_D)
    return bool(gaps[0] > 1.5 * gaps[1:].max())


def _apart(values_D: FloatArray, counts_D: NDArray[np.int64]) -> tuple[str, ...]:
    """What to say of the lowest and of the highest, where they may be no ratings."""
    if len(values_D) < 3:
        return ()
    notes = []
    for end, beside, other in ((0, 1, -1), (-1, -2, 0)):
        gap = abs(values_D[end] - values_D[beside])
        code = end == 0 and values_D[0] in _CODES and values_D[1] >= 0
        if code or gap > abs(values_D[beside] - values_D[other]):
            low, high = sorted((float(values_D[beside]), float(values_D[other])))
            notes.append(
                f"rated {values_D[end]:g} {counts_D[end]} times, apart from {low:g}..{high:g}; "
                f"used: if that is no rating, give --label-range {low:g} {high:g}"
            )
    return tuple(notes)
