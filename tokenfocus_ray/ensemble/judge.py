"""Fits an ensemble and says how good it is on groups that it did not see.

Legend: N rows, S seeds.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.config import StackConfig
from tokenfocus_ray.ensemble.calibrated import CalibratedStack
from tokenfocus_ray.ensemble.features import Scaler
from tokenfocus_ray.ensemble.isotonic import Calibrator, conformal_radius, cross_calibrated
from tokenfocus_ray.ensemble.stack_table import StackTable
from tokenfocus_ray.ensemble.stackers import INNER_FOLDS, group_folds
from tokenfocus_ray.ensemble.stacking import AnyMetric, fit_stack, nested_predictions
from tokenfocus_ray.ensemble.threshold import best_threshold, cross_decided
from tokenfocus_ray.evaluation.challenge import THRESHOLD
from tokenfocus_ray.evaluation.correlation import correlations, srcc
from tokenfocus_ray.evaluation.reliability import calibration_error
from tokenfocus_ray.evaluation.resampling.bootstrap import Draws, interval
from tokenfocus_ray.evaluation.resampling.resampled import resampled_srcc
from tokenfocus_ray.tables.columns import FloatArray
from tokenfocus_ray.tables.prompts import group_numbers


@dataclass(frozen=True, slots=True)
class Decisions:
    """How often a stacker is right about which elements are present.

    Attributes:
        threshold: From which calibrated score on an element counts as present.
        accuracy: Share of right decisions, by thresholds that saw nothing of the fold.
        accuracy_at_half: The same with a threshold of 0.5.
        best_single: The column with the best accuracy.
        best_single_accuracy: With the threshold that suits it best on all rows.
    """

    threshold: float
    accuracy: float
    accuracy_at_half: float
    best_single: str
    best_single_accuracy: float


@dataclass(frozen=True, slots=True)
class StackReport:
    """How well a stacker follows the labels of groups that it did not see.

    Figures are means over the seeds; intervals are of 95 %, by resampling groups.

    Attributes:
        n_rows: Rows with a label.
        n_groups: Groups among them.
        features: Columns that were used.
        method: What was asked for.
        chosen: What was chosen how often, over folds and seeds.
        folds: Outer folds.
        seeds: Rounds of outer folds.
        srcc: Spearman's rank correlation.
        srcc_low: Its interval.
        srcc_high: Likewise.
        plcc: Pearson's correlation, without any fit.
        krcc: Kendall's tau-b.
        best_single: The column with the best SRCC on all rows, turned where lower is better.
        best_single_srcc: Its SRCC; a missing value stands at the column's median.
        difference: SRCC of the stacker less that.
        difference_low: Its interval.
        difference_high: Likewise.
        calibrated_srcc: SRCC after calibration, which may tie scores.
        calibration_error: Mean distance of score and label over tenths of the scores.
        coverage: Share of labels that the intervals are to hold.
        measured_coverage: Share that they held, by curves and radii that saw nothing of the fold.
        radius: Half the width of an interval.
        fingerprint: Hash of the data.
        notes: What was left out, turned or noticed.
        decisions: Of elements; None of totals.
    """

    n_rows: int
    n_groups: int
    features: tuple[str, ...]
    method: str
    chosen: dict[str, int]
    folds: int
    seeds: int
    srcc: float
    srcc_low: float
    srcc_high: float
    plcc: float
    krcc: float
    best_single: str
    best_single_srcc: float
    difference: float
    difference_low: float
    difference_high: float
    calibrated_srcc: float
    calibration_error: float
    coverage: float
    measured_coverage: float
    radius: float
    fingerprint: str
    notes: tuple[str, ...]
    decisions: Decisions | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not finite becomes None."""
        plain = dataclasses.asdict(self)
        return {
            name: None if isinstance(v, float) and not math.isfinite(v) else v
            for name, v in plain.items()
        }


def fit_calibrated(
    table: StackTable,
    config: StackConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    elements: bool = False,
) -> tuple[CalibratedStack, StackReport]:
    """Judges a meta-learner by nested cross-validation, then fits it on all rows.

    Args:
        table: Features, labels and groups.
        config: How a stacker is chosen and judged.
        progress: Called after each outer fold.
        elements: Whether rows are elements, so that a threshold is chosen too.
    """
    values, labels, groups = table.values, table.labels, table.groups
    method, coverage = config.method, config.coverage
    metric: AnyMetric = config.metric
    if elements and metric == "challenge":
        metric = "accuracy"
    nested_SN, chosen = nested_predictions(
        values, labels, groups, method, metric, config.folds, range(config.seeds), progress
    )
    # rows of which every column is missing have no prediction
    known = np.isfinite(nested_SN).all(axis=0)
    nested_SN, own_labels, own_groups = nested_SN[:, known], labels[known], groups[known]
    found = [correlations(one, own_labels) for one in nested_SN]
    best, columns = _single_columns(table)
    single_N = columns[best][known]
    best_srcc = srcc(single_N, own_labels)
    mean = float(np.mean([one.srcc for one in found]))
    intervals = _intervals(nested_SN, single_N, own_labels, own_groups)

    mean_N = nested_SN.mean(axis=0)
    inner = group_folds(own_groups, INNER_FOLDS, 0)
    calibrated = cross_calibrated(mean_N, own_labels, inner, table.low, table.high)
    residuals = own_labels - calibrated
    radius = conformal_radius(residuals, coverage)
    decisions = _decisions(calibrated, own_labels, inner, columns, labels) if elements else None
    report = StackReport(
        n_rows=len(labels),
        n_groups=len(np.unique(groups)),
        features=table.names,
        method=method,
        chosen=dict(Counter(chosen)),
        folds=config.folds,
        seeds=config.seeds,
        srcc=mean,
        srcc_low=intervals[0][0],
        srcc_high=intervals[0][1],
        plcc=float(np.mean([one.plcc for one in found])),
        krcc=float(np.mean([one.krcc for one in found])),
        best_single=best,
        best_single_srcc=best_srcc,
        difference=mean - best_srcc,
        difference_low=intervals[1][0],
        difference_high=intervals[1][1],
        calibrated_srcc=srcc(calibrated, own_labels),
        calibration_error=calibration_error(calibrated, own_labels),
        coverage=coverage,
        measured_coverage=_measured_coverage(residuals, inner, coverage),
        radius=radius,
        fingerprint=table.fingerprint(),
        notes=(
            *(str(note) for note in table.notes),
            *dict.fromkeys(f"figures out of fold: {one.reason}" for one in found if one.reason),
        ),
        decisions=decisions,
    )
    stack = CalibratedStack(
        table.names,
        fit_stack(values, labels, groups, method, metric, seed=0),
        Calibrator.fit(mean_N, own_labels, table.low, table.high),
        radius,
        coverage,
        None if decisions is None else decisions.threshold,
        report.to_dict(),
    )
    return stack, report


def _single_columns(table: StackTable) -> tuple[str, dict[str, FloatArray]]:
    """The column with the best SRCC, and all of them, turned and filled."""
    scaler = Scaler.fit(table.values, table.labels)
    scaled = scaler.scaled(table.values)
    scores = [srcc(column, table.labels) for column in scaled.T]
    names = [table.names[k] for k in scaler.kept]
    return names[int(np.nanargmax(scores))], dict(zip(names, scaled.T, strict=True))


def _decisions(
    calibrated_N: FloatArray,
    labels_N: FloatArray,
    folds_N: NDArray[np.int64],
    columns: dict[str, FloatArray],
    all_labels: FloatArray,
) -> Decisions:
    present = labels_N >= THRESHOLD
    single = {name: best_threshold(one, all_labels)[1] for name, one in columns.items()}
    best = max(single, key=lambda name: single[name])
    return Decisions(
        best_threshold(calibrated_N, labels_N)[0],
        float((cross_decided(calibrated_N, labels_N, folds_N) == present).mean()),
        float(((calibrated_N >= THRESHOLD) == present).mean()),
        best,
        single[best],
    )


def _intervals(
    nested_SN: FloatArray, single_N: FloatArray, labels_N: FloatArray, groups_N: NDArray[np.int64]
) -> list[tuple[float, float]]:
    """Of the stacker's SRCC, and of its difference to the single column."""
    numbers = group_numbers(groups_N)
    draws = Draws.of(int(numbers.max()) + 1)
    each = [resampled_srcc(draws, numbers, one, labels_N) for one in nested_SN]
    means = np.mean(each, axis=0)
    return [
        interval(means), interval(means - resampled_srcc(draws, numbers, single_N, labels_N))
    ]  # fmt: skip


def _measured_coverage(
    residuals_N: FloatArray, folds_N: NDArray[np.int64], coverage: float
) -> float:
    inside_N = np.zeros(len(residuals_N), bool)
    for fold in np.unique(folds_N):
        out = folds_N == fold
        radius = conformal_radius(residuals_N[~out], coverage)
        inside_N[out] = np.abs(residuals_N[out]) <= radius
    return float(inside_N.mean())
