from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tokenfocus_ray.evaluation import Correlations, correlations, krcc, plcc, srcc

NAN = math.nan


def mean_ranks(values: np.ndarray) -> np.ndarray:
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


def pearson_by_hand(x: np.ndarray, y: np.ndarray) -> float:
    dx, dy = x - x.mean(), y - y.mean()
    return float((dx * dy).sum() / math.sqrt((dx**2).sum() * (dy**2).sum()))


def tau_b_by_hand(x: np.ndarray, y: np.ndarray) -> float:
    agree = ties_x = ties_y = 0
    pairs = list(itertools.combinations(range(len(x)), 2))
    for i, j in pairs:
        sx, sy = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
        agree += sx * sy
        ties_x += sx == 0
        ties_y += sy == 0
    return float(agree / math.sqrt((len(pairs) - ties_x) * (len(pairs) - ties_y)))


@pytest.mark.parametrize("seed", range(5))
def test_equals_scipy_and_the_definitions_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, 16, size=60) / 3  # means of three annotators: many ties
    scores = np.round(labels + rng.normal(size=60), 1)
    found = correlations(scores, labels)
    assert found.n == 60
    assert found.srcc == pytest.approx(stats.spearmanr(scores, labels).statistic, abs=1e-10)
    assert found.plcc == pytest.approx(stats.pearsonr(scores, labels).statistic, abs=1e-10)
    assert found.krcc == pytest.approx(stats.kendalltau(scores, labels).statistic, abs=1e-10)
    ranks = pearson_by_hand(mean_ranks(scores), mean_ranks(labels))
    assert found.srcc == pytest.approx(ranks, abs=1e-10)
    assert found.plcc == pytest.approx(pearson_by_hand(scores, labels), abs=1e-10)
    assert found.krcc == pytest.approx(tau_b_by_hand(scores, labels), abs=1e-10)
    singles = srcc(scores, labels), plcc(scores, labels), krcc(scores, labels)
    assert singles == (found.srcc, found.plcc, found.krcc)


def test_pairs_with_nan_or_infinity_on_either_side_are_dropped_and_counted() -> None:
    scores = [1.0, NAN, 2.0, 5.0, 3.0, math.inf]
    labels = [1.0, 4.0, 3.0, NAN, 2.0, 1.0]
    clean = correlations([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    assert correlations(scores, labels) == Correlations(3, 3, clean.srcc, clean.plcc, clean.krcc)
    assert clean.srcc == pytest.approx(0.5, abs=1e-10)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("scores", "labels", "reason"),
    [
        ([], [], "0 pairs of score and label; a correlation needs 3"),
        ([1.0, 2.0, NAN], [1.0, 2.0, 3.0], "2 pairs of score and label; a correlation needs 3"),
        ([2.5] * 4, [1, 2, 3, 4], "all 4 scores equal 2.5; a correlation needs spread"),
        ([1, 2, 3], [3, 3, 3], "all 3 labels equal 3; a correlation needs spread"),
    ],
)
def test_undefined_is_nan_with_a_reason(
    scores: list[float], labels: list[float], reason: str
) -> None:
    found = correlations(scores, labels)
    assert found.reason == reason
    assert all(math.isnan(value) for value in (found.srcc, found.plcc, found.krcc))


@pytest.mark.parametrize(
    ("labels", "shape"), [([1.0], "(1,)"), ([[1.0, 2.0]], "(1, 2)"), (1.0, "()")]
)
def test_unaligned_sides_are_refused(labels: object, shape: str) -> None:
    with pytest.raises(ValueError) as error:
        correlations([1.0, 2.0], labels)  # type: ignore[arg-type]
    assert str(error.value) == (
        "scores and labels must be one-dimensional and equally long, got shapes (2,) and " + shape
    )
