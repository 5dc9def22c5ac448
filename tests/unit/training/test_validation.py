"""What chooses the best epoch, where an SRCC is defined and where it is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
import torch

from tests.support.learners import train_config
from tokenfocus_ray.config import LossConfig
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.distribution import level_distribution
from tokenfocus_ray.scoring.levels import ELEMENT_LEVELS, TOTAL_LEVELS
from tokenfocus_ray.training.bags import Bag
from tokenfocus_ray.training.loss import Targets, token_focused_terms
from tokenfocus_ray.training.samples import SAMPLES
from tokenfocus_ray.training.schedule import early_stop
from tokenfocus_ray.training.soft_labels import SampleLabels, sample_labels
from tokenfocus_ray.training.validation import (
    Selection,
    criterion_warnings,
    epoch_metrics,
    epoch_score,
    score_metrics,
    select_criteria,
    select_criterion,
    validation_loss,
)

LEVELS = (TOTAL_LEVELS, ELEMENT_LEVELS)
Rated = tuple[Sequence[float | None] | None, Sequence[Sequence[float | None]]]


def labels(*rated: Rated) -> list[SampleLabels]:
    return [sample_labels(total, elements, *LEVELS) for total, elements in rated]


@pytest.mark.parametrize(
    ("rated", "expected"),
    [
        ([([1], []), ([2], []), ([2], [])], Selection("srcc")),
        (
            [(None, [[1], [0]]), (None, [[1]])],
            Selection("element_accuracy", "no validation image has a total rating"),
        ),
        (
            [([3, 5], [[1], [0]]), ([4], [[1]]), ([4], [])],
            Selection("element_accuracy", "all 3 validation images are rated 4"),
        ),
        (
            [([1], []), ([5], []), ([None], [])],
            Selection("loss", "only 2 of the validation images have a total rating"),
        ),
        (
            [([2], [[1], [1]]), ([2], [[1]]), ([2], [])],
            Selection("loss", "all 3 validation images are rated 2"),
        ),
        (
            [(None, [[1], [0]])],
            Selection("loss", "no validation image has a total rating"),
        ),
    ],
    ids=["totals", "elements only", "constant", "two images", "one kind", "two elements"],
)
def test_criterion_is_the_first_that_the_labels_give(
    rated: list[Rated], expected: Selection
) -> None:
    assert select_criterion(labels(*rated)) == expected


def test_members_are_decided_by_their_own_validation_samples() -> None:
    totals = [[1], [2], [3], [4], [4], [4], []]
    rows = [{"total_scores": total, "element_labels": []} for total in totals]
    samples = pa.Table.from_pylist(rows, schema=SAMPLES)
    bags = [Bag(i, (), chosen, ()) for i, chosen in enumerate([(0, 1, 2), (3, 4, 5), (3, 6)])]
    found = select_criteria(samples, bags, train_config("tiny-internvl"))
    assert [each.criterion for each in found] == ["srcc", "loss", "loss"]
    assert criterion_warnings(dict(zip("abc", found, strict=True)) | {"d": found[1]}) == [
        "warning: b, d: all 3 validation images are rated 4, so there is no validation SRCC and "
        "the validation loss chooses the best epoch; raise bags.validation or rate more images if "
        "that is not meant",
        "warning: c: only 1 of the validation images have a total rating, so there is no "
        "validation SRCC and the validation loss chooses the best epoch; raise bags.validation or "
        "rate more images if that is not meant",
    ]


def row(score: float, elements: Sequence[float] = ()) -> ScoreRow:
    return ScoreRow("a", "ok", score=score, element_scores=list(elements))


@pytest.mark.parametrize("kind", ["huber", "mse", "l1"])
def test_validation_loss_is_the_regression_term(kind: Any) -> None:
    """That of training, on the same answers and labels."""
    config = LossConfig(regression_kind=kind, elements=0.7)
    rated = labels(([1, 2], [[1], [None]]), ([5], [[0, 1]]), (None, []))
    rows = [row(3.2, [0.4, 0.9]), row(4.6, [0.3]), row(2.0)]
    answers = [(r.score, label.total) for r, label in zip(rows, rated, strict=True)]
    parts = [
        (s, e)
        for r, label in zip(rows, rated, strict=True)
        for s, e in zip(r.element_scores, label.elements, strict=True)
    ]
    wanted = 0.0
    for pairs, vocabulary, weight in ((answers, LEVELS[0], 1.0), (parts, LEVELS[1], 0.7)):
        values, n = vocabulary.values, len(vocabulary.values)
        # logits between the lowest and the highest level whose expected values are the scores
        shares = torch.tensor([(s - values[0]) / (values[-1] - values[0]) for s, _ in pairs])
        logits_AV = torch.full((len(pairs), n), -1e4)
        logits_AV[:, 0], logits_AV[:, -1] = (1 - shares).log(), shares.log()
        expected = level_distribution(logits_AV, tuple(range(n)), values).expected_B
        torch.testing.assert_close(expected, torch.tensor([s for s, _ in pairs]))
        targets = Targets(
            torch.zeros(len(pairs), n),
            torch.tensor([label.mean for _, label in pairs]),
            torch.tensor([label.weight for _, label in pairs]),
        )
        terms, _ = token_focused_terms(logits_AV, targets, tuple(range(n)), values, config)
        wanted += weight * float(terms["regression"]) / sum(label.weight for _, label in pairs)
    got = validation_loss(list(zip(rows, rated, strict=True)), LEVELS, config)
    assert got == pytest.approx(wanted, rel=1e-5)


def test_validation_loss_without_a_scored_rating_is_undefined() -> None:
    unscored = ScoreRow("a", "unscored", "image_missing", "gone", element_scores=[math.nan])
    config = LossConfig()
    assert math.isnan(validation_loss([(unscored, labels(([3], [[1]]))[0])], LEVELS, config))
    assert math.isnan(validation_loss([(row(3.0), labels((None, []))[0])], LEVELS, config))
    only_elements = [(row(3.0, [0.5]), labels((None, [[1]]))[0])]
    assert validation_loss(only_elements, LEVELS, config) == 0.125


def test_epoch_scores_are_finite_and_rise_with_the_epoch() -> None:
    nan = math.nan
    for criterion, worse, better in (
        ("srcc", -0.2, 0.3),
        ("element_accuracy", 0.5, 0.6),
        ("loss", 7.0, 0.1),
    ):
        low, high = (epoch_score(criterion, {criterion: v}) for v in (worse, better))  # type: ignore
        assert -1 <= low < high <= 1
        assert epoch_score(criterion, {criterion: nan}) == 0.0  # type: ignore


@pytest.mark.parametrize(
    ("rated", "criterion"),
    [
        ([(None, [[1], [0]]), (None, [[1]])], "element_accuracy"),
        ([([3], []), ([3], []), ([3], [])], "loss"),
        ([([3], []), ([5], [])], "loss"),
    ],
    ids=["elements only", "constant", "two images"],
)
def test_undefined_srcc_is_never_minus_one_and_stops_nothing(
    rated: list[Rated], criterion: str
) -> None:
    """A member that gets better with each epoch goes on, and its last epoch is the best."""
    rated_labels = labels(*rated)
    choice, config = select_criterion(rated_labels), train_config("tiny-internvl")
    scores: list[float] = []
    figures = []
    for share in (0.2, 0.4, 0.8):  # of the way from the middle to the label
        scored = [
            (
                row(
                    1 + share * ((label.total.mean if label.total.weight else 1) - 1),
                    # elements cross the threshold one after the other
                    [
                        abs(e.mean - (1 - share) * 0.9 ** (2 * q))
                        for q, e in enumerate(label.elements)
                    ],
                ),
                label,
            )
            for label in rated_labels
        ]
        figures.append(epoch_metrics(scored, LEVELS, config.loss))
        scores.append(epoch_score(choice.criterion, figures[-1]))
    assert choice.criterion == criterion
    assert not early_stop(scores, 1)
    assert max(scores) == scores[-1] > scores[0]
    assert all(math.isfinite(s) and s >= 0 for s in scores)
    assert all(math.isnan(f["srcc"]) for f in figures), "where it is undefined, it is not a number"
    assert set(figures[0]) == {*score_metrics([]), "loss"}
