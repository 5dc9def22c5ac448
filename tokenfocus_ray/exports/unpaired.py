"""Exports of single images: rewards, and tasks of those that the members dispute most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.exports.formats import label_studio, reward
from tokenfocus_ray.exports.scored_rows import ScoredRows, member_matrix

#: What a task is made of.
_SHOWN = ("id", "prompt", "image", "score", "members", "generator", "seed")


def rewards(rows: ScoredRows) -> Iterator[pa.Table]:
    """A reward for each row with a score, in the order of the table.

    Args:
        rows: Of the table; read twice where an ensemble made the scores, since the first time tells
            how its units follow the members'.
    """
    slope = 1.0
    if rows.has_intervals:
        for _ in rows.batches():
            pass
        slope = rows.facts.slope
        rows.facts.rows, rows.facts.scored = 0, 0
        rows.facts.unscored.clear()
    for table in rows.batches():
        columns: dict[str, Any] = {name: table[name] for name in table.column_names}
        yield reward.table_of(columns, member_matrix(table), slope)


def disputed(rows: ScoredRows, limit: int) -> list[dict[str, Any]]:
    """Label Studio's tasks of the images whose members' scores vary most, the most disputed first.

    Args:
        rows: Of the table.
        limit: Most tasks.

    Raises:
        ConfigError: there are no several members.
    """
    if rows.facts.members < 2 or rows.scored.info is None:
        raise ConfigError(
            f"label-studio: {rows.scored.where} has the scores of {rows.facts.members} member"
            f"{'s' * (rows.facts.members != 1)}, and only several can differ; score with several "
            f"members or backbones"
        )
    best: pa.Table | None = None
    info = rows.scored.info
    for table in rows.batches():
        apart_N = member_matrix(table).std(axis=1, ddof=1)
        own = table.select([*_SHOWN]).append_column("disagreement", pa.array(apart_N))
        both = own if best is None else pa.concat_tables([best, own])
        by: Any = [("disagreement", "descending"), ("id", "ascending")]
        best = both.sort_by(by).slice(0, limit).combine_chunks()
    if best is None:
        return []
    found: list[dict[str, Any]] = best.to_pylist()
    return [label_studio.task(row, info.members, info.scale) for row in found]
