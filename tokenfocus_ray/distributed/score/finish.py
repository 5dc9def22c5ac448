"""The rows as they are written: columns that pass through, then one set of score columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from tokenfocus_ray.datasets.manifest import Columns, passthrough
from tokenfocus_ray.schema import SCORE_SCHEMA, ScoreRow
from tokenfocus_ray.scoring.wire import ID, rows_to_table, scores_column, structs
from tokenfocus_ray.tables.members import ScoreTableInfo


def finish_rows(table: pa.Table, columns: Columns, backbones: Sequence[str]) -> pa.Table:
    """Passthrough columns and score columns, one row out for each row in.

    Args:
        table: With the score rows of all backbones.
        columns: Which column is what.
        backbones: Their names.
    """
    names = [scores_column(i) for i in range(len(backbones))]
    infos = [ScoreTableInfo.of(table.schema.field(name), name) for name in names]
    if len(backbones) == 1:
        (scores,), (info,) = _flat(table, names), infos
    else:
        members = [info.members for info in infos]
        each = [[ScoreRow(**row) for row in t.to_pylist()] for t in _flat(table, names)]
        rows = [
            combine(dict(zip(backbones, r, strict=True)), members) for r in zip(*each, strict=True)
        ]
        named = (own.named(name) for name, own in zip(backbones, infos, strict=True))
        scores, info = rows_to_table(rows), ScoreTableInfo.joined(named)
    given = [n for n in table.column_names if n != ID and n not in names]
    renamed = passthrough(given, columns)
    kept = table.select(list(renamed)).rename_columns(list(renamed.values()))
    for field, column in zip(scores.schema, scores.columns, strict=True):
        kept = kept.append_column(field, column)
    return kept.replace_schema_metadata(dict(info.to_metadata()))


def combine(rows: Mapping[str, ScoreRow], members: Sequence[Sequence[str]]) -> ScoreRow:
    """One row of several backbones': means of their scores, their members one after another.

    Where some backbones scored the row and others did not, the row is unscored, with the first
    reason; the scores of those that did stand among the members', NaN for the others.

    Args:
        rows: Backbone -> its row of one sample.
        members: Names of each backbone's members.
    """
    each = list(rows.values())
    failed = {name: row for name, row in rows.items() if row.status != "ok"}
    first = next(iter(failed.values()), each[0])
    if len(failed) == len(each):
        return first
    known = next(row for row in each if row.status == "ok")
    merged: dict[str, Any] = {}
    for name, nothing in {
        "member_scores": math.nan,
        "level_probs": [math.nan] * len(known.level_probs[0] if known.level_probs else ()),
        "level_mass": math.nan,
        "entropy": math.nan,
        "member_element_scores": [math.nan] * len(known.element_scores),
    }.items():
        merged[name] = []
        for row, its in zip(each, members, strict=True):
            merged[name] += getattr(row, name) if row.status == "ok" else [nothing] * len(its)
    elements = zip(*(row.element_scores for row in each), strict=True)
    message = first.error_message
    return replace(
        known,
        status=first.status,
        error_code=first.error_code,
        error_message=f"backbone {next(iter(failed))}: {message}" if failed else message,
        score=_mean([row.score for row in each]),
        element_scores=[_mean(scores) for scores in elements],
        **merged,
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _flat(table: pa.Table, names: Sequence[str]) -> list[pa.Table]:
    each = [structs(table[name]) for name in names]
    return [
        pa.table([scores.field(f.name) for f in SCORE_SCHEMA], schema=SCORE_SCHEMA)
        for scores in each
    ]
