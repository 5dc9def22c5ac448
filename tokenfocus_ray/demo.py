"""What the demo trains with, and how it measures what came of it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.backbones.registry import BUILT_IN
from tokenfocus_ray.ensemble.apply import as_lists
from tokenfocus_ray.ensemble.inputs import ScoreColumns
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation import EvaluationReport, compare, evaluate_tables, read_labels
from tokenfocus_ray.schema import ENSEMBLE_COLUMNS
from tokenfocus_ray.tables.features import MEAN_ELEMENT, TOTAL, of_several
from tokenfocus_ray.tables.members import ScoreTableInfo, member_tables

BACKBONES = tuple(BUILT_IN)
BAGS = 3
#: What suits the built-in backbones; real ones take the defaults of ``TrainConfig``.
TRAINING: dict[str, Any] = {
    "bags": {"method": "kfold", "count": BAGS},
    "lora": {"rank": 16, "alpha": 32},
    "optimizer": {"epochs": 2, "batch_size": 8, "learning_rate": 2e-3},
    "parallel": 2,
}


def measure_demo(zero_shot: str, scores: str, labels: str) -> dict[str, Any]:
    """Base models, members, bag means and the ensemble, and how far it is ahead of a member."""
    truth, base, table = (pq.read_table(path) for path in (labels, zero_shot, scores))
    info = ScoreTableInfo.of(table.schema, scores)
    members = member_tables(table)
    metrics: dict[str, Any] = {}
    for one in info.backbones:
        name = one.name
        metrics[name] = {
            "zero_shot": _figures(member_tables(base)[of_several(name, "base")], truth),
            "members": {m: _figures(members[of_several(name, m)], truth) for m in one.members},
            "bag_mean": _figures(_of_bag(table, name, TOTAL), truth),
            "bag_mean_of_elements": _figures(_of_bag(table, name, MEAN_ELEMENT), truth),
        }
    known = read_labels(truth)
    keys: list[Any] = table["sample_id"].to_pylist()
    labels_N = [known[key].total for key in keys]

    def ahead_of(name: str, other: pa.Table) -> dict[str, Any]:
        mine, theirs = (t["score"].to_numpy() for t in (table, other))
        found = compare(mine, theirs, labels_N, table["prompt_id"].to_numpy())
        return {"name": name, **found.to_dict()}

    every = {
        of_several(name, m): own["srcc"]
        for name in metrics
        for m, own in metrics[name]["members"].items()
    }
    best = max(every, key=lambda name: every[name] or 0.0)
    bag = max(info.bags, key=lambda name: metrics[name]["bag_mean_of_elements"]["srcc"] or 0.0)
    return metrics | {
        "ensemble": _figures(table, truth),
        "ahead_of": {
            "best_member": ahead_of(best, members[best]),
            "best_bag_mean_of_elements": ahead_of(bag, _of_bag(table, bag, MEAN_ELEMENT)),
        },
    }


def _figures(scores: pa.Table, labels: pa.Table) -> dict[str, Any]:
    """A report with ``final``, the challenge's score as its script computes it."""
    report: EvaluationReport = evaluate_tables(scores, labels, intervals=False)
    return report.to_dict() | {"final": report.to_dict()["final_official"]}


def _of_bag(scores: pa.Table, name: str, total: str) -> pa.Table:
    """The table as if one backbone's members had scored alone.

    Args:
        scores: Of all backbones.
        name: Of one.
        total: ``TOTAL`` for the mean of their scores, ``MEAN_ELEMENT`` for their elements'.
    """
    columns = ScoreColumns.of(scores, "scores")
    table = scores.drop_columns(list(ENSEMBLE_COLUMNS))
    elements = as_lists(pa.array(columns.element(name)), columns.counts_N)
    if (score := columns.column(f"{total}{name}")) is None:
        raise ManifestError(
            f"the scores have no backbone {name!r}, but {', '.join(columns.info.bags)}; measure "
            f"what the demo scored"
        )
    for column, values in (("score", pa.array(score)), ("element_scores", elements)):
        table = table.set_column(table.column_names.index(column), column, values)
    return table
