"""How well scores follow labels: every figure, with its reason where there is none."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tokenfocus_ray.evaluation.element_types import type_figures
from tokenfocus_ray.evaluation.elements import ElementFigures
from tokenfocus_ray.evaluation.figures import FIGURES
from tokenfocus_ray.evaluation.figures.figure import Evidence, Figure
from tokenfocus_ray.evaluation.generators import GeneratorFigures, generator_figures
from tokenfocus_ray.evaluation.join import Joined, join_scores
from tokenfocus_ray.evaluation.labels import read_labels, scale_of
from tokenfocus_ray.evaluation.resampling.bootstrap import too_few_groups
from tokenfocus_ray.evaluation.resampling.intervals import Interval, Resamples, used_groups


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """How well score rows follow human labels.

    A figure's value is an attribute too, and so is what it is over: ``report.srcc``,
    ``report.n_pairs``, ``report.official``.

    Attributes:
        n_rows: Score rows.
        n_duplicates: Rows left out because an earlier row has their sample id.
        n_scored: Distinct rows with a score.
        n_unscored: Distinct rows without one.
        unscored: Number of unscored rows for each error code.
        n_unlabelled: Scored rows whose sample id no label has.
        n_excluded: Scored rows whose total label is empty, NaN or out of range.
        n_labelled: Scored rows with a usable label, which the correlations are over.
        n_labels: Distinct samples in the labels.
        n_labels_without_row: Those of them that no score row has.
        n_groups: Prompts with a scored row and a usable label, which intervals resample.
        figures: Of all rows; see :data:`~tokenfocus_ray.evaluation.figures.FIGURES`.
        by_generator: Figures of each image generator, where generators are known.
        by_element_type: Figures of each type of element.
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
    n_groups: int
    figures: tuple[Figure, ...]
    by_generator: dict[str, GeneratorFigures]
    by_element_type: dict[str, ElementFigures]
    reasons: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        """The value of a figure, or one of its details."""
        # a copy that is being made has no figures yet
        for figure in () if name == "figures" else self.figures:
            if figure.name == name:
                return figure.value
            if name in figure.details:
                return figure.details[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def intervals(self) -> dict[str, Interval]:
        """Ends of 95 % intervals by name of the figure; empty unless asked for."""
        return {one.name: one.interval for one in self.figures if one.interval is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None, intervals keys such as ``srcc_low``."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            values |= self._figures() if field.name == "figures" else {
                field.name: getattr(self, field.name)
            }  # fmt: skip
        for name, (low, high) in self.intervals.items():
            values |= {f"{name}_low": low, f"{name}_high": high}
        plain: dict[str, Any] = _plain(values)
        return plain

    def _figures(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for one in self.figures:
            values |= one.details
            if "." not in one.name:  # else a detail has it
                values[one.name] = one.value
        return values


def evaluate_tables(
    scores: pa.Table,
    labels: pa.Table,
    *,
    scores_source: str = "scores",
    labels_source: str = "labels",
    intervals: bool = False,
) -> EvaluationReport:
    """Joins score rows with labels on the sample id and measures how well they agree.

    Args:
        scores: Columns ``sample_id``, ``status``, ``score``; optionally the others of
            :data:`~tokenfocus_ray.evaluation.join.SCORE_COLUMNS`.
        labels: See :func:`~tokenfocus_ray.evaluation.labels.read_labels`.
        scores_source: Where the scores come from, for messages.
        labels_source: Where the labels come from, for messages.
        intervals: Whether to resample prompts for 95 % intervals, which takes seconds.

    Returns:
        The report; rows that cannot be used are counted, never guessed.

    Raises:
        ManifestError: when columns are missing, no row joins, elements do not line up, or one
            sample has two different scores.
    """
    scale = scale_of(scores.schema, scores_source)
    joined = join_scores(
        scores,
        read_labels(labels, labels_source, scale),
        scores_source=scores_source,
        labels_source=labels_source,
        scale=scale,
    )
    return report_of(joined, intervals=intervals)


def report_of(joined: Joined, *, intervals: bool = False) -> EvaluationReport:
    """Measures how well joined scores and labels agree; see :func:`evaluate_tables`."""
    resamples = Resamples.of(joined) if intervals else None
    evidence = Evidence(joined, resamples, intervals=intervals)
    n_unscored, n_labelled = sum(joined.unscored.values()), len(evidence.scores)
    n_groups = len(used_groups(joined))
    report = EvaluationReport(
        n_rows=joined.n_rows,
        n_duplicates=joined.n_duplicates,
        n_scored=joined.n_rows - joined.n_duplicates - n_unscored,
        n_unscored=n_unscored,
        unscored=joined.unscored,
        n_unlabelled=joined.n_unlabelled,
        n_excluded=len(joined.scores) - n_labelled,
        n_labelled=n_labelled,
        n_labels=joined.n_labels,
        n_labels_without_row=joined.n_labels_without_row,
        n_groups=n_groups,
        figures=tuple(figure(evidence) for figure in FIGURES),
        by_generator=generator_figures(joined, resamples),
        by_element_type=type_figures(joined, resamples),
        reasons=(),
    )
    reasons = [*_counts(report, joined.unusable), *_of_figures(report.figures, joined.notes)]
    if intervals and resamples is None:
        reasons.append(f"intervals: {too_few_groups(n_groups)}")
    return dataclasses.replace(report, reasons=tuple(reasons))


def _counts(report: EvaluationReport, unusable: str) -> list[str]:
    counts = {
        "rows left out because an earlier row has their sample_id": report.n_duplicates,
        "rows unscored": report.n_unscored,
        "scored rows without a label": report.n_unlabelled,
        f"scored rows whose total label is {unusable}": report.n_excluded,
        "labels without a score row": report.n_labels_without_row,
        "elements without a score or a usable label": report.n_elements_excluded,
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def _of_figures(figures: Sequence[Figure], notes: Sequence[str]) -> list[str]:
    """Every reason once, and before those of pairs what is to be known of their prompts."""
    lines: list[str | None] = []
    for figure in figures:
        if figure.unit == "pairs":
            lines += notes
        lines.append(figure.reason)
    return list(dict.fromkeys(filter(None, lines)))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
