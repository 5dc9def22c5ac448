"""Score rows beside their labels: joined on the sample id, aligned, counted.

Legend: N scored rows, E elements of labelled rows together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation.labels import TOTAL_RANGE, Label, elements_of
from tokenfocus_ray.tables.columns import FloatArray, require_columns, to_rows
from tokenfocus_ray.tables.prompts import prompt_groups

#: What is read of a table of score rows, as far as it is there.
SCORE_COLUMNS = (
    "sample_id",
    "status",
    "error_code",
    "prompt",
    "score",
    "score_low",
    "score_high",
    "element_scores",
    "element_present",
    "elements",
    "generator",
)
NEEDED_SCORE_COLUMNS = ("sample_id", "status", "score")
UNTYPED = "(untyped)"

# Scores of one sample in one run differ by rounding only; more means two runs in one place.
_SAME_SCORE = 1e-2


@dataclass(frozen=True, slots=True)
class Elements:
    """Elements of the scored and labelled rows.

    Attributes:
        rows: [E] the row of each.
        types: [E] what kind of element it is.
        scores: [E] in 0..1; NaN where unscored.
        labels: [E] in 0..1; NaN where unlabelled.
        present: [E] the table's own decisions, 0 or 1; NaN where there are none.
    """

    rows: NDArray[np.int64]
    types: tuple[str, ...]
    scores: FloatArray
    labels: FloatArray
    present: FloatArray

    @classmethod
    def of(cls, found: Sequence[tuple[int, str, float, float, float]]) -> Elements:
        """From one tuple of all five for each element."""
        rows, types, *sides = zip(*found, strict=True) if found else ((), (), (), (), ())
        scores, labels, present = (np.array(side, np.float64) for side in sides)
        return cls(np.array(rows, np.int64), types, scores, labels, present)


@dataclass(frozen=True, slots=True)
class Joined:
    """Scores beside labels, and what did not fit together.

    Attributes:
        n_rows: Rows of scores.
        n_duplicates: Rows left out because an earlier one has their sample id.
        unscored: Number of distinct rows without a score, for each error code.
        n_unlabelled: Scored rows whose sample id no label has.
        n_labels: Distinct samples in the labels.
        n_labels_without_row: Those of them that no row of scores has.
        keys: [N] sample ids of the rows with a score and an entry in the labels.
        scores: [N] finite.
        labels: [N] NaN where the label is not usable.
        groups: [N] numbers of the prompts, from 0.
        generators: [N] who made the image; None where unknown.
        lows: [N] lower ends of the scores' intervals; NaN where there are none.
        highs: [N] upper ends.
        elements: Of these rows.
        on_scale: Whether the scores are known to be on the labels' scale.
        notes: What is to be known of the groups.
        unusable: What a label is that is not usable.
    """

    n_rows: int
    n_duplicates: int
    unscored: dict[str, int]
    n_unlabelled: int
    n_labels: int
    n_labels_without_row: int
    keys: tuple[str, ...]
    scores: FloatArray
    labels: FloatArray
    groups: NDArray[np.int64]
    generators: tuple[str | None, ...]
    lows: FloatArray
    highs: FloatArray
    elements: Elements
    on_scale: bool
    notes: tuple[str, ...] = ()
    unusable: str = "empty"


def join_scores(
    scores: pa.Table,
    known: Mapping[str, Label],
    *,
    scores_source: str = "scores",
    labels_source: str = "labels",
    on_scale: bool = True,
    scale: tuple[float, float] = TOTAL_RANGE,
) -> Joined:
    """Joins score rows with labels on the sample id.

    Args:
        scores: Columns ``sample_id``, ``status``, ``score``; optionally the others of
            :data:`SCORE_COLUMNS`.
        known: From :func:`~tokenfocus_ray.evaluation.labels.read_labels`.
        scores_source: Where the scores come from, for messages.
        labels_source: Where the labels come from, for messages.
        on_scale: Whether the scores are known to be on the labels' scale.
        scale: What the labels were read with, for messages.

    Raises:
        ManifestError: when columns are missing, no row joins, elements do not line up, or one
            sample has two different scores.
    """
    require_columns(scores, NEEDED_SCORE_COLUMNS, scores_source)
    rows = _distinct(to_rows(scores, SCORE_COLUMNS), scores_source)
    _check_joins(list(rows), list(known), scores_source, labels_source)

    unscored: Counter[str] = Counter()
    n_unlabelled = 0
    kept: dict[str, tuple[dict[str, Any], Label]] = {}
    elements: list[tuple[int, str, float, float, float]] = []
    for key, row in rows.items():
        if not _is_scored(row):
            unscored[row.get("error_code") or "score_not_finite"] += 1
        elif key not in known:
            n_unlabelled += 1
        else:
            elements += _elements(len(kept), row, known[key], f"{scores_source}: sample {key}")
            kept[key] = row, known[key]
    prompts = [label.prompt or row.get("prompt") for row, label in kept.values()]
    groups, notes = prompt_groups(prompts)
    makers = [label.generator or row.get("generator") for row, label in kept.values()]
    return Joined(
        n_rows=scores.num_rows,
        n_duplicates=scores.num_rows - len(rows),
        unscored=dict(sorted(unscored.items())),
        n_unlabelled=n_unlabelled,
        n_labels=len(known),
        n_labels_without_row=len(known.keys() - rows.keys()),
        keys=tuple(kept),
        scores=_floats([row["score"] for row, _ in kept.values()]),
        labels=_floats([label.total for _, label in kept.values()]),
        groups=groups,
        generators=tuple(str(maker) if maker else None for maker in makers),
        lows=_floats([row.get("score_low") for row, _ in kept.values()]),
        highs=_floats([row.get("score_high") for row, _ in kept.values()]),
        elements=Elements.of(elements),
        on_scale=on_scale,
        notes=notes,
        unusable=f"empty or out of {scale[0]:g}..{scale[1]:g}",
    )


def aligned(first: Joined, second: Joined) -> FloatArray:
    """[N of the first] scores of the second for the same samples; NaN where it has none."""
    others = dict(zip(second.keys, second.scores, strict=True))
    return np.array([others.get(key, math.nan) for key in first.keys], np.float64)


def _floats(values: Sequence[float | None]) -> FloatArray:
    return np.array([math.nan if v is None else v for v in values], np.float64)


def _distinct(rows: list[dict[str, Any]], source: str) -> dict[str, dict[str, Any]]:
    distinct: dict[str, dict[str, Any]] = {}
    for row in rows:
        first = distinct.setdefault(row["sample_id"], row)
        if first is row or not (_is_scored(first) and _is_scored(row)):
            continue
        if abs(first["score"] - row["score"]) > _SAME_SCORE:
            raise ManifestError(
                f"{source}: sample {row['sample_id']} has two scores, {first['score']:.4f} and "
                f"{row['score']:.4f}; evaluate one run at a time"
            )
    return distinct


def _check_joins(scored: list[str], labelled: list[str], source: str, labels_source: str) -> None:
    for ids, name in ((scored, source), (labelled, labels_source)):
        if not ids:
            raise ManifestError(f"{name}: no rows; there is nothing to evaluate")
    if not set(scored).intersection(labelled):
        raise ManifestError(
            f"no sample_id of {source} (first: {scored[0]!r}) is in {labels_source} (first: "
            f"{labelled[0]!r}); score and label the same manifest, or give both the same sample_id"
        )


def _is_scored(row: dict[str, Any]) -> bool:
    return row["status"] == "ok" and row["score"] is not None and math.isfinite(row["score"])


def _elements(
    index: int, row: dict[str, Any], label: Label, where: str
) -> list[tuple[int, str, float, float, float]]:
    """Those of a row, as :meth:`Elements.of` takes them; aligned by position, checked by text."""
    if not label.elements:  # labels of the total score only
        return []
    columns = []
    for name, what in (("element_scores", "scores"), ("element_present", "decisions")):
        values = row.get(name) or [None] * len(label.elements)
        if len(values) != len(label.elements):
            raise ManifestError(
                f"{where}: {len(values)} element {what}, but {len(label.elements)} labelled "
                "elements; score and label the same elements in the same order"
            )
        columns.append([math.nan if value is None else float(value) for value in values])
    for i, (mine, theirs) in enumerate(zip(elements_of(row, where), label.elements, strict=False)):
        if mine.text != theirs.text:
            raise ManifestError(
                f"{where}: element {i} is {mine.text!r}, but {theirs.text!r} in the labels; "
                "score and label the same elements in the same order"
            )
    scores, present = columns
    kinds = [element.type or UNTYPED for element in label.elements]
    return [
        (index, *found) for found in zip(kinds, scores, label.element_labels, present, strict=True)
    ]
