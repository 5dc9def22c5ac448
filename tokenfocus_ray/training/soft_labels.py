"""Annotators' ratings to soft labels over the levels.

Legend: K levels, E elements, Q questions (the total first, then the elements).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokenfocus_ray.scoring.levels import LevelVocabulary
from tokenfocus_ray.tables.columns import FloatArray


@dataclass(frozen=True, slots=True)
class SoftLabel:
    """What the annotators said to one question.

    Attributes:
        probs_K: Share of the annotators at each level.
        mean: Mean of their ratings; the expected value of ``probs_K``.
        weight: 1, less where annotators doubted; 0 where nobody rated.
    """

    probs_K: FloatArray
    mean: float
    weight: float


@dataclass(frozen=True, slots=True)
class SampleLabels:
    """The labels of one sample.

    Attributes:
        total: Of the total question.
        elements: [E] of the elements.
    """

    total: SoftLabel
    elements: tuple[SoftLabel, ...]

    def __getitem__(self, question: int) -> SoftLabel:
        """Label of a question: 0 is the total, then the elements."""
        return self.total if question == 0 else self.elements[question - 1]


def soft_label(
    ratings: Sequence[float | None], levels: LevelVocabulary, weights: Sequence[float] | None = None
) -> SoftLabel:
    """Distribution of ratings over the levels.

    A rating between two levels is shared out between them so that the mean is kept, which is how a
    vocabulary of other levels than the annotators' is supervised.

    Args:
        ratings: One for each annotator; None and NaN are left out.
        levels: The vocabulary.
        weights: How much each annotator counts, 1 each by default.

    Raises:
        ValueError: a rating lies outside the levels' values.

    >>> soft_label([4, 3, 3], LevelVocabulary(tuple("12345"), (1, 2, 3, 4, 5))).probs_K.round(2)
    array([0.  , 0.  , 0.67, 0.33, 0.  ])
    """
    values_K = np.asarray(levels.values, dtype=np.float64)
    order = np.argsort(values_K)
    ranked_K = values_K[order]
    probs_K, total_weight = np.zeros(len(values_K)), 0.0
    each = [1.0] * len(ratings) if weights is None else weights
    n_rated = 0
    for rating, weight in zip(ratings, each, strict=True):
        if rating is None or math.isnan(rating):
            continue
        if not ranked_K[0] <= rating <= ranked_K[-1]:
            raise ValueError(f"rating {rating:g} is outside {ranked_K[0]:g}..{ranked_K[-1]:g}")
        n_rated += 1
        total_weight += weight
        above = int(np.searchsorted(ranked_K, rating))
        if ranked_K[above] == rating:
            probs_K[order[above]] += weight
        else:
            share = (rating - ranked_K[above - 1]) / (ranked_K[above] - ranked_K[above - 1])
            probs_K[order[above - 1]] += weight * (1 - share)
            probs_K[order[above]] += weight * share
    if total_weight == 0:
        return SoftLabel(probs_K, math.nan, 0.0)
    probs_K /= total_weight
    return SoftLabel(probs_K, float(probs_K @ values_K), total_weight / n_rated)


def annotator_weights(
    n_annotators: int,
    split_confidence: Sequence[int] | None,
    attribute_confidence: Sequence[int] | None,
    unsure: float,
) -> list[float]:
    """How much each annotator's element labels count.

    EvalMuse's two fields have opposite polarity: ``split_confidence`` 1 says that the split into
    elements may be wrong, ``attribute_confidence`` 0 that the annotator was unsure.

    Args:
        n_annotators: Length of the element's ratings.
        split_confidence: One for each annotator; otherwise the share of doubts counts for all.
        attribute_confidence: Likewise.
        unsure: Weight of a doubted label.

    >>> annotator_weights(3, [0, 1, 0], [1, 1, 0], 0.5)
    [1.0, 0.5, 0.5]
    >>> annotator_weights(2, [0, 0, 1, 1], None, 0.5)
    [0.75, 0.75]
    """
    doubts = [
        [float(flag == 1) for flag in split_confidence or ()],
        [float(flag == 0) for flag in attribute_confidence or ()],
    ]
    if all(len(d) in (0, n_annotators) for d in doubts):
        columns = zip(*(d or [0.0] * n_annotators for d in doubts), strict=True)
        return [unsure if any(column) else 1.0 for column in columns]
    shares = [sum(d) / len(d) for d in doubts if d]
    return [1.0 - max(shares) * (1.0 - unsure)] * n_annotators


def sample_labels(
    total: Sequence[float | None] | None,
    elements: Sequence[Sequence[float | None] | None],
    total_levels: LevelVocabulary,
    element_levels: LevelVocabulary,
    split_confidence: Sequence[int] | None = None,
    attribute_confidence: Sequence[int] | None = None,
    unsure: float = 1.0,
) -> SampleLabels:
    """Labels of one sample; what nobody rated gets weight 0.

    Args:
        total: Total ratings, one for each annotator.
        elements: [E] ratings of each element.
        total_levels: Vocabulary of the total question.
        element_levels: Vocabulary of the element questions.
        split_confidence: See :func:`annotator_weights`.
        attribute_confidence: See :func:`annotator_weights`.
        unsure: See :func:`annotator_weights`.

    Raises:
        ValueError: a rating lies outside its levels' values.
    """
    rated = []
    for ratings in elements:
        weights = annotator_weights(
            len(ratings or ()), split_confidence, attribute_confidence, unsure
        )
        rated.append(soft_label(ratings or (), element_levels, weights))
    return SampleLabels(soft_label(total or (), total_levels), tuple(rated))
