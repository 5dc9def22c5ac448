"""Meta-learners against scipy and scikit-learn; choices that are judged honestly."""

from __future__ import annotations

import re
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge

from tokenfocus_ray.cli.stack import stack as stack_command
from tokenfocus_ray.config.stacking import Method, Metric
from tokenfocus_ray.ensemble import stackers
from tokenfocus_ray.ensemble.features import Scaler, describe
from tokenfocus_ray.ensemble.stackers import FITS, Training, group_folds, predict, ridge
from tokenfocus_ray.ensemble.stacking import (
    agreement,
    blend_weights,
    fit_stack,
    nested_predictions,
)
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation.correlation import srcc

METHODS = get_args(Method)


def table(
    n: int = 400, noise: tuple[float, ...] = (0.6, 0.8, 1.0, 3.0), seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Columns that follow the labels with more and more noise; groups of four rows."""
    generator = np.random.default_rng(seed)
    groups = np.arange(n) // 4
    labels = 3 + generator.normal(size=n // 4)[groups] * 0.5 + generator.normal(size=n) * 0.6
    values = labels[:, None] + generator.normal(size=(n, len(noise))) * np.array(noise)
    return values, np.clip(labels, 1, 5), groups


def training(seed: int = 0) -> tuple[Training, Scaler]:
    values, labels, groups = table(seed=seed)
    scaler = Scaler.fit(values, labels)
    return stackers.training_rows(scaler, values, labels, groups, seed), scaler


@pytest.mark.parametrize("penalty", [0.1, 30.0, 1e4])
def test_ridge_equals_scikit_learn(penalty: float) -> None:
    rows, _ = training()
    weights, bias = ridge(rows.scaled, rows.labels, penalty)
    reference = Ridge(alpha=penalty).fit(rows.scaled, rows.labels)
    np.testing.assert_allclose(weights, reference.coef_, atol=1e-10)
    assert bias == pytest.approx(reference.intercept_, abs=1e-10)


def test_nnls_is_least_squares_within_bounds() -> None:
    """By another method (bounded-variable least squares), where a free weight would be negative."""
    generator = np.random.default_rng(5)
    scaled = generator.normal(size=(300, 5)) + generator.normal(size=(300, 1))
    labels = 3 + scaled @ [0.5, 0.3, -0.4, 0.0, 0.2] + generator.normal(size=300)
    rows = Training(scaled, scaled, labels, np.arange(300), 0)
    fitted = FITS["nnls"](rows)
    centered = labels - labels.mean()
    assert optimize.lsq_linear(scaled, centered).x.min() < -0.1
    reference = optimize.lsq_linear(scaled, centered, (0, np.inf), method="bvls", tol=1e-14)
    np.testing.assert_allclose(fitted["weights"], reference.x, atol=1e-10)
    assert fitted["bias"] == pytest.approx(labels.mean(), abs=1e-12)
    # and by hand: no weight could be moved for less error (Karush, Kuhn and Tucker)
    slope = scaled.T @ (scaled @ fitted["weights"] - centered)
    used = fitted["weights"] > 0
    np.testing.assert_allclose(slope[used], 0, atol=1e-8)
    assert (slope[~used] > 0).all()


def test_trees_equal_scikit_learn() -> None:
    """Plain arrays, walked by us, predict what the fitted model does."""
    rows, scaler = training()
    fitted = FITS["boosting"](rows)
    model = GradientBoostingRegressor(**stackers._BOOSTING, random_state=0)
    model.fit(rows.scaled, rows.labels)
    values, _, _ = table(seed=1)
    x = scaler.scaled(values)
    found = predict("boosting", fitted, x, scaler.ranks(values))
    np.testing.assert_allclose(found, model.predict(x), atol=1e-10)


def test_rank_mean_ignores_scales_and_missing_values() -> None:
    values, labels, groups = table()
    scaler = Scaler.fit(values, labels)
    plain = predict("rank_mean", {}, scaler.scaled(values), scaler.ranks(values))
    warped = np.column_stack([np.exp(values[:, 0]), values[:, 1:] * 1000])
    other = Scaler.fit(warped, labels)
    again = predict("rank_mean", {}, other.scaled(warped), other.ranks(warped))
    np.testing.assert_allclose(again, plain, atol=0.01)
    some = values.copy()
    some[0, 1:] = np.nan
    alone = predict("rank_mean", {}, scaler.scaled(some), scaler.ranks(some))
    assert alone[0] == scaler.ranks(values)[0, 0]
    some[0] = np.nan
    assert predict("rank_mean", {}, scaler.scaled(some), scaler.ranks(some))[0] == 0.5
    assert np.isnan(fit_stack(values, labels, groups, "ridge", "mean", 0).predict(some)[0])


def test_groups_stay_whole() -> None:
    groups = np.array([5, 5, 7, 9, 9, 9, 2])
    folds = group_folds(groups, 3, 0)
    assert all(len(set(folds[groups == g])) == 1 for g in set(groups))
    assert set(folds) == {0, 1, 2}
    assert set(group_folds(groups, 100, 0)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(folds, group_folds(groups, 3, 0))
    assert set(group_folds(np.full(4, 5), 3, 0)) == {0}


def test_folds_have_equal_numbers_of_groups_dealt_anew_by_each_seed() -> None:
    """Of groups, not of rows: one of half the rows is a group like the others."""
    groups = np.concatenate([np.zeros(30, np.int64), np.arange(1, 31)])
    dealt = [group_folds(groups, 5, seed) for seed in range(4)]
    for folds in dealt:
        counts = [len(set(groups[folds == fold])) for fold in range(5)]
        assert sorted(counts) == [6, 6, 6, 6, 7]
    assert len({tuple(folds) for folds in dealt}) == 4


def test_columns_are_put_on_one_footing() -> None:
    """Turned, bounded, filled; constant and repeated columns are left out; each is said."""
    values, labels, _ = table()
    odd: dict[str, Any] = {
        "good": values[:, 0],
        "turned": -values[:, 1],
        "constant": np.full(len(labels), 7.0),
        "again": values[:, 0],
        "empty": np.full(len(labels), np.nan),
        "refused": np.where(np.arange(len(labels)) % 3 == 0, np.nan, values[:, 2]),
        "wild": np.where(np.arange(len(labels)) == 5, 1e6, values[:, 3]),
        "label": labels * 2,
    }
    columns = np.column_stack(list(odd.values()))
    scaler = Scaler.fit(columns, labels)
    assert [list(odd)[k] for k in scaler.kept] == ["good", "turned", "refused", "wild", "label"]
    scaled = scaler.scaled(columns)
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() < 5
    assert all(srcc(column, labels) > 0.1 for column in scaled.T)
    assert [str(note) for note in describe(list(odd), columns, labels)] == [
        "turned: lower is better; turned",
        "constant: is 7 in every row; left out",
        "again: equals good; left out",
        "empty: is empty; left out",
        "refused: 134 of 400 values missing",
        "wild: 1 outliers, such as 1e+06; bounded",
        "label: follows the labels almost exactly: if it was made from them, leave it out, or "
        "every figure here is an illusion",
    ]


def test_the_command_names_every_method_and_metric() -> None:
    """Its help cannot ask the configuration, which is imported once a command runs."""
    options = get_type_hints(stack_command, include_extras=True)
    for name, values in (("method", METHODS), ("metric", get_args(Metric))):
        (option,) = options[name].__metadata__
        assert [v for v in values if not re.search(rf"\b{v}\b", option.help)] == []
    assert {*METHODS} == {*FITS, "blend", "auto"}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns(method: Method) -> None:
    values, labels, groups = table()
    new, new_labels, _ = table(seed=1)
    stack = fit_stack(values, labels, groups, method, "mean", 0)
    assert srcc(stack.predict(new), new_labels) > 0.7
    assert sum(stack.weights.values()) == pytest.approx(1)
    if method != "single":  # in the labels' units
        assert np.abs(stack.predict(new) - new_labels).mean() < 0.5


def test_auto_beats_each_column_where_they_differ() -> None:
    values, labels, groups = table()
    nested, _ = nested_predictions(values, labels, groups, "auto", "mean", 5, [0])
    best = max(srcc(column, labels) for column in values.T)
    assert srcc(nested[0], labels) > best + 0.03


def test_auto_keeps_to_the_one_column_that_knows() -> None:
    """Where a mean of ranks is ruined by twenty columns of noise."""
    generator = np.random.default_rng(0)
    values, labels, groups = table(noise=(0.4,))
    values = np.column_stack([values, generator.normal(size=(len(labels), 20))])
    best = srcc(values[:, 0], labels)
    found = {}
    for method in ("auto", "rank_mean"):
        nested, _ = nested_predictions(values, labels, groups, method, "srcc", 5, [0])
        found[method] = srcc(nested[0], labels)
    assert found["rank_mean"] < best - 0.2
    assert found["auto"] > best - 0.02


@pytest.mark.parametrize(("method", "n"), [("auto", 600), ("ridge", 1200)])
def test_shuffled_labels_are_not_followed(method: Method, n: int) -> None:
    """What is reported out of fold is nothing where there is nothing to learn."""
    values, labels, groups = table(n)
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(labels)
        nested, _ = nested_predictions(values, shuffled, groups, method, "mean", 5, [0])
        assert abs(srcc(nested[0], shuffled)) < 0.1


def test_fifty_prompts_are_not_overfitted() -> None:
    """Twenty columns, of which three know something: no worse than the best of them by chance."""
    generator = np.random.default_rng(3)
    values, labels, groups = table(n=200, noise=(0.8, 0.9, 1.0))
    values = np.column_stack([values, generator.normal(size=(200, 17))])
    nested, _ = nested_predictions(values, labels, groups, "auto", "srcc", 5, [0])
    assert srcc(nested[0], labels) > max(srcc(column, labels) for column in values.T) - 0.02


@pytest.mark.parametrize("method", METHODS)
def test_columns_that_say_nothing_on_a_fold(method: Method) -> None:
    """Known in one prompt only: all else is the same, so there is nothing to learn from."""
    _, labels, groups = table(n=80)
    values = np.full((80, 2), np.nan)
    values[:4] = np.random.default_rng(0).normal(size=(4, 2))
    with pytest.raises(ManifestError) as caught:
        nested_predictions(values, labels, groups, method, "mean", 5, [0])
    assert re.fullmatch(
        r"none of the 2 columns varies on the \d+ training rows of a fold: they have too few known "
        r"or different values to be stacked; give more rows, or other columns",
        str(caught.value),
    )


def test_blend_takes_the_part_that_agrees() -> None:
    values, labels, _ = table()
    standard = {"right": values[:, 0] - 3, "wrong": -values[:, 1] + 3}
    weights = blend_weights(standard, labels, "srcc")
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["right"] > 0.8


@pytest.mark.parametrize(
    ("metric", "expected"), [("srcc", 1.0), ("plcc", 0.9), ("mean", 0.95), ("challenge", 1.0)]
)
def test_metrics(metric: Any, expected: float) -> None:
    x = np.linspace(-3, 3, 60)
    labels = 1 + 4 / (1 + np.exp(-6 * x))
    assert agreement(x, labels, metric) == pytest.approx(expected, abs=0.06)
    assert agreement(np.ones(60), labels, metric) == -1
