"""How well scores follow labels: every figure, with its reason where there is none."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tokenfocus_ray.evaluation.challenge import ChallengeScore, challenge_score
from tokenfocus_ray.evaluation.correlation import correlations
from tokenfocus_ray.evaluation.elements import ElementFigures, element_figures
from tokenfocus_ray.evaluation.generators import GeneratorFigures, generator_figures
from tokenfocus_ray.evaluation.join import Joined, join_scores
from tokenfocus_ray.evaluation.labels import read_labels, scale_of
from tokenfocus_ray.evaluation.pairwise import accuracy_of, pairs_within
from tokenfocus_ray.evaluation.reliability import calibration_error, coverage, other_scale
from tokenfocus_ray.evaluation.resampling.bootstrap import too_few_groups
from tokenfocus_ray.evaluation.resampling.intervals import (
    UNDEFINED,
    Interval,
    Resamples,
    accuracy_interval,
    report_intervals,
    used_groups,
)
from tokenfocus_ray.tables.columns import FloatArray


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
        n_excluded: Scored rows whose total label is empty, NaN or out of range.
        n_labelled: Scored rows with a usable label, which the correlations are over.
        n_labels: Distinct samples in the labels.
        n_labels_without_row: Those of them that no score row has.
        n_groups: Prompts with a scored row and a usable label, which intervals resample.
        srcc: Spearman's rank correlation.
        plcc: Pearson's correlation without a fit.
        krcc: Kendall's tau-b.
        n_pairs: Pairs of images of one prompt.
        n_pairs_tied: Those of them whose labels are equal.
        pairwise_accuracy: Share of the others in the labels' order, ties of scores counting half.
        pairwise_accuracy_ties: acc_eq with calibrated ties, over all pairs.
        pairwise_epsilon: The largest difference of scores that counts as a tie there.
        n_elements: Elements with score and label.
        n_elements_excluded: Elements without a score, or with an empty or impossible label.
        element_accuracy: Micro accuracy over elements, in 0..1.
        element_auc: Area under the ROC curve over elements.
        element_f1: Of elements that are present.
        n_elements_own: Elements with a label and a decision of the table's own.
        element_accuracy_own: Accuracy of those decisions.
        calibration_error: Mean distance of score and label over tenths of the scores.
        n_intervals: Labelled rows whose score has an interval.
        interval_coverage: Share of labels within their score's interval.
        interval_width: Mean width of those intervals.
        official: The challenge's score as its script computes it.
        corrected: The challenge's score with the fit from prediction to label.
        by_generator: Figures of each image generator, where generators are known.
        by_element_type: Figures of each type of element.
        reasons: Why numbers are NaN or rows are missing; empty where all is well.
        intervals: Ends of 95 % intervals by name of the figure; empty unless asked for.
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
    srcc: float
    plcc: float
    krcc: float
    n_pairs: int
    n_pairs_tied: int
    pairwise_accuracy: float
    pairwise_accuracy_ties: float
    pairwise_epsilon: float
    n_elements: int
    n_elements_excluded: int
    element_accuracy: float
    element_auc: float
    element_f1: float
    n_elements_own: int
    element_accuracy_own: float
    calibration_error: float
    n_intervals: int
    interval_coverage: float
    interval_width: float
    official: ChallengeScore
    corrected: ChallengeScore
    by_generator: dict[str, GeneratorFigures]
    by_element_type: dict[str, ElementFigures]
    reasons: tuple[str, ...]
    intervals: dict[str, Interval] = field(default_factory=dict)

    @property
    def final_official(self) -> float:
        """The challenge's final score as its script computes it."""
        return self.official.final_score

    @property
    def final_corrected(self) -> float:
        """The challenge's final score with the fit from prediction to label."""
        return self.corrected.final_score

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None, intervals keys such as ``srcc_low``."""
        values = dataclasses.asdict(self)
        for name, (low, high) in values.pop("intervals").items():
            values |= {f"{name}_low": low, f"{name}_high": high}
        values |= {"final_official": self.final_official, "final_corrected": self.final_corrected}
        plain: dict[str, Any] = _plain(values)
        return plain


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
    elements = joined.elements
    known_N = np.isfinite(joined.labels)
    scores_N, labels_N = joined.scores[known_N], joined.labels[known_N]
    total = correlations(joined.scores, joined.labels)
    pairs = pairs_within(scores_N, labels_N, joined.groups[known_N])
    pairwise = accuracy_of(pairs)
    in_all = element_figures(elements.scores, elements.labels, elements.present)
    official, corrected = (
        challenge_score(scores_N, labels_N, elements.scores, elements.labels, variant)
        for variant in ("official", "corrected")
    )
    calibration, calibration_reason = _calibration(joined, scores_N, labels_N)
    covered = coverage(joined.lows, joined.highs, joined.labels)
    n_groups = len(used_groups(joined))
    resamples = Resamples.of(joined) if intervals else None
    found = UNDEFINED if intervals else {}
    if resamples is not None:
        epsilon = pairwise.epsilon
        found = report_intervals(joined, resamples, pairs, epsilon, official, corrected)
    n_unscored = sum(joined.unscored.values())
    report = EvaluationReport(
        n_rows=joined.n_rows,
        n_duplicates=joined.n_duplicates,
        n_scored=joined.n_rows - joined.n_duplicates - n_unscored,
        n_unscored=n_unscored,
        unscored=joined.unscored,
        n_unlabelled=joined.n_unlabelled,
        n_excluded=total.n_dropped,
        n_labelled=total.n,
        n_labels=joined.n_labels,
        n_labels_without_row=joined.n_labels_without_row,
        n_groups=n_groups,
        srcc=total.srcc,
        plcc=total.plcc,
        krcc=total.krcc,
        n_pairs=pairwise.n,
        n_pairs_tied=pairwise.n_tied,
        pairwise_accuracy=pairwise.accuracy,
        pairwise_accuracy_ties=pairwise.accuracy_ties,
        pairwise_epsilon=pairwise.epsilon,
        n_elements=in_all.n,
        n_elements_excluded=in_all.n_dropped,
        element_accuracy=in_all.accuracy,
        element_auc=in_all.auc,
        element_f1=in_all.f1,
        n_elements_own=in_all.n_own,
        element_accuracy_own=in_all.accuracy_own,
        calibration_error=calibration,
        n_intervals=covered.n,
        interval_coverage=covered.share,
        interval_width=covered.width,
        official=official,
        corrected=corrected,
        by_generator=generator_figures(joined, resamples),
        by_element_type=_by_type(joined, resamples),
        reasons=(),
        intervals=found,
    )
    reasons = _reasons(report, joined.unusable)
    reasons += joined.notes
    if pairwise.reason:
        reasons.append(f"pairwise accuracy: {pairwise.reason}")
    if in_all.n and in_all.reason:
        reasons.append(f"elements: {in_all.reason}")
    if calibration_reason:
        reasons.append(f"calibration error: {calibration_reason}")
    if intervals and resamples is None:
        reasons.append(f"intervals: {too_few_groups(n_groups)}")
    return dataclasses.replace(report, reasons=tuple(reasons))


def _calibration(
    joined: Joined, scores_N: FloatArray, labels_N: FloatArray
) -> tuple[float, str | None]:
    if not len(scores_N):
        return math.nan, "no row has score and label"
    reason = None if joined.on_scale else other_scale(scores_N, labels_N)
    return (math.nan, reason) if reason else (calibration_error(scores_N, labels_N), None)


def _by_type(joined: Joined, resamples: Resamples | None) -> dict[str, ElementFigures]:
    elements = joined.elements
    types_E = np.array(elements.types, dtype=np.str_)
    found = {}
    for kind in sorted(set(elements.types)):
        own_E = types_E == kind
        figures = element_figures(
            elements.scores[own_E], elements.labels[own_E], elements.present[own_E]
        )
        if resamples is not None and figures.n:
            low, high = accuracy_interval(joined, resamples, own_E)
            figures = dataclasses.replace(figures, accuracy_low=low, accuracy_high=high)
        found[kind] = figures
    return found


def _reasons(report: EvaluationReport, unusable: str) -> list[str]:
    counts = {
        "rows left out because an earlier row has their sample_id": report.n_duplicates,
        "rows unscored": report.n_unscored,
        "scored rows without a label": report.n_unlabelled,
        f"scored rows whose total label is {unusable}": report.n_excluded,
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
