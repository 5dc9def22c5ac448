"""Intervals by resampling whole groups: rows of one prompt are not independent.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

#: Resamples of an interval, and its two ends in percent.
RESAMPLES, ENDS = 1000, (2.5, 97.5)


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
