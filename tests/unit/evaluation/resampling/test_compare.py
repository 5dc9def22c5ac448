from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from tokenfocus_ray.evaluation import compare, correlations
from tokenfocus_ray.evaluation.resampling.bootstrap import (
    ENDS,
    RESAMPLES,
    Draws,
    interval,
    resampled_groups,
)
from tokenfocus_ray.evaluation.resampling.resampled import resampled_plcc

NAN = math.nan


def rows(
    seed: int, n_groups: int, size: int, noise: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two columns that follow the labels with noise of their own, and some of the prompt's."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), size)
    n = len(groups)
    labels = generator.normal(size=n) + generator.normal(size=n_groups)[groups]
    first, second = (
        labels + scale * (generator.normal(size=n) + generator.normal(size=n_groups)[groups])
        for scale in noise
    )
    return first, second, labels, groups


def test_equals_a_plain_cluster_bootstrap() -> None:
    first, second, labels, groups = rows(0, 40, 4, (0.5, 0.8))
    found = compare(first, second, labels, [f"prompt {g:02d}" for g in groups])
    assert (found.n, found.n_dropped, found.n_groups, found.reason) == (160, 0, 40, None)
    for name, reference in (("srcc", stats.spearmanr), ("plcc", stats.pearsonr)):
        own = getattr(found, name)
        assert own.first == pytest.approx(reference(first, labels).statistic, abs=1e-10)
        assert own.second == pytest.approx(reference(second, labels).statistic, abs=1e-10)
        assert own.difference == own.first - own.second
        differences = [
            reference(first[k], labels[k]).statistic - reference(second[k], labels[k]).statistic
            for k in resampled_groups(groups, RESAMPLES, 0)
        ]
        low, high = np.percentile(differences, ENDS)
        assert (own.low, own.high) == pytest.approx((low, high), abs=1e-10)
    whole = correlations(first, labels).krcc - correlations(second, labels).krcc
    assert found.krcc.difference == pytest.approx(whole, abs=1e-10)
    assert found.krcc.low < whole < found.krcc.high


def test_intervals_hold_the_true_difference() -> None:
    """PLCC is known here: 1 / sqrt(1 + noise^2). Of 100 intervals about 5 miss it."""
    true = 1 / math.sqrt(1 + 0.5**2) - 1 / math.sqrt(1 + 0.8**2)
    draws = Draws.of(60)
    held = 0
    for seed in range(100):
        first, second, labels, groups = rows(seed, 60, 3, (0.5, 0.8))
        own = [resampled_plcc(draws, groups, scores, labels) for scores in (first, second)]
        low, high = interval(own[0] - own[1])
        held += low <= true <= high
    assert 88 <= held <= 99


def test_equal_columns_differ_by_nothing() -> None:
    first, _, labels, groups = rows(0, 20, 3, (0.5, 0.8))
    found = compare(first, first, labels, groups)
    assert (found.krcc.difference, found.krcc.low, found.krcc.high) == (0, 0, 0)


def test_rows_without_all_three_are_left_out_of_both() -> None:
    first, second, labels, groups = rows(0, 20, 3, (0.5, 0.8))
    clean = compare(first[3:], second[3:], labels[3:], groups[3:])
    first[0], second[1], labels[2] = NAN, math.inf, NAN
    found = compare(first, second, labels, groups)
    assert (found.n, found.n_dropped, found.n_groups) == (57, 3, 19)
    assert (found.srcc, found.plcc, found.krcc) == (clean.srcc, clean.plcc, clean.krcc)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("second", "groups", "reason"),
    [
        ([1, 2, 4, 3], ["a"] * 4, "1 prompt; an interval needs 2"),
        ([2] * 4, list("aabb"), "second: all 4 scores equal 2; a correlation needs spread"),
        (
            [NAN] * 4,
            list("aabb"),
            "first: 0 pairs of score and label; a correlation needs 3; "
            "second: 0 pairs of score and label; a correlation needs 3",
        ),
    ],
)
def test_undefined_is_nan_with_a_reason(
    second: list[float], groups: list[str], reason: str
) -> None:
    found = compare([1, 2, 3, 4], second, [1, 3, 2, 4], groups)
    assert found.reason == reason
    assert math.isnan(found.srcc.low)
    plain = found.to_dict()
    assert plain["reason"] == reason
    assert plain["krcc_difference_low"] is None
    json.dumps(plain, allow_nan=False)
    defined = reason.startswith("1 prompt")
    assert (plain["plcc_difference"] is not None) == defined


def test_json_is_flat() -> None:
    plain = compare([1, 2, 3, 4], [1, 2, 4, 3], [1, 3, 2, 4], list("aabb")).to_dict()
    assert list(plain) == ["n", "n_dropped", "n_groups", "reason"] + [
        f"{name}_{key}"
        for name in ("srcc", "plcc", "krcc")
        for key in ("first", "second", "difference", "difference_low", "difference_high")
    ]


def test_unaligned_sides_are_refused() -> None:
    with pytest.raises(ValueError) as error:
        compare([1.0, 2.0], [1.0, 2.0], [1.0, 2.0], ["a"])
    assert str(error.value) == (
        "both scores, labels and groups must be one-dimensional and equally long, got shapes "
        "(2,), (2,), (2,), (1,)"
    )
