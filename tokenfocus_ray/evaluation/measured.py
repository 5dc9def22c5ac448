"""What `tokenfocus evaluate` measures: columns of a score table, or of any table.

Legend: N rows with a score, A all rows of a table, R raters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tokenfocus_ray.errors import ManifestError, did_you_mean
from tokenfocus_ray.evaluation.join import (
    NEEDED_SCORE_COLUMNS,
    SCORE_COLUMNS,
    Elements,
    Joined,
    aligned,
    join_scores,
)
from tokenfocus_ray.evaluation.labels import read_labels, scale_of
from tokenfocus_ray.schema import ENSEMBLE_COLUMNS
from tokenfocus_ray.tables.columns import matching, numbers
from tokenfocus_ray.tables.members import ScoreTableInfo, member_table
from tokenfocus_ray.tables.prompts import prompt_groups
from tokenfocus_ray.tables.ratings import judge_ratings

if TYPE_CHECKING:
    from tokenfocus_ray.tables.columns import FloatArray

SCORE = "score"
_MEMBER_COLUMNS = ("member_scores", "member_element_scores")
_NO_NUMBER = "no_number"


@dataclass(frozen=True, slots=True)
class Measured:
    """Columns beside labels.

    Attributes:
        joined: The column that is measured.
        second: [N] the one it is compared with; None without one.
        members: Name -> [N] scores, where several members scored.
    """

    joined: Joined
    second: FloatArray | None
    members: dict[str, FloatArray]


def from_scores(
    scores: str, labels: str, column: str, against: str | None, encoding: str | None = None
) -> Measured:
    """A column of a score table beside its labels.

    Args:
        scores: Output folder of `tokenfocus score`, or a file of it.
        labels: Parquet or EvalMuse's JSON.
        column: ``score``, a column that passed through, or a member.
        against: Likewise, or another output folder, whose ``score`` is taken; None for none.
        encoding: Of the JSON; None: UTF-8.

    Raises:
        ManifestError: either side cannot be read, they do not fit together, or there is no such
            column.
    """
    from tokenfocus_ray.evaluation.labels import read_labels_table
    from tokenfocus_ray.tables.parquet import read_parquet

    wanted = [*SCORE_COLUMNS, *_MEMBER_COLUMNS]
    wanted += [name for name in (column, against) if name is not None and name not in wanted]
    table = read_parquet(scores, wanted, NEEDED_SCORE_COLUMNS)
    scale = scale_of(table.schema, scores)
    known = read_labels(read_labels_table(labels, encoding), labels, scale)

    def joined(table: pa.Table, source: str, on_scale: bool) -> Joined:
        return join_scores(
            _without_namesakes(table, source),
            known,
            scores_source=source,
            labels_source=labels,
            on_scale=on_scale,
            scale=scale,
        )

    def chosen(name: str, option: str) -> Joined:
        if name == SCORE or not {*NEEDED_SCORE_COLUMNS} <= {*table.column_names}:
            return joined(table, scores, True)  # which tells what is missing
        if name in table.column_names:
            return joined(_as_score(table, name, scores, option), scores, False)
        if name in members:
            return joined(member_table(table, name), scores, True)
        everything = read_parquet(scores, None, [name])  # its names, without a row
        raise _no_column(name, scores, option, [*everything.column_names, *members])

    # scores merged from several tables have left those of the members behind
    there = {*_MEMBER_COLUMNS} <= {*table.column_names}
    info = ScoreTableInfo.find(table.schema, scores)
    members = info.members if there and info is not None else ()
    found = chosen(column, "--column")
    second = None
    if against is not None:
        names = {*table.column_names, *members}
        if against not in names and ("://" in against or Path(against).exists()):
            other = read_parquet(against, SCORE_COLUMNS, NEEDED_SCORE_COLUMNS)
            second = aligned(found, joined(other, against, True))
        else:
            second = aligned(found, chosen(against, "--against"))
    each = {
        name: aligned(found, joined(member_table(table, name), scores, True))
        for name in (members if len(members) > 1 else ())
    }
    return Measured(found, second, each)


def _without_namesakes(table: pa.Table, where: str) -> pa.Table:
    """The table without columns that passed through a job under the names of an ensemble's."""
    info = ScoreTableInfo.find(table.schema, where)
    if info is None or info.ensemble is not None:
        return table
    return table.drop_columns([name for name in ENSEMBLE_COLUMNS if name in table.column_names])


def _as_score(table: pa.Table, column: str, where: str, option: str) -> pa.Table:
    """The table with another column as its score.

    Elements, intervals and failures are the score's own: the other goes without them.
    """
    values_A = _numbers(table, column, where, option)
    own = {"element_scores", "elements", "error_code", *ENSEMBLE_COLUMNS}
    table = table.drop_columns([name for name in table.column_names if name in own])
    missing = np.isnan(values_A)
    for name, values in (
        (SCORE, pa.array(values_A)),
        ("status", pa.array(np.where(missing, "unscored", "ok"))),
    ):
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return table.append_column("error_code", pa.array([_NO_NUMBER] * table.num_rows))


def from_table(
    table: pa.Table,
    where: str,
    *,
    target: str,
    column: str,
    against: str | None,
    group: str | None,
    label_range: tuple[float, float] | None,
) -> Measured:
    """Columns of any table.

    Args:
        table: A row an image; text that is no number is a missing value. Where they are there,
            ``generator`` is used, and with a column ``score`` its ``score_low``, ``score_high``.
        where: The table, for messages.
        target: The human label's column, or a pattern of raters' columns, whose mean is taken.
        column: What is measured.
        against: What it is compared with; None for nothing.
        group: Column of the prompt; None: each row stands for itself.
        label_range: As for :func:`~tokenfocus_ray.tables.ratings.judge_ratings`.

    Raises:
        ManifestError: a column is missing or holds no number.
    """
    raters = matching(table.column_names, target) or [target]
    ratings_AR = np.column_stack([_numbers(table, name, where, "--target") for name in raters])
    ratings = judge_ratings(ratings_AR, label_range)
    usable = np.isfinite(ratings_AR) & ~ratings.impossible
    n_ratings = usable.sum(axis=1)
    labels_A = np.full(table.num_rows, np.nan)
    np.divide(
        np.where(usable, ratings_AR, 0.0).sum(axis=1), n_ratings, labels_A, where=n_ratings > 0
    )
    scores_A = _numbers(table, column, where, "--column")
    kept = np.isfinite(scores_A)
    n_missing = int((~kept).sum())
    groups, notes = prompt_groups(_texts(table, group, where, kept))
    if ratings.impossible.any():
        notes = (*notes, ratings.described(ratings.impossible, ratings_AR))
    notes += ratings.notes
    ends = ("score_low", "score_high") if column == SCORE else ()
    lows, highs = (
        numbers(table[name])[kept] if name in ends and name in table.column_names
        else np.full(kept.sum(), np.nan)
        for name in ("score_low", "score_high")
    )  # fmt: skip
    makers = _texts(table, "generator" if "generator" in table.column_names else None, where, kept)
    joined = Joined(
        n_rows=table.num_rows,
        n_duplicates=0,
        unscored={_NO_NUMBER: n_missing} if n_missing else {},
        n_unlabelled=0,
        n_labels=table.num_rows,
        n_labels_without_row=0,
        keys=tuple(str(i) for i in np.flatnonzero(kept)),
        scores=scores_A[kept],
        labels=labels_A[kept],
        groups=groups,
        generators=tuple(str(maker) if maker else None for maker in makers),
        lows=lows,
        highs=highs,
        elements=Elements.of([]),
        on_scale=False,
        notes=notes,
        unusable="missing or impossible",
    )
    second = None if against is None else _numbers(table, against, where, "--against")[kept]
    return Measured(joined, second, {})


def _numbers(table: pa.Table, column: str, where: str, option: str) -> FloatArray:
    """[A] NaN where there is no number."""
    _require(table, column, where, option)
    values_A = numbers(table[column])
    if np.isnan(values_A).all():
        raise ManifestError(
            f"{where}: column {column!r} of {option} holds no number; name another column"
        )
    return values_A


def _texts(
    table: pa.Table,
    column: str | None,
    where: str,
    kept: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> list[object]:
    """Values of the rows kept; None for each where there is no column."""
    if column is None:
        return [None] * int(kept.sum())
    _require(table, column, where, "--group")
    return list(table[column].filter(pa.array(kept)).to_pylist())


def _require(table: pa.Table, column: str, where: str, option: str) -> None:
    if column not in table.column_names:
        raise _no_column(column, where, option, table.column_names)


def _no_column(column: str, where: str, option: str, known: Sequence[str]) -> ManifestError:
    near = did_you_mean(column, known)
    return ManifestError(f"{where}: there is no column {column!r} for {option}. {near}")
