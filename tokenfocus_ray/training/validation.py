"""What chooses a member's best epoch: one criterion for a whole run, told from its labels alone.

    srcc               of the total score: at least three images are rated, and not all alike
    element_accuracy   at least three elements are rated, some present and some absent
    loss               else: the regression term on the validation samples

The first that the labels can give decides, in every epoch, so that epochs can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from tokenfocus_ray.config import LossConfig, TrainConfig
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.levels import LevelVocabulary
from tokenfocus_ray.training.bags import Bag
from tokenfocus_ray.training.samples import labels_of, vocabularies
from tokenfocus_ray.training.soft_labels import SampleLabels, SoftLabel

Criterion = Literal["srcc", "element_accuracy", "loss"]
#: How the criteria are called in messages.
CRITERIA: dict[Criterion, str] = {
    "srcc": "SRCC",
    "element_accuracy": "element accuracy",
    "loss": "loss",
}
#: With two images every correlation is 1 or -1.
FEWEST_RATED = 3
#: From which mean on an element counts as present.
_PRESENT = 0.5


@dataclass(frozen=True, slots=True)
class Selection:
    """A criterion.

    Attributes:
        criterion: Which.
        reason: Why it is not the SRCC; None where it is.
    """

    criterion: Criterion
    reason: str | None = None


def select_criterion(labels: Sequence[SampleLabels]) -> Selection:
    """What decides a run with these validation labels.

    >>> select_criterion([]).reason
    'no validation image has a total rating'
    """
    totals = [label.total.mean for label in labels if label.total.weight]
    if len(totals) >= FEWEST_RATED and len(set(totals)) > 1:
        return Selection("srcc")
    if not totals:
        reason = "no validation image has a total rating"
    elif len(totals) < FEWEST_RATED:
        reason = f"only {len(totals)} of the validation images have a total rating"
    else:
        reason = f"all {len(totals)} validation images are rated {totals[0]:g}"
    present = [e.mean >= _PRESENT for label in labels for e in label.elements if e.weight]
    if len(present) >= FEWEST_RATED and len(set(present)) > 1:
        return Selection("element_accuracy", reason)
    return Selection("loss", reason)


def select_criteria(samples: pa.Table, bags: Sequence[Bag], config: TrainConfig) -> list[Selection]:
    """What decides the members of each bag.

    Args:
        samples: See :data:`~tokenfocus_ray.training.samples.SAMPLES`.
        bags: Of these samples.
        config: Levels, and the weight of doubted labels.
    """
    levels = vocabularies(config)
    found = []
    for bag in bags:
        rows = samples.take(pa.array(bag.validation, pa.int64())).to_pylist()
        found.append(select_criterion([labels_of(row, levels, config.loss.unsure) for row in rows]))
    return found


def criterion_warnings(names: Mapping[str, Selection]) -> list[str]:
    """A line for each reason why members have no SRCC to go by.

    Args:
        names: Member -> what decides it.
    """
    members: dict[Selection, list[str]] = {}
    for name, choice in names.items():
        if choice.reason:
            members.setdefault(choice, []).append(name)
    return [
        f"warning: {', '.join(found)}: {choice.reason}, so there is no validation SRCC and the "
        f"validation {CRITERIA[choice.criterion]} chooses the best epoch; raise bags.validation or "
        f"rate more images if that is not meant"
        for choice, found in members.items()
    ]


def score_metrics(scored: Sequence[tuple[ScoreRow, SampleLabels]]) -> dict[str, float]:
    """SRCC and PLCC of the total, accuracy of the elements; NaN where there is nothing to compare.

    Args:
        scored: Score rows with their labels.
    """
    from tokenfocus_ray.evaluation import correlations, element_accuracy

    total = correlations([r.score for r, _ in scored], [label.total.mean for _, label in scored])
    pairs = [
        (score, label.mean)
        for row, labels in scored
        for score, label in zip(row.element_scores, labels.elements, strict=True)
    ]
    accuracy = element_accuracy([p[0] for p in pairs], [p[1] for p in pairs])
    return {
        "srcc": total.srcc,
        "plcc": total.plcc,
        "element_accuracy": accuracy.accuracy,
    }


def validation_loss(
    scored: Sequence[tuple[ScoreRow, SampleLabels]],
    levels: tuple[LevelVocabulary, LevelVocabulary],
    config: LossConfig,
) -> float:
    """The regression term on score rows, weighted as in training; NaN without a scored rating.

    Whatever the weights of the loss: every term wants expected scores near the raters' means.

    Args:
        scored: Score rows with their labels.
        levels: Of the total and of the element questions.
        config: Which distance, and how much elements count.
    """
    totals = [(row.score, label.total) for row, label in scored]
    elements = [
        pair
        for row, labels in scored
        for pair in zip(row.element_scores, labels.elements, strict=True)
    ]
    each = [
        _distance(pairs, vocabulary, config.regression_kind)
        for pairs, vocabulary in zip((totals, elements), levels, strict=True)
    ]
    found = [
        weight * distance
        for weight, distance in zip((1.0, config.elements), each, strict=True)
        if math.isfinite(distance)
    ]
    return math.fsum(found) if found else math.nan


def _distance(
    answers: Sequence[tuple[float, SoftLabel]], levels: LevelVocabulary, kind: str
) -> float:
    """Weighted mean distance of expected values from means, in levels."""
    rated = [(s, label) for s, label in answers if label.weight and math.isfinite(s)]
    if not rated:
        return math.nan
    spacing = (max(levels.values) - min(levels.values)) / (len(levels.values) - 1)
    errors = np.abs([(score - label.mean) / spacing for score, label in rated])
    if kind == "mse":
        errors = errors**2
    elif kind == "huber":
        errors = np.where(errors < 1, errors**2 / 2, errors - 0.5)
    return float(np.average(errors, weights=[label.weight for _, label in rated]))


def epoch_metrics(
    scored: Sequence[tuple[ScoreRow, SampleLabels]],
    levels: tuple[LevelVocabulary, LevelVocabulary],
    config: LossConfig,
) -> dict[str, float]:
    """What :func:`score_metrics` finds, and ``loss``.

    Args:
        scored: Score rows of an epoch with their labels.
        levels: Of the total and of the element questions.
        config: See :func:`validation_loss`.
    """
    return {**score_metrics(scored), "loss": validation_loss(scored, levels, config)}


def epoch_score(criterion: Criterion, figures: Mapping[str, float]) -> float:
    """What early stopping and checkpoints go by: finite, and higher where the epoch is better.

    Scores that are all alike have no order: an SRCC that is undefined for it counts as 0 here, and
    stays undefined in the metrics. A loss of L is 1 / (1 + L).

    Args:
        criterion: The run's.
        figures: Of :func:`epoch_metrics`.

    >>> epoch_score("srcc", {"srcc": float("nan")}), epoch_score("loss", {"loss": 0.25})
    (0.0, 0.8)
    """
    value = figures[criterion]
    if not math.isfinite(value):
        return 0.0
    return 1 / (1 + value) if criterion == "loss" else value
