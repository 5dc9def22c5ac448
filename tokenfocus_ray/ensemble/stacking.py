"""Choosing, blending and honestly judging meta-learners.

Everything that is chosen (penalties, blend weights, the meta-learner itself) is chosen on folds
inside the training rows, so the outer folds judge the choice too (nested cross-validation).

Legend: N rows, F feature columns, P parts of a blend, S seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from tokenfocus_ray.config.stacking import Method, Metric
from tokenfocus_ray.ensemble.features import Scaler
from tokenfocus_ray.ensemble.stackers import (
    FITS,
    INNER_FOLDS,
    Arrays,
    group_folds,
    out_of_fold,
    predict,
    training_rows,
)
from tokenfocus_ray.ensemble.threshold import best_threshold
from tokenfocus_ray.evaluation.challenge import fit_logistic, logistic
from tokenfocus_ray.evaluation.correlation import undefined_reason
from tokenfocus_ray.tables.columns import FloatArray

#: Of elements the challenge has the accuracy.
AnyMetric = Metric | Literal["accuracy"]
#: What a blend is made of.
PARTS = ("rank_mean", "nnls", "ridge", "boosting")
_BLEND_STEPS = 120


def agreement(predicted_N: FloatArray, labels_N: FloatArray, metric: AnyMetric) -> float:
    """How well predictions follow labels; -1 where they are constant.

    ``challenge`` is the part of the challenge's final score that totals have: the mean of SRCC and
    of PLCC after its logistic fit. ``accuracy`` is the part that elements have, with the best
    threshold.
    """
    if undefined_reason(predicted_N, labels_N) is not None:
        return -1.0
    if metric == "accuracy":
        return best_threshold(predicted_N, labels_N)[1]
    plcc = float(stats.pearsonr(predicted_N, labels_N).statistic)
    if metric == "plcc":
        return plcc
    srcc = float(stats.spearmanr(predicted_N, labels_N).statistic)
    if metric == "srcc":
        return srcc
    if metric == "challenge":
        fit, _ = fit_logistic(predicted_N, labels_N)
        if fit is not None:
            plcc = float(stats.pearsonr(logistic(predicted_N, *fit), labels_N).statistic)
    return 0.5 * (srcc + plcc)


@dataclass(frozen=True, slots=True)
class Stack:
    """A fitted stacker, or a blend of some.

    Attributes:
        method: The one that was asked for, or that ``auto`` chose.
        scaler: Puts the columns on one footing.
        parts: Meta-learner -> its arrays.
        weights: Meta-learner -> its weight, 1 in all.
        centers: Meta-learner -> mean of its out-of-fold predictions.
        scales: Meta-learner -> their standard deviation.
        slope: From the blend of standardised predictions to the labels' units.
        bias: Likewise.
    """

    method: str
    scaler: Scaler
    parts: Mapping[str, Arrays]
    weights: Mapping[str, float]
    centers: Mapping[str, float]
    scales: Mapping[str, float]
    slope: float
    bias: float

    def predict(self, values_NF: FloatArray) -> FloatArray:
        """[N] predictions in the labels' units; NaN where every column is missing."""
        scaled, ranks = self.scaler.scaled(values_NF), self.scaler.ranks(values_NF)
        total = np.zeros(len(values_NF))
        for name, arrays in self.parts.items():
            one = predict(name, arrays, scaled, ranks)
            total += self.weights[name] * (one - self.centers[name]) / self.scales[name]
        total = self.slope * total + self.bias
        return np.where(np.isnan(ranks).all(axis=1), np.nan, total)


def fit_stack(
    values_NF: FloatArray,
    labels_N: FloatArray,
    groups_N: NDArray[np.int64],
    method: Method,
    metric: AnyMetric,
    seed: int,
) -> Stack:
    """Fits a meta-learner, a blend, or whichever does best on inner folds.

    Args:
        values_NF: NaN where missing.
        labels_N: Finite.
        groups_N: Rows of one group are never parted.
        method: Which; ``auto`` takes the one with the best inner score.
        metric: What blend weights and ``auto`` go by.
        seed: Of the inner folds and of what is random in a meta-learner.
    """
    wanted = list(FITS) if method == "auto" else list(PARTS if method == "blend" else [method])
    folds = group_folds(groups_N, INNER_FOLDS, seed)
    inner = out_of_fold(wanted, values_NF, labels_N, groups_N, folds, seed)
    centers = {name: float(one.mean()) for name, one in inner.items()}
    scales = {name: float(one.std()) or 1.0 for name, one in inner.items()}
    standard = {name: (one - centers[name]) / scales[name] for name, one in inner.items()}
    choices: dict[str, dict[str, float]] = {name: {name: 1.0} for name in wanted}
    if method in ("auto", "blend"):
        choices["blend"] = blend_weights({n: standard[n] for n in PARTS}, labels_N, metric)
    if method == "auto":
        scores = {
            name: agreement(_mix(weights, standard), labels_N, metric)
            for name, weights in choices.items()
        }
        method_chosen = max(scores, key=lambda name: scores[name])
    else:
        method_chosen = method
    weights = {n: w for n, w in choices[method_chosen].items() if w > 0}
    mixed = _mix(weights, standard)
    spread = float(np.var(mixed))
    joint = float(np.mean((mixed - mixed.mean()) * (labels_N - labels_N.mean())))
    # a stacker that runs against the labels on folds has learnt nothing; its order is kept
    slope = max(joint / spread, 1e-9) if spread > 0 else 0.0
    scaler = Scaler.fit(values_NF, labels_N)
    rows = training_rows(scaler, values_NF, labels_N, groups_N, seed)
    return Stack(
        method_chosen,
        scaler,
        {name: FITS[name](rows) for name in weights},
        weights,
        {name: centers[name] for name in weights},
        {name: scales[name] for name in weights},
        slope,
        float(labels_N.mean() - slope * mixed.mean()),
    )


def _mix(weights: Mapping[str, float], standard: Mapping[str, FloatArray]) -> FloatArray:
    mixed: FloatArray = sum(  # type: ignore[assignment]
        weight * standard[name] for name, weight in weights.items()
    )
    return mixed


def blend_weights(
    standard: Mapping[str, FloatArray], labels_N: FloatArray, metric: AnyMetric
) -> dict[str, float]:
    """Weights of at least 0, 1 in all, for which the blend agrees best with the labels.

    Nelder-Mead over the weights' logarithms, from equal weights: rank correlation has no gradient.

    Args:
        standard: Part -> its out-of-fold predictions, standardised.
        labels_N: Their labels.
        metric: What to maximise.
    """
    names = list(standard)
    columns_NP = np.column_stack([standard[name] for name in names])

    def loss(logits: FloatArray) -> float:
        return -agreement(columns_NP @ special.softmax(logits), labels_N, metric)

    simplex = np.vstack([np.zeros(len(names)), 1.5 * np.eye(len(names))])
    found = optimize.minimize(
        loss, simplex[0], method="Nelder-Mead",
        options={"maxfev": _BLEND_STEPS, "initial_simplex": simplex},
    )  # fmt: skip
    weights = special.softmax(found.x)
    return {name: float(w) for name, w in zip(names, weights, strict=True)}


def nested_predictions(
    values_NF: FloatArray,
    labels_N: FloatArray,
    groups_N: NDArray[np.int64],
    method: Method,
    metric: AnyMetric,
    folds: int,
    seeds: Sequence[int],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[FloatArray, list[str]]:
    """[S, N] predictions of stackers that saw nothing of a row's group, and what was chosen.

    Args:
        values_NF: NaN where missing.
        labels_N: Finite.
        groups_N: Rows of one group are never parted.
        method: See :func:`fit_stack`.
        metric: Likewise.
        folds: Outer folds.
        seeds: One round of outer folds each.
        progress: Called after each fold.
    """
    predicted = np.full((len(seeds), len(labels_N)), np.nan)
    chosen, done = [], 0
    for s, seed in enumerate(seeds):
        folds_N = group_folds(groups_N, folds, seed)
        names = np.unique(folds_N)
        for fold in names:
            out = folds_N == fold
            stack = fit_stack(values_NF[~out], labels_N[~out], groups_N[~out], method, metric, seed)
            # against the training mean: the mean of what is left out is high where that of the rest
            # is low, which would pull pooled correlations below 0
            centered = stack.predict(values_NF[out]) - labels_N[~out].mean()
            predicted[s, out] = centered + labels_N.mean()
            chosen.append(stack.method)
            done += 1
            progress(done, len(seeds) * len(names))
    return predicted, chosen
