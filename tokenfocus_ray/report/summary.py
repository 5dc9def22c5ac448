"""What the page tells of all rows, in bounded memory: partial summaries that merge.

Whatever the parts and their order, the same comes of it, but for the rounding of sums.

Legend: N rows, G groups of prompts, E elements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any, Self
from zlib import crc32

import numpy as np

from tokenfocus_ray.report.batch import GROUPS, Batch
from tokenfocus_ray.report.binned import Binned
from tokenfocus_ray.report.picked import Least, Spread
from tokenfocus_ray.tables.columns import FloatArray

#: Rows of a gallery; stretches of the scores and rows of each, for what lies around a threshold.
GALLERY, STRETCHES, OF_A_STRETCH = 24, 64, 4
#: Different names that are kept, chosen by their hash: a table may have any number of them.
MOST_MAKERS, MOST_KINDS, MOST_CODES = 400, 100, 60
#: Characters of an example's message.
_MESSAGE = 300

#: What became of an element.
FAILED, PRESENT, UNKNOWN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Unscored:
    """Rows without a score, of one reason.

    Attributes:
        n: How many.
        example: Hash, row number and message of the one with the least hash.
    """

    n: int
    example: tuple[int, int, str]

    def merged(self, other: Unscored) -> Unscored:
        """Both."""
        return Unscored(self.n + other.n, min(self.example, other.example))


@dataclass(frozen=True, slots=True)
class Summary:
    """Of some rows, or of all.

    Attributes:
        n_rows: All of them.
        unscored: Code -> rows without a score; of at most :data:`MOST_CODES` codes.
        scores: Of the scored rows.
        total: Sum of their scores.
        disagreement: Number of rows that several members scored, and sum of the members' standard
            deviations.
        makers: Generator -> [G, 2] number of scored rows and sum of their scores; of at most
            :data:`MOST_MAKERS`; empty text for rows without.
        elements: (Generator, type) -> [3] elements failed, present, unknown; of these generators
            and :data:`MOST_KINDS` types.
        states: [3] of all elements.
        problems: What is wrong with how many rows.
        best: Rows of the highest scores.
        worst: Rows of the lowest.
        disputed: Rows whose members disagree most.
        spread: Rows of all scores.
    """

    n_rows: int
    unscored: dict[str, Unscored]
    scores: Binned
    total: float
    disagreement: FloatArray
    makers: dict[str, FloatArray]
    elements: dict[tuple[str, str], FloatArray]
    states: FloatArray
    problems: Counter[str]
    best: Least
    worst: Least
    disputed: Least
    spread: Spread

    @classmethod
    def of(cls, batch: Batch, threshold: float, *, dependencies: bool = False) -> Self:
        """Summarises a batch.

        Args:
            batch: Some rows.
            threshold: From which score on an element is present.
            dependencies: Whether an element fails where one that it depends on does.
        """
        scored_N, hashes_N, rows_N = batch.scored_N, batch.hashes_N, batch.rows_N
        scores_N = batch.scores_N[scored_N]
        apart_N = batch.disagreement_N()
        own = (hashes_N[scored_N], rows_N[scored_N])
        makers_N, makers = batch.makers()
        groups_N = batch.groups_N()
        of_makers = np.zeros((len(makers), GROUPS, 2))
        places = (makers_N[scored_N], groups_N[scored_N])
        np.add.at(of_makers[..., 0], places, 1.0)
        np.add.at(of_makers[..., 1], places, scores_N)
        elements, problems = batch.elements(dependencies=dependencies)
        states_E = np.where(elements.scores_E >= threshold, PRESENT, FAILED)
        states_E[np.isnan(elements.scores_E)] = UNKNOWN
        shape = (len(makers), len(elements.kinds), 3)
        counts = np.zeros(shape)
        np.add.at(counts, (makers_N[elements.rows_E], elements.kinds_E, states_E), 1.0)
        unscored: dict[str, Unscored] = {}
        each = zip(*batch.codes(), hashes_N[~scored_N], rows_N[~scored_N], strict=True)
        for code, message, hash_, row in each:
            one = Unscored(1, (int(hash_), int(row), message[:_MESSAGE]))
            unscored[code] = unscored[code].merged(one) if code in unscored else one
        return cls(
            n_rows=batch.table.num_rows,
            unscored=_few(unscored, MOST_CODES),
            scores=Binned.of(scores_N, kind=batch.kind),
            total=float(scores_N.sum()),
            disagreement=np.array([np.isfinite(apart_N).sum(), np.nansum(apart_N)]),
            makers=_few(dict(zip(makers, of_makers, strict=True)), MOST_MAKERS),
            elements=_few_pairs(
                {
                    (maker, kind): counts[m, k]
                    for m, maker in enumerate(makers)
                    for k, kind in enumerate(elements.kinds)
                    if counts[m, k].any()
                }
            ),
            states=counts.sum(axis=(0, 1)),
            problems=problems,
            best=Least.of(GALLERY, -scores_N, *own),
            worst=Least.of(GALLERY, scores_N, *own),
            disputed=Least.of(GALLERY, np.where(apart_N > 0, -apart_N, np.nan), hashes_N, rows_N),
            spread=Spread.of(STRETCHES, OF_A_STRETCH, scores_N, *own),
        )

    def merged(self, other: Summary) -> Summary:
        """Both."""
        found: dict[str, Any] = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            found[field.name] = (
                _both(mine, theirs) if type(mine) is dict
                else mine.merged(theirs) if hasattr(mine, "merged")
                else mine + theirs
            )  # fmt: skip
        found["unscored"] = _few(found["unscored"], MOST_CODES)
        found["makers"] = _few(found["makers"], MOST_MAKERS)
        found["elements"] = _few_pairs(found["elements"])
        return Summary(**found)

    @property
    def n_scored(self) -> int:
        """Rows with a score."""
        return self.scores.n

    @property
    def rows(self) -> set[int]:
        """Numbers of the rows that a page shows."""
        each = (self.best, self.worst, self.disputed)
        return {int(row) for one in each for row in one.rows_N} | {*self.spread.rows}


def merged(parts: Iterable[Summary]) -> Summary:
    """All of them; there must be one."""
    return reduce(Summary.merged, parts)


def few_names(names: Iterable[str], most: int) -> set[str]:
    """As many names, chosen by their hash: so each part keeps those that all parts together do."""
    return set(sorted(set(names), key=lambda n: (crc32(n.encode("utf-8", "replace")), n))[:most])


def _few(found: dict[str, Any], most: int) -> dict[str, Any]:
    if len(found) <= most:
        return found
    kept = few_names(found, most)
    return {name: value for name, value in found.items() if name in kept}


def _few_pairs(found: dict[tuple[str, str], FloatArray]) -> dict[tuple[str, str], FloatArray]:
    makers = few_names((maker for maker, _ in found), MOST_MAKERS)
    kinds = few_names((kind for _, kind in found), MOST_KINDS)
    return {(m, k): value for (m, k), value in found.items() if m in makers and k in kinds}


def _both(mine: dict[Any, Any], theirs: dict[Any, Any]) -> dict[Any, Any]:
    found = dict(mine)
    for key, value in theirs.items():
        if key not in found:
            found[key] = value
        elif hasattr(value, "merged"):
            found[key] = found[key].merged(value)
        else:
            found[key] = found[key] + value
    return found
