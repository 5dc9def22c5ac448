"""Scores beside human labels, for the page: the figures of ``tokenfocus evaluate``.

Labels are read whole, people having made them; of the scores only the rows that have one.

Legend: N rows with score and label.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation.join import NEEDED_SCORE_COLUMNS, SCORE_COLUMNS, Joined, join_scores
from tokenfocus_ray.evaluation.labels import read_labels, read_labels_table, scale_of
from tokenfocus_ray.evaluation.report import report_of
from tokenfocus_ray.report.cards import cut, number
from tokenfocus_ray.report.figures import LISTED, NAME
from tokenfocus_ray.schema import ENSEMBLE_COLUMNS
from tokenfocus_ray.tables.parquet import read_parquet

#: Stretches of the scores whose mean labels are shown, each of as many rows.
STRETCHES = 8


def agreement(scores: str, scored: ScoredTable, labels: str) -> dict[str, Any]:
    """Measures how well scores follow labels, with 95 % intervals.

    Args:
        scores: The score table, as the user named it.
        scored: The same, opened.
        labels: Parquet or EvalMuse's JSON; local or in a store.

    Raises:
        ManifestError: the labels cannot be read, or do not fit the scores.
    """
    scale = scale_of(scored.rows.schema, scored.where)
    known = read_labels(read_labels_table(labels), labels, scale)
    table = read_parquet(scores, SCORE_COLUMNS, NEEDED_SCORE_COLUMNS, list(known))
    if not table.num_rows and known and scored.n_rows:
        head = next(scored.read(["sample_id"], 0, 1))["sample_id"].to_pylist()
        raise ManifestError(
            f"no sample_id of {scored.where} (first: {head[0]!r}) is in {labels} (first: "
            f"{next(iter(known))!r}); score and label the same manifest, or give both the same "
            f"sample_id"
        )
    if scored.info is not None and scored.info.ensemble is None:  # namesakes that passed through
        table = table.drop_columns([n for n in ENSEMBLE_COLUMNS if n in table.column_names])
    joined = join_scores(
        table, known, scores_source=scored.where, labels_source=labels, scale=scale
    )
    report = report_of(joined, intervals=True)
    makers: list[dict[str, Any]] = [
        {
            "name": cut(name, NAME), "n": own.n, "score": number(own.mean_score, 3),
            "label": number(own.mean_label, 3), "low": number(own.mean_label_low, 3),
            "high": number(own.mean_label_high, 3), "srcc": number(own.srcc, 3),
        }
        for name, own in report.by_generator.items()
    ]  # fmt: skip
    makers.sort(key=lambda row: (-(row["label"] or 0), row["name"]))
    return {
        "where": cut(labels, NAME),
        "labels": report.n_labels,
        "labelled": report.n_labelled,
        "prompts": report.n_groups,
        "figures": [
            {
                "title": one.title, "value": number(one.value, 4), "low": number(one.low, 4),
                "high": number(one.high, 4), "n": one.n, "unit": one.unit,
            }
            for one in report.figures
            if one.n or not one.optional
        ],
        "makers": makers[:LISTED],
        "others": max(0, len(makers) - LISTED),
        "stretches": stretches(joined),
        "scale": list(scale),
        "reasons": [cut(reason, 400) for reason in report.reasons],
    }  # fmt: skip


def stretches(joined: Joined) -> list[dict[str, Any]]:
    """Rows by score, in stretches of as many: mean score and mean label of each."""
    known_N = np.isfinite(joined.labels)
    order = np.argsort(joined.scores[known_N], kind="stable")
    if not len(order):
        return []
    scores_N, labels_N = joined.scores[known_N][order], joined.labels[known_N][order]
    parts = np.array_split(np.arange(len(order)), min(STRETCHES, len(order)))
    return [
        {
            "from": number(scores_N[own].min(), 3), "to": number(scores_N[own].max(), 3),
            "n": len(own), "score": number(scores_N[own].mean(), 3),
            "label": number(labels_N[own].mean(), 3),
        }
        for own in parts
    ]  # fmt: skip
