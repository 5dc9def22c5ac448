"""Any table of scores -> features, labels and groups, checked; what is left out is said.

Legend: N rows, F feature columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokenfocus_ray.ensemble.features import Note, describe
from tokenfocus_ray.errors import ManifestError, did_you_mean
from tokenfocus_ray.tables.columns import FloatArray, matching, numbers
from tokenfocus_ray.tables.ratings import judge_ratings

#: Fewest rows and groups on which folds within folds make sense.
MIN_ROWS, MIN_GROUPS = 20, 5
MIN_FEATURES = 2


@dataclass(frozen=True, slots=True)
class StackTable:
    """What a stacker is trained on.

    Attributes:
        names: [F] of the feature columns.
        values: [N, F]; NaN where missing, refused or no number.
        labels: [N] finite.
        groups: [N] numbers.
        rows: [N] where the rows stood in the table.
        low: Of the labels' range.
        high: Likewise.
        notes: What was left out, turned, or noticed.
    """

    names: tuple[str, ...]
    values: FloatArray
    labels: FloatArray
    groups: NDArray[np.int64]
    rows: NDArray[np.int64]
    low: float
    high: float
    notes: tuple[Note, ...]

    def fingerprint(self) -> str:
        """Hash of features, labels and groups."""
        digest = hashlib.sha256(repr(self.names).encode())
        for array in (self.values, self.labels, self.groups):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


def read_stack_table(
    table: pa.Table,
    *,
    target: str,
    features: Sequence[str],
    group: str | None,
    label_range: tuple[float, float] | None,
    where: str,
    min_features: int = MIN_FEATURES,
) -> StackTable:
    """Takes features, labels and groups out of a table.

    Args:
        table: Columns of numbers; texts that are no numbers are missing values.
        target: The human label's column, or a pattern of raters' columns, whose mean is taken; see
            :func:`matching`.
        features: Names or patterns such as ``m_*``.
        group: Column whose equal values are never parted, the prompt; None: each row by itself.
        label_range: See :func:`~tokenfocus_ray.tables.ratings.judge_ratings`.
        where: The table, for messages.
        min_features: Fewest columns that vary and differ from each other.

    Raises:
        ManifestError: a column is missing, or there is too little to learn from.
    """
    raters = matching(table.column_names, target)
    for column, found_it in ((target, raters), (group, group in table.column_names)):
        if column and not found_it:
            near = did_you_mean(column, table.column_names)
            raise ManifestError(f"{where}: there is no column {column!r}. {near}")
    names = _features(table.column_names, features, {*raters, group}, where, min_features)
    ratings_NR = np.column_stack([numbers(table[name]) for name in raters])
    ratings = judge_ratings(ratings_NR, label_range)
    notes = [
        Note(name, ratings.described(bad, ratings_NR[:, r]))
        for r, name in enumerate(raters)
        if (bad := ratings.impossible[:, r]).any()
    ]
    notes += [Note(target, what) for what in ratings.notes]
    usable = np.isfinite(ratings_NR) & ~ratings.impossible
    keep = usable.any(axis=1)
    if not keep.all():
        notes.append(Note(target, f"{(~keep).sum()} rows without a usable label; left out"))
    counts = np.maximum(usable.sum(axis=1), 1)
    labels_N = np.where(usable, ratings_NR, 0.0).sum(axis=1) / counts
    groups_N = _groups(table, group, where)
    if group is None:
        notes.append(Note(target, "no group is given: rows are taken for independent"))
    values_NF = np.column_stack([numbers(table[name]) for name in names])
    empty = keep & np.isnan(values_NF).all(axis=1)
    if empty.any():
        notes.append(Note(target, f"{empty.sum()} rows have none of the features; left out"))
        keep &= ~empty
    values_NF, labels_N, groups_N = values_NF[keep], labels_N[keep], groups_N[keep]
    _check_enough(labels_N, groups_N, target, group, where)
    notes += describe(names, values_NF, labels_N)
    found = StackTable(
        tuple(names), values_NF, labels_N, groups_N, np.flatnonzero(keep), ratings.low,
        ratings.high, tuple(notes),
    )  # fmt: skip
    idle = {n.column for n in notes if n.what.endswith("left out")}
    if len(different := [name for name in names if name not in idle]) < min_features:
        raise ManifestError(
            f"{where}: of the feature columns only {different} vary and differ from each other; a "
            f"stacker needs {min_features}"
        )
    return found


def _features(
    columns: Sequence[str], patterns: Sequence[str], taken: set[str | None], where: str, fewest: int
) -> list[str]:
    others = [c for c in columns if c not in taken]
    names: dict[str, None] = {}
    for pattern in patterns:
        found = matching(others, pattern)
        if not found:
            near = did_you_mean(pattern, others)
            raise ManifestError(f"{where}: no column matches --features {pattern!r}. {near}")
        names.update(dict.fromkeys(found))
    if len(names) < fewest:
        raise ManifestError(
            f"{where}: --features {' '.join(patterns)} finds {list(names)} only; a stacker needs "
            f"{fewest} columns"
        )
    return list(names)


def _groups(table: pa.Table, group: str | None, where: str) -> NDArray[np.int64]:
    if group is None:
        return np.arange(table.num_rows)
    column = table[group]
    if column.null_count:
        raise ManifestError(
            f"{where}: column {group!r} is empty in {column.null_count} rows; every row needs its "
            f"group, or leave --group out"
        )
    _, numbers_N = np.unique(np.asarray(column.to_pylist(), dtype=str), return_inverse=True)
    return numbers_N.astype(np.int64)


def _check_enough(
    labels_N: FloatArray,
    groups_N: NDArray[np.int64],
    target: str,
    group: str | None,
    where: str,
) -> None:
    n_groups = len(np.unique(groups_N))
    if len(labels_N) < MIN_ROWS:
        raise ManifestError(
            f"{where}: {len(labels_N)} rows with a usable label in {target!r}; a stacker needs "
            f"{MIN_ROWS}"
        )
    if (labels_N == labels_N[0]).all():
        raise ManifestError(
            f"{where}: every label in {target!r} is {labels_N[0]:g}; there is nothing to learn"
        )
    if n_groups < MIN_GROUPS:
        raise ManifestError(
            f"{where}: column {group!r} has {n_groups} different values; a stacker is judged on "
            f"groups that it did not see, and needs {MIN_GROUPS}"
        )
