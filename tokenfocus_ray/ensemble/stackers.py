"""Meta-learners: from columns of scores to one prediction.

Each is fitted on training rows and is then plain arrays, which :func:`predict` applies; nothing is
pickled. Predictions are in the labels' units, but for ``rank_mean``, which is a share of 0..1.

Legend: N rows, K columns, T trees, J nodes of a tree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from tokenfocus_ray.ensemble.features import Scaler
from tokenfocus_ray.tables.columns import FloatArray

Arrays = Mapping[str, NDArray[Any]]

#: Ridge's penalty, in rows' worth of evidence against any weight; chosen among these.
PENALTIES = tuple(float(10**e) for e in np.arange(0, 4.01, 0.5))
INNER_FOLDS = 5
#: Few, shallow trees on half of rows and columns each: the tables are small and noisy.
_BOOSTING = {
    "n_estimators": 150,
    "learning_rate": 0.04,
    "max_depth": 3,
    "min_samples_leaf": 10,
    "subsample": 0.5,
    "max_features": 0.5,
}
#: Rows that boosting learns from at most: it splits a few columns, and its time grows with them.
BOOSTING_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Training:
    """Rows to fit on.

    Attributes:
        scaled: [N, K] from :meth:`Scaler.scaled`.
        ranks: [N, K] from :meth:`Scaler.ranks`.
        labels: [N] finite.
        groups: [N] numbers; rows of one group are never parted.
        seed: Of what is random.
    """

    scaled: FloatArray
    ranks: FloatArray
    labels: FloatArray
    groups: NDArray[np.int64]
    seed: int


def group_folds(groups_N: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """[N] fold of each row; groups stay whole and are dealt at random.

    By scikit-learn's ``GroupKFold`` with ``shuffle``, which evens out the number of groups, and not
    of rows: a fold with a large group has more rows than the others.

    Args:
        groups_N: Group of each row.
        count: Folds; fewer where there are fewer groups, one where there is one.
        seed: Equal seeds deal equally.
    """
    from sklearn.model_selection import GroupKFold  # slow, and needed for fitting only

    folds = np.zeros(len(groups_N), np.int64)
    if (n_folds := min(count, len(np.unique(groups_N)))) > 1:
        dealt = GroupKFold(n_folds, shuffle=True, random_state=seed)
        for fold, (_, out) in enumerate(dealt.split(groups_N, groups=groups_N)):
            folds[out] = fold
    return folds


def fit_single(rows: Training) -> Arrays:
    """The column with the best rank correlation, as a line.

    Missing values stand at the median, so a column with few values cannot win by them.
    """
    from tokenfocus_ray.evaluation.correlation import srcc

    scores = [srcc(rows.scaled[:, k], rows.labels) for k in range(rows.scaled.shape[1])]
    best = int(np.nanargmax(scores)) if np.isfinite(scores).any() else 0
    weights = np.zeros(rows.scaled.shape[1])
    x = rows.scaled[:, best]
    weights[best] = max(0.0, float(x @ (rows.labels - rows.labels.mean()) / (x @ x)))
    if weights[best] == 0:
        weights[best] = 1e-9  # its order still counts
    return {"weights": weights, "bias": np.array(rows.labels.mean())}


def fit_rank_mean(rows: Training) -> Arrays:
    """The mean of all columns' ranks; nothing to learn but the columns' distributions."""
    return {}


def fit_nnls(rows: Training) -> Arrays:
    """Least squares with weights of at least 0 (``scipy.optimize.nnls``)."""
    bias = rows.labels.mean()
    weights, _ = optimize.nnls(rows.scaled, rows.labels - bias)
    return {"weights": weights, "bias": np.array(bias)}


def ridge(x_NK: FloatArray, y_N: FloatArray, penalty: float) -> tuple[FloatArray, float]:
    """Minimises ||y - X w - b||^2 + penalty ||w||^2.

    Args:
        x_NK: Columns.
        y_N: Labels.
        penalty: Above 0.

    Returns:
        Weights [K] and bias.
    """
    means_K, mean = x_NK.mean(axis=0), y_N.mean()
    centered = x_NK - means_K
    gram = centered.T @ centered + penalty * np.eye(x_NK.shape[1])
    weights = linalg.solve(gram, centered.T @ (y_N - mean), assume_a="pos")
    return weights, float(mean - means_K @ weights)


def fit_ridge(rows: Training) -> Arrays:
    """Ridge regression, its penalty chosen by the squared error on folds of groups."""
    folds = group_folds(rows.groups, INNER_FOLDS, rows.seed)
    errors = np.zeros(len(PENALTIES))
    for fold in np.unique(folds):
        out = folds == fold
        if out.all():
            continue
        for i, penalty in enumerate(PENALTIES):
            weights, bias = ridge(rows.scaled[~out], rows.labels[~out], penalty)
            errors[i] += np.square(rows.scaled[out] @ weights + bias - rows.labels[out]).sum()
    weights, bias = ridge(rows.scaled, rows.labels, PENALTIES[int(errors.argmin())])
    return {"weights": weights, "bias": np.array(bias)}


def fit_boosting(rows: Training) -> Arrays:
    """Gradient-boosted trees (scikit-learn's ``GradientBoostingRegressor``).

    Of more than :data:`BOOSTING_ROWS` rows some are drawn.
    """
    from sklearn import config_context
    from sklearn.ensemble import GradientBoostingRegressor

    model = GradientBoostingRegressor(**_BOOSTING, random_state=rows.seed)
    some = np.random.default_rng(rows.seed).permutation(len(rows.labels))[:BOOSTING_ROWS]
    some.sort()
    with config_context(skip_parameter_validation=True, assume_finite=True):  # of every tree
        model.fit(rows.scaled[some], rows.labels[some])
    trees = [stage[0].tree_ for stage in model.estimators_]
    sizes = [tree.node_count for tree in trees]
    names = {"feature": np.int32, "threshold": np.float64, "left": np.int32, "right": np.int32}
    sources = {"left": "children_left", "right": "children_right"}
    arrays: dict[str, NDArray[Any]] = {}
    for name, kind in names.items():
        table = np.zeros((len(trees), max(sizes)), kind)
        for t, tree in enumerate(trees):
            table[t, : sizes[t]] = getattr(tree, sources.get(name, name))
        arrays[name] = table
    values = np.zeros((len(trees), max(sizes)))
    for t, tree in enumerate(trees):
        values[t, : sizes[t]] = tree.value[:, 0, 0] * model.learning_rate
    return arrays | {"value": values, "bias": np.array(float(model.init_.constant_[0, 0]))}


FITS: dict[str, Callable[[Training], Arrays]] = {
    "single": fit_single,
    "rank_mean": fit_rank_mean,
    "nnls": fit_nnls,
    "ridge": fit_ridge,
    "boosting": fit_boosting,
}


def predict(name: str, arrays: Arrays, scaled_NK: FloatArray, ranks_NK: FloatArray) -> FloatArray:
    """[N] predictions of a fitted meta-learner.

    Args:
        name: A key of :data:`FITS`.
        arrays: What it returned.
        scaled_NK: From :meth:`Scaler.scaled`.
        ranks_NK: From :meth:`Scaler.ranks`; of missing values the mean is taken without them.
    """
    if name == "rank_mean":
        known = ~np.isnan(ranks_NK)
        total = np.where(known, ranks_NK, 0.0).sum(axis=1)
        return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), 0.5)
    if name == "boosting":
        return _trees(arrays, scaled_NK)
    weights = np.asarray(arrays["weights"], np.float64)
    return scaled_NK @ weights + float(arrays["bias"])


def _trees(arrays: Arrays, scaled_NK: FloatArray) -> FloatArray:
    """Sum of all trees, each for all rows at once."""
    # as scikit-learn compares them: values rounded to single precision, thresholds not
    columns_KN = np.ascontiguousarray(scaled_NK.T.astype(np.float32), np.float64)
    names = ("feature", "threshold", "left", "right", "value")
    total = np.full(len(scaled_NK), float(arrays["bias"]))
    for tree in zip(*(arrays[name] for name in names), strict=True):
        total += _node(tree, 0, columns_KN)
    return total


def _node(tree: Sequence[NDArray[Any]], j: int, columns_KN: FloatArray) -> FloatArray:
    """A node's value for every row: of a leaf one number, else a choice between two nodes."""
    feature, threshold, left, right, value = tree
    if left[j] < 0:
        leaf: FloatArray = value[j]
        return leaf
    goes_left = columns_KN[feature[j]] <= threshold[j]
    return np.where(goes_left, _node(tree, left[j], columns_KN), _node(tree, right[j], columns_KN))


def out_of_fold(
    names: Sequence[str],
    values_NF: FloatArray,
    labels_N: FloatArray,
    groups_N: NDArray[np.int64],
    folds_N: NDArray[np.int64],
    seed: int,
) -> dict[str, FloatArray]:
    """Meta-learner -> [N] predictions for each row by one that saw none of its fold."""
    predicted = {name: np.full(len(labels_N), np.nan) for name in names}
    for fold in np.unique(folds_N):
        out = folds_N == fold
        scaler = Scaler.fit(values_NF[~out], labels_N[~out])
        rows = training_rows(scaler, values_NF[~out], labels_N[~out], groups_N[~out], seed)
        scaled, ranks = scaler.scaled(values_NF[out]), scaler.ranks(values_NF[out])
        for name in names:
            predicted[name][out] = predict(name, FITS[name](rows), scaled, ranks)
    return predicted


def training_rows(
    scaler: Scaler,
    values_NF: FloatArray,
    labels_N: FloatArray,
    groups_N: NDArray[np.int64],
    seed: int,
) -> Training:
    """Rows on the scaler's footing."""
    return Training(scaler.scaled(values_NF), scaler.ranks(values_NF), labels_N, groups_N, seed)
