"""Elements that depend on others: without a dog there is no brown dog.

Davidsonian Scene Graph (DSG, arXiv 2310.18235) counts a question as failed where one that it
depends on has failed; of scores in 0..1 that is the minimum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def with_parents(
    scores: Sequence[float | None], parents: Sequence[Sequence[int]] | None
) -> list[float]:
    """[E] scores, each the least of its own and of all that it depends on.

    >>> with_parents([0.2, 0.9, 0.8], [[], [0], [1]])
    [0.2, 0.2, 0.2]
    >>> with_parents([math.nan, 0.9], [[], [0]])  # unknown whether there is what it depends on
    [nan, nan]

    Args:
        scores: [E] of the elements; None and NaN are unknown, and so is what depends on them.
        parents: [E] places of the elements that each depends on; None: there are no dependencies.

    Raises:
        ValueError: they are not as many as the scores, name one that is not there, or form a
            circle.
    """
    own = [math.nan if score is None else float(score) for score in scores]
    if not parents or not own:
        return own
    if len(parents) != len(own):
        raise ValueError(f"{len(parents)} lists of parents for {len(own)} elements")
    done: dict[int, float] = {}

    def least(e: int, below: tuple[int, ...]) -> float:
        if e in below:
            raise ValueError(f"element {e} depends on itself")
        if e not in done:
            values = [own[e]]
            for parent in parents[e] or ():
                if not 0 <= parent < len(own):
                    raise ValueError(f"element {e} depends on {parent}; there are {len(own)}")
                values.append(least(parent, (*below, e)))
            done[e] = math.nan if any(map(math.isnan, values)) else min(values)
        return done[e]

    return [least(e, ()) for e in range(len(own))]
