"""Scores and human labels -> one table to stack for the totals, one for the elements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tokenfocus_ray.ensemble.inputs import NEEDED, ScoreColumns
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation.labels import Label, elements_of
from tokenfocus_ray.schema import SCORE_SCHEMA
from tokenfocus_ray.tables.columns import require_columns, to_rows
from tokenfocus_ray.tables.features import ELEMENT, MEAN_ELEMENT, TOTAL
from tokenfocus_ray.tables.members import ScoreTableInfo
from tokenfocus_ray.tables.prompts import prompt_group

#: Columns of the tables made here, beside features and what passed through.
TARGET, GROUP = "label", "prompt"


@dataclass(frozen=True, slots=True)
class Labelled:
    """Scores next to labels.

    Attributes:
        total: A row a sample: ``label``, ``prompt`` (the group), features, what passed through.
        elements: A row an element likewise; without rows where there are no element labels.
        features: Columns of ``total`` that are stacked unless others are named; of ``elements``
            all but the label and the group are.
    """

    total: pa.Table
    elements: pa.Table
    features: tuple[str, ...]


def join_labels(tables: Mapping[str, pa.Table], labels: Mapping[str, Label]) -> Labelled:
    """One row for each labelled sample that every table has a score for.

    Args:
        tables: Where they come from -> score tables, such as one a backbone.
        labels: From :func:`~tokenfocus_ray.evaluation.labels.read_labels`.

    Returns:
        With several backbones a feature each (bagging), with one a feature a member; other columns
        of the first table are kept, so that scores of other tools can be stacked too.

    Raises:
        ManifestError: two tables have a feature of one name, no sample is scored in all of them
            and labelled, or elements do not line up.
    """
    each = {at: ScoreTableInfo.of(table.schema, at) for at, table in tables.items()}
    (where, first), *_ = tables.items()
    require_columns(first, ["prompt"], where)
    for at, table in tables.items():
        require_columns(table, NEEDED, at)
    places = {at: _scored(table) for at, table in tables.items()}
    wanted = [k for k in labels if all(k in of for of in places.values())]
    if not wanted:
        raise ManifestError(
            f"no sample_id is labelled, and scored in each of {', '.join(tables)}; score and label "
            f"the same manifest"
        )
    rows = {
        at: table.take(pa.array([places[at][k] for k in wanted], pa.int64()))
        for at, table in tables.items()
    }
    first = rows[where]
    groups = [prompt_group(text) for text in first["prompt"].to_pylist()]
    total: dict[str, Any] = {
        "sample_id": wanted, TARGET: [labels[k].total for k in wanted], GROUP: groups
    }  # fmt: skip
    element_labels = [np.asarray(labels[k].element_labels, np.float64) for k in wanted]
    counts = np.array([len(own) for own in element_labels], np.int64)
    elements: dict[str, Any] = {
        TARGET: np.concatenate([*element_labels, np.zeros(0)]), GROUP: np.repeat(groups, counts)
    }  # fmt: skip
    names: list[str] = []
    features: list[str] = []
    for at, table in rows.items():
        _check_elements(table, [labels[k] for k in wanted], at)
        columns = ScoreColumns.of(table, at)
        bags = list(each[at].bags) if len(tables) > 1 else each[at].stacked()
        for name in bags:
            if name in names:
                raise ManifestError(
                    f"{at}: an earlier table has scores of {name!r} too; score both in one job, "
                    f"under `backbones` with names of their own"
                )
        names += bags
        own, own_elements = columns.stacked(bags)
        features += own
        total |= own
        labelled_E = np.repeat(counts > 0, columns.counts_N)
        elements |= {feature: values[labelled_E] for feature, values in own_elements.items()}
    for name in first.column_names:
        if name in features:
            raise ManifestError(
                f"{where}: column {name!r} has the name of a feature of the members; rename it"
            )
        if name not in total and name not in SCORE_SCHEMA.names:
            total[name] = first[name]
    return Labelled(pa.table(total), pa.table(elements), tuple(features))


def join_out_of_fold(table: pa.Table, where: str) -> Labelled:
    """The same from a training run's ``oof.parquet``: members on prompts that they never saw.

    Args:
        table: See :func:`~tokenfocus_ray.training.oof.merge_out_of_fold`.
        where: The table, for messages.
    """
    require_columns(table, ["group", "label", "element_labels"], where)
    names = [n.removeprefix(TOTAL) for n in table.column_names if n.startswith(TOTAL)]
    labels: list[Any] = table["element_labels"].to_pylist()
    counts = np.array([len(own or ()) for own in labels], np.int64)
    groups = np.array(table["group"].to_pylist())
    flat = [np.nan if v is None else v for own in labels for v in own or ()]
    total: dict[str, Any] = {TARGET: table["label"], GROUP: groups}
    elements: dict[str, Any] = {
        TARGET: np.array(flat, np.float64), GROUP: np.repeat(groups, counts)
    }  # fmt: skip
    for name in names:
        scores: list[Any] = table[f"{ELEMENT}{name}"].to_pylist()
        each = [
            np.full(n, np.nan) if own is None else np.array(own, np.float64)
            for own, n in zip(scores, counts, strict=True)
        ]
        total[f"{TOTAL}{name}"] = table[f"{TOTAL}{name}"]
        elements[f"{ELEMENT}{name}"] = np.concatenate([*each, np.zeros(0)])
        total[f"{MEAN_ELEMENT}{name}"] = [v.mean() if len(v) else np.nan for v in each]
    features = [f"{kind}{name}" for kind in (TOTAL, MEAN_ELEMENT) for name in names]
    return Labelled(pa.table(total), pa.table(elements), tuple(features))


def _scored(table: pa.Table) -> dict[str, int]:
    """Where each sample with a score first stands."""
    found: dict[str, int] = {}
    keys: list[Any] = table["sample_id"].to_pylist()
    for i, (key, status) in enumerate(zip(keys, table["status"].to_pylist(), strict=True)):
        if status == "ok":
            found.setdefault(key, i)
    return found


def _check_elements(table: pa.Table, labels: list[Label], where: str) -> None:
    """Scores and labels of elements stand in the same order."""
    rows = to_rows(table, ("sample_id", "elements", "element_scores"))
    for row, label in zip(rows, labels, strict=True):
        if not label.elements:
            continue
        at = f"{where}: sample {row['sample_id']}"
        scored = len(row["element_scores"] or ())
        mine = elements_of(row, at) if "elements" in row else label.elements
        if scored != len(label.elements) or [e.text for e in mine] != [
            e.text for e in label.elements
        ]:
            raise ManifestError(
                f"{at}: {scored} element scores of {[e.text for e in mine]}, but the labels have "
                f"{[e.text for e in label.elements]}; score and label the same elements in the "
                f"same order"
            )
