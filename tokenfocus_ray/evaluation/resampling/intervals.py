"""95 % intervals of a report's figures, all on the same resamples of whole prompts.

Legend: N rows, G groups, R resamples, E elements, P pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.evaluation.challenge import THRESHOLD, ChallengeScore, logistic
from tokenfocus_ray.evaluation.correlation import undefined_reason
from tokenfocus_ray.evaluation.join import Joined
from tokenfocus_ray.evaluation.pairwise import Pairs
from tokenfocus_ray.evaluation.reliability import held
from tokenfocus_ray.evaluation.resampling.bootstrap import MIN_GROUPS, Draws, interval, ratio
from tokenfocus_ray.evaluation.resampling.resampled import (
    resampled_auc,
    resampled_krcc,
    resampled_plcc,
    resampled_srcc,
)
from tokenfocus_ray.tables.columns import FloatArray

Interval = tuple[float, float]
IntArray = NDArray[np.int64]

#: Every figure that has an interval, without its ends.
UNDEFINED: dict[str, Interval] = dict.fromkeys(
    (
        "srcc",
        "plcc",
        "krcc",
        "pairwise_accuracy",
        "pairwise_accuracy_ties",
        "element_accuracy",
        "element_accuracy_own",
        "element_auc",
        "element_f1",
        "interval_coverage",
        "final_official",
        "final_corrected",
    ),
    (math.nan, math.nan),
)


@dataclass(frozen=True, slots=True)
class Resamples:
    """Resamples of the groups that figures are over.

    Attributes:
        numbers: [G] of the groups, rising.
        draws: How often each was drawn.
    """

    numbers: IntArray
    draws: Draws

    @classmethod
    def of(cls, joined: Joined) -> Resamples | None:
        """None where there are too few groups."""
        numbers = used_groups(joined)
        return cls(numbers, Draws.of(len(numbers))) if len(numbers) >= MIN_GROUPS else None

    def places(self, groups_N: IntArray) -> IntArray:
        """[N] place of each row's group in the draws."""
        return np.searchsorted(self.numbers, groups_N).astype(np.int64)

    def shares(self, groups_N: IntArray, above_N: FloatArray, below_N: FloatArray) -> FloatArray:
        """[R] quotients of sums over the rows."""
        sums_R2 = self.draws.sums(self.places(groups_N), np.column_stack([above_N, below_N]))
        return ratio(sums_R2[:, 0], sums_R2[:, 1])


def used_groups(joined: Joined) -> IntArray:
    """[G] groups with a usable label of a sample or of an element, rising."""
    elements = joined.elements
    usable_E = np.isfinite(elements.scores) & np.isfinite(elements.labels)
    used_N = np.isfinite(joined.labels)
    used_N[elements.rows[usable_E]] = True
    return np.unique(joined.groups[used_N])


def report_intervals(
    joined: Joined,
    resamples: Resamples,
    pairs: Pairs | None,
    epsilon: float,
    official: ChallengeScore,
    corrected: ChallengeScore,
) -> dict[str, Interval]:
    """Intervals of a report's figures, by the figure's name; NaN where it is not defined.

    What was fitted on all rows stays as it is on every resample: the logistic curves, and the
    epsilon of ties.

    Args:
        joined: Scores and labels.
        resamples: Of its groups.
        pairs: Within prompts.
        epsilon: Of calibrated ties.
        official: For its curve.
        corrected: Likewise.
    """
    known_N = np.isfinite(joined.labels)
    scores_N, labels_N = joined.scores[known_N], joined.labels[known_N]
    samples: dict[str, FloatArray] = {}
    draws, places_N = resamples.draws, resamples.places(joined.groups[known_N])
    if undefined_reason(scores_N, labels_N) is None:
        samples["srcc"] = resampled_srcc(draws, places_N, scores_N, labels_N)
        samples["plcc"] = resampled_plcc(draws, places_N, scores_N, labels_N)
        samples["krcc"] = resampled_krcc(draws, places_N, scores_N, labels_N)
    if pairs is not None and len(pairs.groups_P):
        untied = (~pairs.tied_P).astype(np.float64)
        right = pairs.right(epsilon).astype(np.float64)
        samples["pairwise_accuracy"] = resamples.shares(pairs.groups_P, pairs.halves(), untied)
        samples["pairwise_accuracy_ties"] = resamples.shares(
            pairs.groups_P, right, np.ones_like(right)
        )
    samples |= _element_samples(joined, resamples)
    inside_N, bounded_N = held(joined.lows, joined.highs, joined.labels)
    samples["interval_coverage"] = resamples.shares(
        joined.groups[bounded_N],
        inside_N[bounded_N].astype(np.float64),
        np.ones(int(bounded_N.sum())),
    )
    if {"srcc", "element_accuracy"} <= samples.keys():
        for name, score in (("final_official", official), ("final_corrected", corrected)):
            plcc = samples["plcc"]
            if score.fit is not None:
                x, y = (labels_N, scores_N) if name == "final_official" else (scores_N, labels_N)
                plcc = resampled_plcc(draws, places_N, logistic(x, *score.fit), y)
            samples[name] = 0.25 * samples["srcc"] + 0.25 * plcc + 0.5 * samples["element_accuracy"]
    return UNDEFINED | {name: interval(values) for name, values in samples.items()}


def accuracy_interval(
    joined: Joined, resamples: Resamples, chosen_E: NDArray[np.bool_]
) -> Interval:
    """Of the accuracy over some of the elements."""
    elements = joined.elements
    usable_E = np.isfinite(elements.scores) & np.isfinite(elements.labels) & chosen_E
    groups = joined.groups[elements.rows[usable_E]]
    agree = _agree(elements.scores[usable_E], elements.labels[usable_E])
    return interval(resamples.shares(groups, agree, np.ones_like(agree)))


def _element_samples(joined: Joined, resamples: Resamples) -> dict[str, FloatArray]:
    samples: dict[str, FloatArray] = {}
    elements = joined.elements
    groups_E = joined.groups[elements.rows]
    usable_E = np.isfinite(elements.scores) & np.isfinite(elements.labels)
    if usable_E.any():
        scores, groups = elements.scores[usable_E], groups_E[usable_E]
        present, predicted = elements.labels[usable_E] >= THRESHOLD, scores >= THRESHOLD
        agree = (present == predicted).astype(np.float64)
        samples["element_accuracy"] = resamples.shares(groups, agree, np.ones_like(agree))
        if present.any() and not present.all():
            samples["element_f1"] = resamples.shares(
                groups,
                (2 * (present & predicted)).astype(np.float64),
                present.astype(np.float64) + predicted,
            )
            samples["element_auc"] = resampled_auc(
                resamples.draws, resamples.places(groups), scores, present
            )
    own_E = usable_E & np.isfinite(elements.present)
    if own_E.any():
        agree = _agree(elements.present[own_E], elements.labels[own_E])
        samples["element_accuracy_own"] = resamples.shares(
            groups_E[own_E], agree, np.ones_like(agree)
        )
    return samples


def _agree(predicted_E: FloatArray, labels_E: FloatArray) -> FloatArray:
    agree: NDArray[np.bool_] = (predicted_E >= THRESHOLD) == (labels_E >= THRESHOLD)
    return agree.astype(np.float64)
