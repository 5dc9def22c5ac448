"""Score tables and human labels -> one table to stack: a column a backbone, a row a sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation.labels import Label, require_columns
from tokenfocus_ray.schema import SCORE_SCHEMA

#: Columns of the table that :func:`join_labels` makes, beside features and what passed through.
TARGET, GROUP = "label", "prompt"


def bag_means(table: pa.Table, where: str) -> dict[str, list[float | None]]:
    """The features of a score table, by name.

    Of several backbones each is ``m_NAME``, the mean of its members (bagging); of one backbone each
    member is ``m_NAME``.

    Args:
        table: As `tokenfocus score` writes it.
        where: The table, for messages.

    Raises:
        ManifestError: its metadata does not name the members.
    """
    require_columns(table, ["sample_id", "member_scores"], where)
    metadata = table.schema.metadata or {}
    members = [m for m in metadata.get(b"tokenfocus.members", b"").decode().split(",") if m]
    if not members:
        raise ManifestError(
            f"{where}: the table's metadata names no members; give the output of `tokenfocus "
            f"score` as it was written, or any table by --table"
        )
    bags: dict[str, list[int]] = {}
    several = all("/" in member for member in members)
    for m, member in enumerate(members):
        bags.setdefault(member.partition("/")[0] if several else member, []).append(m)
    rows: list[Any] = table["member_scores"].to_pylist()
    return {
        f"m_{name}": [_mean([row[m] for m in own]) if row else None for row in rows]
        for name, own in bags.items()
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None and math.isfinite(v)]
    return math.fsum(known) / len(known) if known else None


def join_labels(tables: Mapping[str, pa.Table], labels: Mapping[str, Label]) -> pa.Table:
    """One row for each labelled sample that every table has.

    Args:
        tables: Where they come from -> score tables, such as one a backbone.
        labels: From :func:`~tokenfocus_ray.evaluation.labels.read_labels`.

    Returns:
        ``sample_id``, ``label``, ``prompt`` (the group), the features of :func:`bag_means`, and
        other columns of the first table, so that scores of other tools can be stacked too.

    Raises:
        ManifestError: two tables have a feature of one name, or no sample is in all of them and
            labelled.
    """
    features: dict[str, dict[str, float | None]] = {}
    ids: dict[str, int] = {}
    for where, table in tables.items():
        own: list[Any] = table["sample_id"].to_pylist()
        for name, values in bag_means(table, where).items():
            if name in features:
                raise ManifestError(
                    f"{where}: an earlier table has a column {name!r} too; score both backbones in "
                    f"one job, which gives them names of their own"
                )
            features[name] = dict(zip(own, values, strict=True))
        at = {key: i for i, key in enumerate(own)}
        ids = at if not ids else {key: i for key, i in ids.items() if key in at}
    (where, first), *_ = tables.items()
    require_columns(first, ["prompt"], where)
    wanted = [key for key in ids if key in labels]
    if not wanted:
        raise ManifestError(
            f"no sample_id is labelled and in each of {', '.join(tables)}; score and label the "
            f"same manifest"
        )
    kept = first.take(pa.array([ids[key] for key in wanted], pa.int64()))
    columns: dict[str, Any] = {
        "sample_id": wanted,
        TARGET: [labels[key].total for key in wanted],
        GROUP: [" ".join(str(text).casefold().split()) for text in kept["prompt"].to_pylist()],
    }
    columns |= {name: [values[key] for key in wanted] for name, values in features.items()}
    for name in kept.column_names:
        if name not in columns and name not in SCORE_SCHEMA.names:
            columns[name] = kept[name]
    return pa.table(columns)
