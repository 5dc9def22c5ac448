"""The columns to stack that a score table has; see :mod:`~tokenfocus_ray.tables.features`.

Legend: N rows, M members, E elements of all rows together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.tables.columns import FloatArray, require_columns
from tokenfocus_ray.tables.features import ELEMENT, MEAN_ELEMENT, TOTAL
from tokenfocus_ray.tables.members import ScoreTableInfo

#: What is read of a score table.
NEEDED = ("sample_id", "status", "member_scores", "element_scores", "member_element_scores")


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """The numbers of a score table.

    Attributes:
        info: Who scored it.
        total_NM: Expected scores; NaN where unscored.
        element_EM: Expected scores of the elements, row after row; likewise.
        counts_N: Number of elements of each row.
    """

    info: ScoreTableInfo
    total_NM: FloatArray
    element_EM: FloatArray
    counts_N: NDArray[np.int64]

    @classmethod
    def of(cls, table: pa.Table, where: str) -> Self:
        """Takes them out of a score table.

        Args:
            table: As `tokenfocus score` writes it.
            where: The table, for messages.

        Raises:
            ManifestError: a column is missing, or lists have other lengths than there are members.
        """
        require_columns(table, NEEDED, where)
        info = ScoreTableInfo.of(table.schema, where)
        counts, _ = _lists(table["element_scores"])
        lengths, values = _lists(table["member_scores"])
        n_members = len(info.members)
        total = _matrix(lengths, values, n_members, where)
        outer, inner = _lists(table["member_element_scores"])
        _, flat = _lists(inner)
        element = np.full((int(counts.sum()), n_members), np.nan)
        scored = outer == n_members
        if (outer[~scored] > 0).any() or len(flat) != n_members * counts[scored].sum():
            raise ManifestError(_uneven(where, n_members))
        # of a row, member after member; wanted element after element
        wide = np.repeat(scored, counts)
        sizes = counts[scored]
        starts = np.repeat(n_members * (np.cumsum(sizes) - sizes), sizes)
        places = np.arange(len(starts)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        steps = np.repeat(sizes, sizes)
        numbers = _floats(flat)
        for m in range(n_members):
            element[wide, m] = numbers[starts + m * steps + places]
        return cls(info, total, element, counts)

    def total(self, name: str) -> FloatArray:
        """[N] of a member or backbone; of what some members could not score, by the others."""
        return _mean(self.total_NM[:, self.info.places()[name]])

    def element(self, name: str) -> FloatArray:
        """[E] likewise."""
        return _mean(self.element_EM[:, self.info.places()[name]])

    def mean_element(self, name: str) -> FloatArray:
        """[N] mean over each row's elements; NaN where it has none, or one is unscored."""
        rows_E = np.repeat(np.arange(len(self.counts_N)), self.counts_N)
        sums = np.bincount(rows_E, weights=self.element(name), minlength=len(self.counts_N))
        return np.where(self.counts_N > 0, sums / np.maximum(self.counts_N, 1), np.nan)

    def all_finite(self, values_EF: FloatArray) -> NDArray[np.bool_]:
        """[N] whether the values of all of a row's elements are finite; so where it has none."""
        rows_E = np.repeat(np.arange(len(self.counts_N)), self.counts_N)
        bad_E = ~np.isfinite(values_EF).all(axis=1)
        good_N: NDArray[np.bool_] = np.bincount(rows_E[bad_E], minlength=len(self.counts_N)) == 0
        return good_N

    def stacked(self, names: Sequence[str]) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        """Columns to stack for the total [N], and for the elements [E].

        Args:
            names: Members or backbones, from :meth:`ScoreTableInfo.stacked`.
        """
        total = {f"{TOTAL}{n}": self.total(n) for n in names}
        total |= {f"{MEAN_ELEMENT}{n}": self.mean_element(n) for n in names}
        return total, {f"{ELEMENT}{n}": self.element(n) for n in names}

    def column(self, feature: str) -> FloatArray | None:
        """[N] (``m_``, ``elements_``) or [E] (``e_``) of a feature by name; None if not here."""
        ways = {TOTAL: self.total, ELEMENT: self.element, MEAN_ELEMENT: self.mean_element}
        for prefix, way in ways.items():
            name = feature.removeprefix(prefix)
            if name != feature and name in self.info.places():
                return way(name)
        return None


def _lists(column: Any) -> tuple[NDArray[np.int64], Any]:
    """[N] lengths of a column of lists, null as empty, and all their values."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64), column.flatten()


def _floats(values: Any) -> FloatArray:
    found: FloatArray = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found


def _matrix(lengths: NDArray[np.int64], values: Any, width: int, where: str) -> FloatArray:
    found = np.full((len(lengths), width), np.nan)
    full = lengths == width
    if (lengths[~full] > 0).any():
        raise ManifestError(_uneven(where, width))
    found[full] = _floats(values).reshape(-1, width)
    return found


def _uneven(where: str, members: int) -> str:
    return (
        f"{where}: a row has lists of another length than the {members} members that the table's "
        f"metadata names; give the output of one scoring job as it was written"
    )


def _mean(values_NM: FloatArray) -> FloatArray:
    known = np.isfinite(values_NM)
    total = np.where(known, values_NM, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)
