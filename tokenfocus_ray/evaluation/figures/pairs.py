"""Which of two images of one prompt is better.

Legend: R resamples, P pairs.
"""

from __future__ import annotations

import math

import numpy as np

from tokenfocus_ray.evaluation.figures.figure import Evidence, Figure
from tokenfocus_ray.evaluation.pairwise import Pairs, PairwiseAccuracy, accuracy_of, pairs_within
from tokenfocus_ray.evaluation.resampling.intervals import Resamples
from tokenfocus_ray.tables.columns import FloatArray


def pairwise_accuracy(rows: Evidence) -> Figure:
    """Share of the pairs in the labels' order whose labels differ; ties of scores count half."""
    found = rows.once(_accuracy)
    return Figure(
        "pairwise_accuracy", "pairwise accuracy", found.accuracy, found.n - found.n_tied, "pairs",
        interval=rows.interval(_samples), reason=_reason(found, found.accuracy),
        details={"n_pairs": found.n, "n_pairs_tied": found.n_tied},
    )  # fmt: skip


def pairwise_accuracy_ties(rows: Evidence) -> Figure:
    """acc_eq with calibrated ties, over all pairs."""
    found = rows.once(_accuracy)
    return Figure(
        "pairwise_accuracy_ties", "pairwise accuracy, ties", found.accuracy_ties, found.n, "pairs",
        interval=rows.interval(_samples_with_ties), reason=_reason(found, found.accuracy_ties),
        details={"pairwise_epsilon": found.epsilon},
    )  # fmt: skip


def _pairs(rows: Evidence) -> Pairs | None:
    return pairs_within(rows.scores, rows.labels, rows.groups)


def _accuracy(rows: Evidence) -> PairwiseAccuracy:
    return accuracy_of(rows.once(_pairs))


def _reason(found: PairwiseAccuracy, value: float) -> str | None:
    return f"pairwise accuracy: {found.reason}" if found.reason and math.isnan(value) else None


def _samples(rows: Evidence, resamples: Resamples) -> FloatArray | None:
    pairs = rows.once(_pairs)
    if pairs is None or not len(pairs.groups_P):
        return None
    untied_P = (~pairs.tied_P).astype(np.float64)
    return resamples.shares(pairs.groups_P, pairs.halves(), untied_P)


def _samples_with_ties(rows: Evidence, resamples: Resamples) -> FloatArray | None:
    pairs = rows.once(_pairs)
    if pairs is None or not len(pairs.groups_P):
        return None
    right_P = pairs.right(rows.once(_accuracy).epsilon).astype(np.float64)
    return resamples.shares(pairs.groups_P, right_P, np.ones_like(right_P))
