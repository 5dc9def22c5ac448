from __future__ import annotations

import math

import numpy as np
import pytest

from tokenfocus_ray.scoring.levels import ELEMENT_LEVELS, TOTAL_LEVELS, LevelVocabulary
from tokenfocus_ray.training.soft_labels import (
    SampleLabels,
    SoftLabel,
    annotator_weights,
    sample_labels,
    soft_label,
)

NAN = math.nan
#: Fifteen levels over 1..5, from the best to the worst, as letters a..o.
FIFTEEN = LevelVocabulary(tuple("abcdefghijklmno"), tuple(np.linspace(5, 1, 15).tolist()))
UNEVEN = LevelVocabulary(("good", "bad", "fair"), (5.0, 1.0, 2.0))


def near(values: list[float]) -> object:
    return pytest.approx(values, abs=1e-10)


@pytest.mark.parametrize(
    ("ratings", "probs", "mean"),
    [
        ([4, 3, 3], [0, 0, 2 / 3, 1 / 3, 0], 10 / 3),
        ([5], [0, 0, 0, 0, 1], 5.0),
        ([1, 1, 1, 5], [0.75, 0, 0, 0, 0.25], 2.0),
        ([1, 2, 3, 4, 5], [0.2] * 5, 3.0),
        ([2.0, 4.0], [0, 0.5, 0, 0.5, 0], 3.0),
    ],
)
def test_share_of_the_annotators_at_each_level(
    ratings: list[float], probs: list[float], mean: float
) -> None:
    label = soft_label(ratings, TOTAL_LEVELS)
    assert label.probs_K.dtype == np.float64
    assert label.probs_K.tolist() == near(probs)
    assert label.mean == pytest.approx(mean, abs=1e-10)
    assert label.weight == 1.0


@pytest.mark.parametrize(
    ("rating", "probs"), [(2.25, [0, 0.75, 0.25, 0, 0]), (4.9, [0, 0, 0, 0.1, 0.9])]
)
def test_rating_between_two_levels_is_shared_out(rating: float, probs: list[float]) -> None:
    assert soft_label([rating], TOTAL_LEVELS).probs_K.tolist() == near(probs)


def test_levels_in_any_order_and_at_any_distance() -> None:
    """3.5 is halfway from fair (2) to good (5), bad (1) is not between them."""
    label = soft_label([3.5, 1.0], UNEVEN)
    assert label.probs_K.tolist() == near([0.25, 0.5, 0.25])
    assert label.mean == pytest.approx(2.25, abs=1e-10)


@pytest.mark.parametrize("levels", [TOTAL_LEVELS, FIFTEEN, UNEVEN], ids=["5", "15", "uneven"])
@pytest.mark.parametrize("seed", range(5))
def test_mean_is_kept_on_any_vocabulary(levels: LevelVocabulary, seed: int) -> None:
    """Each rating touches its two neighbours at the most."""
    random = np.random.default_rng(seed)
    ratings = [*random.uniform(1, 5, 4).tolist(), 1.0, 5.0, 2.0]
    label = soft_label(ratings, levels)
    assert label.probs_K.min() >= 0
    assert label.probs_K.sum() == pytest.approx(1, abs=1e-10)
    assert label.mean == pytest.approx(np.mean(ratings), abs=1e-10)
    assert label.probs_K @ np.array(levels.values) == pytest.approx(label.mean, abs=1e-10)
    for rating in ratings:
        alone = soft_label([rating], levels)
        used = sorted(np.array(levels.values)[alone.probs_K > 0])
        assert len(used) <= 2
        assert used[0] <= rating <= used[-1]
        between = [v for v in levels.values if used[0] < v < used[-1]]
        assert between == []


def test_integer_ratings_on_fifteen_levels_from_the_best_down() -> None:
    """5 is the first letter, 1 the last; 3 stands in the middle."""
    assert soft_label([5], FIFTEEN).probs_K.tolist() == near([1, *[0] * 14])
    assert soft_label([1], FIFTEEN).probs_K.tolist() == near([*[0] * 14, 1])
    assert soft_label([3], FIFTEEN).probs_K.tolist() == near([*[0] * 7, 1, *[0] * 7])


@pytest.mark.parametrize("missing", [None, NAN])
def test_missing_ratings_are_left_out(missing: float | None) -> None:
    label = soft_label([missing, 4, missing, 2], TOTAL_LEVELS, [0.0, 1.0, 0.3, 0.5])
    assert label.probs_K.tolist() == near([0, 1 / 3, 0, 2 / 3, 0])
    assert label.mean == pytest.approx(10 / 3, abs=1e-10)
    assert label.weight == 0.75


@pytest.mark.parametrize(
    ("ratings", "weights"),
    [([], None), ([None, NAN], None), ([3, 4], [0.0, 0.0])],
    ids=["none", "all missing", "no weight"],
)
def test_nobody_rated(ratings: list[float | None], weights: list[float] | None) -> None:
    label = soft_label(ratings, TOTAL_LEVELS, weights)
    assert label.weight == 0.0
    assert math.isnan(label.mean)
    assert label.probs_K.tolist() == [0.0] * 5


def test_weights_move_the_mean_and_their_mean_is_the_label_s() -> None:
    label = soft_label([1, 0, 0], ELEMENT_LEVELS, [1.0, 0.5, 0.5])
    assert label.probs_K.tolist() == near([0.5, 0.5])
    assert label.mean == pytest.approx(0.5, abs=1e-10)
    assert label.weight == pytest.approx(2 / 3, abs=1e-10)


@pytest.mark.parametrize(
    ("rating", "shown"),
    [(0, "0"), (5.01, "5.01"), (-1, "-1"), (math.inf, "inf"), (1e9, "1e+09")],
)
@pytest.mark.parametrize("levels", [TOTAL_LEVELS, FIFTEEN], ids=["5", "15"])
def test_rating_outside_the_levels(rating: float, shown: str, levels: LevelVocabulary) -> None:
    with pytest.raises(ValueError) as caught:
        soft_label([3, rating], levels)
    assert str(caught.value) == f"rating {shown} is outside 1..5"


@pytest.mark.parametrize(
    ("split", "attribute", "weights"),
    [
        (None, None, [1, 1, 1]),
        ([], [], [1, 1, 1]),
        ([0, 0, 0], [1, 1, 1], [1, 1, 1]),
        ([1, 0, 0], None, [0.25, 1, 1]),
        (None, [0, 1, 1], [0.25, 1, 1]),
        ([1, 0, 0], [0, 1, 0], [0.25, 1, 0.25]),
        ([1, 1, 1], [0, 0, 0], [0.25, 0.25, 0.25]),
        # lengths that fit nobody: the share of doubts counts for all, the larger of the two
        ([1, 0], None, [0.625] * 3),
        (None, [0, 0, 1, 1], [0.625] * 3),
        ([1, 0], [0, 0, 0, 1], [1 - 0.75 * 0.75] * 3),
        ([0], [1, 1, 1], [1, 1, 1]),
        ([1], [1, 1, 1], [0.25] * 3),
    ],
)
def test_doubts_of_both_polarities(
    split: list[int] | None, attribute: list[int] | None, weights: list[float]
) -> None:
    """``split_confidence`` 1 is a doubt, ``attribute_confidence`` 0 is one."""
    assert annotator_weights(3, split, attribute, 0.25) == near(weights)


@pytest.mark.parametrize(("unsure", "weight"), [(0.0, 0.0), (1.0, 1.0)])
def test_weight_of_a_doubt(unsure: float, weight: float) -> None:
    assert annotator_weights(1, [1], [1], unsure) == [weight]


def test_element_that_nobody_rated_has_no_weights() -> None:
    assert annotator_weights(0, [1, 0, 0], [1, 1, 1], 0.5) == []


def same(label: SoftLabel, probs: list[float], mean: float, weight: float) -> bool:
    found = [*label.probs_K.tolist(), label.mean, label.weight]
    return found == pytest.approx([*probs, mean, weight], abs=1e-10, nan_ok=True)


def test_sample_labels() -> None:
    """Doubts weigh on the elements, not on the total; questions count from the total on."""
    labels = sample_labels(
        [4, 3, 3],
        [[1, 1, 0], None, [0, 0, 0]],
        TOTAL_LEVELS,
        ELEMENT_LEVELS,
        [0, 1, 0],
        [1, 1, 0],
        0.5,
    )
    assert isinstance(labels, SampleLabels)
    assert same(labels.total, [0, 0, 2 / 3, 1 / 3, 0], 10 / 3, 1.0)
    first, second, third = labels.elements
    assert same(first, [0.25, 0.75], 0.75, 2 / 3)
    assert same(second, [0, 0], NAN, 0.0)
    assert same(third, [1, 0], 0.0, 2 / 3)
    assert [labels[q] for q in range(4)] == [labels.total, first, second, third]


def test_sample_without_any_label() -> None:
    labels = sample_labels(None, [], TOTAL_LEVELS, ELEMENT_LEVELS)
    assert same(labels.total, [0] * 5, NAN, 0.0)
    assert labels.elements == ()


def test_sample_with_a_rating_out_of_range() -> None:
    with pytest.raises(ValueError) as caught:
        sample_labels([3], [[1], [2]], TOTAL_LEVELS, ELEMENT_LEVELS)
    assert str(caught.value) == "rating 2 is outside 0..1"
