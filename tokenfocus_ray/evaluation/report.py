"""Score rows against labels: joined on the sample id, counted, correlated."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation.challenge import (
    ChallengeScore,
    ElementAccuracy,
    challenge_score,
    element_accuracy,
)
from tokenfocus_ray.evaluation.correlation import Correlations, correlations
from tokenfocus_ray.evaluation.labels import (
    Label,
    elements_of,
    read_labels,
    require_columns,
    to_rows,
)

#: What is read of a table of score rows, as far as it is there.
SCORE_COLUMNS = (
    "sample_id",
    "status",
    "error_code",
    "score",
    "element_scores",
    "elements",
    "generator",
)
NEEDED_SCORE_COLUMNS = ("sample_id", "status", "score")
UNTYPED = "(untyped)"

# Scores of one sample in one run differ by rounding only; more means two runs in one place.
_SAME_SCORE = 1e-2


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """How well score rows follow human labels.

    Attributes:
        n_rows: Score rows.
        n_duplicates: Rows left out because an earlier row has their sample id.
        n_scored: Distinct rows with a score.
        n_unscored: Distinct rows without one.
        unscored: Number of unscored rows for each error code.
        n_unlabelled: Scored rows whose sample id no label has.
        n_excluded: Scored rows whose total label is empty, NaN or out of 1..5.
        n_labelled: Scored rows with a usable label, which the correlations are over.
        n_labels: Distinct samples in the labels.
        n_labels_without_row: Those of them that no score row has.
        srcc: Spearman's rank correlation.
        plcc: Pearson's correlation without a fit.
        krcc: Kendall's tau-b.
        element_accuracy: Micro accuracy over elements, in 0..1.
        n_elements: Elements it is over.
        n_elements_excluded: Elements without a score, or with an empty or impossible label.
        official: The challenge's score as its script computes it.
        corrected: The challenge's score with the fit from prediction to label.
        by_generator: Correlations for each image generator, where a ``generator`` column exists.
        by_element_type: Accuracy for each type of element.
        reasons: Why numbers are NaN or rows are missing; empty where all is well.
    """

    n_rows: int
    n_duplicates: int
    n_scored: int
    n_unscored: int
    unscored: dict[str, int]
    n_unlabelled: int
    n_excluded: int
    n_labelled: int
    n_labels: int
    n_labels_without_row: int
    srcc: float
    plcc: float
    krcc: float
    element_accuracy: float
    n_elements: int
    n_elements_excluded: int
    official: ChallengeScore
    corrected: ChallengeScore
    by_generator: dict[str, Correlations]
    by_element_type: dict[str, ElementAccuracy]
    reasons: tuple[str, ...]

    @property
    def final_official(self) -> float:
        """The challenge's final score as its script computes it."""
        return self.official.final_score

    @property
    def final_corrected(self) -> float:
        """The challenge's final score with the fit from prediction to label."""
        return self.corrected.final_score

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        plain["final_official"] = _plain(self.final_official)
        plain["final_corrected"] = _plain(self.final_corrected)
        return plain


def evaluate_scores(
    scores: pa.Table,
    labels: pa.Table,
    *,
    scores_source: str = "scores",
    labels_source: str = "labels",
) -> EvaluationReport:
    """Joins score rows with labels on the sample id and measures how well they agree.

    Args:
        scores: Columns ``sample_id``, ``status``, ``score``; optionally ``error_code``,
            ``element_scores``, ``elements`` and ``generator`` (:data:`schema.SCORE_SCHEMA` and what
            passed through).
        labels: See :func:`~tokenfocus_ray.evaluation.labels.read_labels`.
        scores_source: Where the scores come from, for messages.
        labels_source: Where the labels come from, for messages.

    Returns:
        The report; rows that cannot be used are counted, never guessed.

    Raises:
        ManifestError: when columns are missing, no row joins, elements do not line up, or one
            sample has two different scores.
    """
    require_columns(scores, NEEDED_SCORE_COLUMNS, scores_source)
    known = read_labels(labels, labels_source)
    rows = _distinct(to_rows(scores, SCORE_COLUMNS), scores_source)
    _check_joins(list(rows), list(known), scores_source, labels_source)

    unscored: Counter[str] = Counter()
    n_unlabelled = 0
    totals: list[tuple[float, float]] = []
    by_generator: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    elements: list[tuple[float, float]] = []
    by_type: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for key, row in rows.items():
        if not _is_scored(row):
            unscored[row.get("error_code") or "score_not_finite"] += 1
            continue
        label = known.get(key)
        if label is None:
            n_unlabelled += 1
            continue
        totals.append((row["score"], label.total))
        generator = label.generator or row.get("generator")
        if generator:
            by_generator[str(generator)].append(totals[-1])
        for element, pair in zip(
            label.elements,
            _element_pairs(row, label, f"{scores_source}: sample {key}"),
            strict=True,
        ):
            elements.append(pair)
            by_type[element.type or UNTYPED].append(pair)

    total = correlations(*_columns(totals))
    accuracy = element_accuracy(*_columns(elements))
    sides = (*_columns(totals), *_columns(elements))
    official, corrected = (challenge_score(*sides, variant=v) for v in ("official", "corrected"))
    n_unscored = sum(unscored.values())
    report = EvaluationReport(
        n_rows=scores.num_rows,
        n_duplicates=scores.num_rows - len(rows),
        n_scored=len(rows) - n_unscored,
        n_unscored=n_unscored,
        unscored=dict(sorted(unscored.items())),
        n_unlabelled=n_unlabelled,
        n_excluded=total.n_dropped,
        n_labelled=total.n,
        n_labels=len(known),
        n_labels_without_row=len(known.keys() - rows.keys()),
        srcc=total.srcc,
        plcc=total.plcc,
        krcc=total.krcc,
        element_accuracy=accuracy.accuracy,
        n_elements=accuracy.n,
        n_elements_excluded=accuracy.n_dropped,
        official=official,
        corrected=corrected,
        by_generator={k: correlations(*_columns(v)) for k, v in sorted(by_generator.items())},
        by_element_type={k: element_accuracy(*_columns(v)) for k, v in sorted(by_type.items())},
        reasons=(),
    )
    return dataclasses.replace(report, reasons=tuple(_reasons(report)))


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


def _element_pairs(row: dict[str, Any], label: Label, where: str) -> list[tuple[float, float]]:
    """[E] pairs of element score and label; aligned by position, checked by text."""
    if not label.elements:  # labels of the total score only
        return []
    scores = row.get("element_scores") or [math.nan] * len(label.elements)
    if len(scores) != len(label.elements):
        raise ManifestError(
            f"{where}: {len(scores)} element scores, but {len(label.elements)} labelled elements; "
            "score and label the same elements in the same order"
        )
    for index, (mine, theirs) in enumerate(
        zip(elements_of(row, where), label.elements, strict=False)
    ):
        if mine.text != theirs.text:
            raise ManifestError(
                f"{where}: element {index} is {mine.text!r}, but {theirs.text!r} in the labels; "
                "score and label the same elements in the same order"
            )
    missing = (math.nan if score is None else score for score in scores)
    return list(zip(missing, label.element_labels, strict=True))


def _columns(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _reasons(report: EvaluationReport) -> list[str]:
    counts = {
        "rows left out because an earlier row has their sample_id": report.n_duplicates,
        "rows unscored": report.n_unscored,
        "scored rows without a label": report.n_unlabelled,
        "scored rows whose total label is empty or out of 1..5": report.n_excluded,
        "labels without a score row": report.n_labels_without_row,
        "elements without a score or a usable label": report.n_elements_excluded,
    }
    reasons = [f"{count} {what}" for what, count in counts.items() if count]
    official, corrected = report.official.reason, report.corrected.reason
    whys = (
        {"both fits": official}
        if official == corrected
        else {"official fit": official, "corrected fit": corrected}
    )
    return reasons + [f"challenge score, {which}: {why}" for which, why in whys.items() if why]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
