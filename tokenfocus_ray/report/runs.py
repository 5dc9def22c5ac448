"""Two runs side by side, in bounded memory: pairs of scores of one sample.

Tables of the same rows in the same order are compared row by row, all of them. Of others, each
table keeps the samples whose ids have the least hashes; those below the lower of the two cuts are
there on both sides, if they are there at all, and so are a fair sample of what the runs share
(Broder, 1997: bottom-k sketches). Tables of fewer samples than that are compared whole.

Legend: N rows, G groups of prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.report.batch import GROUPS, Batch
from tokenfocus_ray.report.binned import Binned
from tokenfocus_ray.report.picked import HashArray, IntArray, Least
from tokenfocus_ray.report.summary import MOST_MAKERS, few_names
from tokenfocus_ray.tables.columns import FloatArray

#: Samples of a table that are kept where rows do not stand side by side; pairs that are ranked;
#: rows that moved most, each way.
MOST_IDS, MOST_PAIRS, MOVERS = 100_000, 20_000, 12

#: Rows by which of the runs scored them.
BOTH, FIRST, SECOND, NEITHER = range(4)


@dataclass(frozen=True, slots=True)
class Narrow:
    """The samples of a table whose ids have the least hashes; of one id the first row.

    Attributes:
        most: Samples at the most.
        hashes_N: Rising, each once.
        rows_N: Numbers in the table.
        scores_N: NaN where there is none.
        groups_N: Groups of their prompts.
        makers_N: Their generators' names.
    """

    most: int
    hashes_N: HashArray
    rows_N: IntArray
    scores_N: FloatArray
    groups_N: IntArray
    makers_N: NDArray[np.object_]

    @classmethod
    def of(cls, batch: Batch, most: int = MOST_IDS) -> Self:
        """Those of a batch."""
        return cls._least(
            most, batch.hashes_N, batch.rows_N, batch.scores_N, batch.groups_N(),
            batch.maker_names_N(),
        )  # fmt: skip

    @classmethod
    def _least(
        cls,
        most: int,
        hashes_N: HashArray,
        rows_N: IntArray,
        scores_N: FloatArray,
        groups_N: IntArray,
        makers_N: NDArray[np.object_],
    ) -> Self:
        order = np.lexsort((rows_N, hashes_N))
        is_first = np.ones(len(order), np.bool_)
        is_first[1:] = hashes_N[order][1:] != hashes_N[order][:-1]
        at = order[is_first][:most]
        return cls(most, hashes_N[at], rows_N[at], scores_N[at], groups_N[at], makers_N[at])

    def merged(self, other: Narrow) -> Narrow:
        """Both."""
        return Narrow._least(
            self.most,
            np.concatenate([self.hashes_N, other.hashes_N]),
            np.concatenate([self.rows_N, other.rows_N]),
            np.concatenate([self.scores_N, other.scores_N]),
            np.concatenate([self.groups_N, other.groups_N]),
            np.concatenate([self.makers_N, other.makers_N]),
        )

    @property
    def is_full(self) -> bool:
        """Whether the table may have more."""
        return len(self.hashes_N) == self.most


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of scores, those of the least hashes.

    Attributes:
        hashes_N: Rising.
        first_N: Scores of the first run.
        second_N: Of the second.
    """

    hashes_N: HashArray
    first_N: FloatArray
    second_N: FloatArray

    @classmethod
    def of(cls, hashes_N: HashArray, first_N: FloatArray, second_N: FloatArray) -> Self:
        """Picks; arguments as the attributes, in any order."""
        order = np.lexsort((second_N, first_N, hashes_N))[:MOST_PAIRS]
        return cls(hashes_N[order], first_N[order], second_N[order])

    def merged(self, other: Pairs) -> Pairs:
        """Both."""
        return Pairs.of(
            np.concatenate([self.hashes_N, other.hashes_N]),
            np.concatenate([self.first_N, other.first_N]),
            np.concatenate([self.second_N, other.second_N]),
        )


@dataclass(frozen=True, slots=True)
class Runs:
    """How the first run's scores differ from the second's.

    Attributes:
        counts: [4] rows that both scored, only the first, only the second, neither.
        first: Scores of the pairs in the first run.
        second: In the second.
        difference: Sum over the pairs of first less second.
        makers: Generator -> [G, 3] number of pairs, and sums of both scores; of at most
            :data:`~tokenfocus_ray.report.summary.MOST_MAKERS`.
        rose: Pairs whose score is most above the second run's.
        fell: Most below.
        pairs: Some, to rank.
    """

    counts: IntArray
    first: Binned
    second: Binned
    difference: float
    makers: dict[str, FloatArray]
    rose: Least
    fell: Least
    pairs: Pairs

    @classmethod
    def of(
        cls,
        hashes_N: HashArray,
        rows_N: IntArray,
        first_N: FloatArray,
        second_N: FloatArray,
        groups_N: IntArray,
        makers_N: NDArray[np.object_],
    ) -> Self:
        """Compares rows that stand side by side.

        Args:
            hashes_N: Of the sample ids.
            rows_N: Numbers in the first run's table.
            first_N: Scores; NaN where there is none.
            second_N: Likewise.
            groups_N: Groups of the prompts.
            makers_N: Generators' names.
        """
        has_first, has_second = np.isfinite(first_N), np.isfinite(second_N)
        state_N = np.where(
            has_first, np.where(has_second, BOTH, FIRST), np.where(has_second, SECOND, NEITHER)
        )
        both_N = state_N == BOTH
        a, b, h, r = first_N[both_N], second_N[both_N], hashes_N[both_N], rows_N[both_N]
        names, numbers_N = np.unique(makers_N[both_N].astype(str), return_inverse=True)
        sums = np.zeros((len(names), GROUPS, 3))
        for column, values in enumerate((np.ones_like(a), a, b)):
            np.add.at(sums[..., column], (numbers_N, groups_N[both_N]), values)
        moved = a - b
        return cls(
            counts=np.bincount(state_N, minlength=4).astype(np.int64),
            first=Binned.of(a),
            second=Binned.of(b),
            difference=float(moved.sum()),
            makers=_few({str(n): s for n, s in zip(names, sums, strict=True)}),
            rose=Least.of(MOVERS, np.where(moved > 0, -moved, np.nan), h, r),
            fell=Least.of(MOVERS, np.where(moved < 0, moved, np.nan), h, r),
            pairs=Pairs.of(h, a, b),
        )

    def merged(self, other: Runs) -> Runs:
        """Both."""
        makers = dict(self.makers)
        for name, sums in other.makers.items():
            makers[name] = makers[name] + sums if name in makers else sums
        return Runs(
            counts=self.counts + other.counts,
            first=self.first.merged(other.first),
            second=self.second.merged(other.second),
            difference=self.difference + other.difference,
            makers=_few(makers),
            rose=self.rose.merged(other.rose),
            fell=self.fell.merged(other.fell),
            pairs=self.pairs.merged(other.pairs),
        )

    @property
    def n(self) -> int:
        """Pairs."""
        return int(self.counts[BOTH])


@dataclass(frozen=True, slots=True)
class Shared:
    """What two tables have in common, by sample id.

    Attributes:
        runs: The comparison.
        only_first: Samples that the second table does not have.
        only_second: That the first does not have.
        is_sample: Whether all of this is of a sample of the ids.
    """

    runs: Runs
    only_first: int = 0
    only_second: int = 0
    is_sample: bool = False

    @classmethod
    def of(cls, first: Narrow, second: Narrow) -> Self:
        """Joins them by the hashes of their ids."""
        cuts = [one.hashes_N[-1] for one in (first, second) if one.is_full]
        cut = min(cuts, default=np.uint64(2**64 - 1))
        own, other = (one.hashes_N[one.hashes_N <= cut] for one in (first, second))
        _, a, b = np.intersect1d(own, other, assume_unique=True, return_indices=True)
        runs = Runs.of(
            first.hashes_N[a], first.rows_N[a], first.scores_N[a], second.scores_N[b],
            first.groups_N[a], first.makers_N[a],
        )  # fmt: skip
        return cls(runs, len(own) - len(a), len(other) - len(b), bool(cuts))


def _few(makers: dict[str, FloatArray]) -> dict[str, FloatArray]:
    kept = few_names(makers, MOST_MAKERS)
    return {name: sums for name, sums in makers.items() if name in kept}
