"""In which order a member sees its samples, and with which learning rate: pure functions.

Which samples a step takes depends on the seed, the epoch and the step only: never on the number of
workers, nor on whether the run was interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step.

    Attributes:
        index: From 0 over the whole run.
        epoch: From 0.
        samples: Indices of its samples.
        ends_epoch: Whether it is its epoch's last.
    """

    index: int
    epoch: int
    samples: tuple[int, ...]
    ends_epoch: bool

    def share(self, rank: int, workers: int) -> tuple[int, ...]:
        """The samples of one worker: every ``workers``-th."""
        return self.samples[rank::workers]


@dataclass(frozen=True, slots=True)
class Schedule:
    """All steps of a run.

    Attributes:
        samples: Indices of one epoch; a repeated index is seen as often.
        groups: [N] prompt of every sample of the data.
        epochs: Number of epochs.
        batch_size: Samples a step.
        seed: Of the order.
        by_prompt: Keeps up to four images of one prompt together, for the rank term, whose pairs
            are those within a step.
    """

    samples: tuple[int, ...]
    groups: tuple[int, ...]
    epochs: int
    batch_size: int
    seed: int
    by_prompt: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; the last may be smaller."""
        return -(-len(self.samples) // self.batch_size)

    @property
    def n_steps(self) -> int:
        """Steps of the run."""
        return self.epochs * self.steps_per_epoch

    def order(self, epoch: int) -> list[int]:
        """Samples of an epoch in their order."""
        rng = np.random.default_rng([self.seed, 2, epoch])
        mixed = [self.samples[i] for i in rng.permutation(len(self.samples))]
        if not self.by_prompt:
            return mixed
        of_group: dict[int, list[int]] = {}
        for index in mixed:
            of_group.setdefault(self.groups[index], []).append(index)
        chunks = [m[i : i + 4] for m in of_group.values() for i in range(0, len(m), 4)]
        return [index for i in rng.permutation(len(chunks)) for index in chunks[i]]

    def steps(self, start: int = 0) -> Iterator[Step]:
        """Steps from ``start`` on."""
        each = self.steps_per_epoch
        for epoch in range(start // each, self.epochs):
            order = self.order(epoch)
            for i in range(max(0, start - epoch * each), each):
                batch = order[i * self.batch_size : (i + 1) * self.batch_size]
                yield Step(epoch * each + i, epoch, tuple(batch), i == each - 1)


def learning_rate(step: int, n_steps: int, peak: float, warmup: float) -> float:
    """Linear warm-up, then a half cosine down to a tenth of the peak.

    Args:
        step: From 0.
        n_steps: Steps of the run.
        peak: Highest learning rate.
        warmup: Share of the steps that warm up.

    >>> [round(learning_rate(s, 10, 1.0, 0.2), 3) for s in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.134]
    """
    n_warm = math.ceil(warmup * n_steps)
    if step < n_warm:
        return peak * (step + 1) / n_warm
    done = (step - n_warm) / max(1, n_steps - n_warm)
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


def early_stop(scores: Sequence[float], patience: int) -> bool:
    """Whether the last ``patience`` epochs brought no better score than those before.

    >>> early_stop([0.5, 0.6, 0.6, 0.55], 2), early_stop([0.5, 0.6, 0.6, 0.61], 2)
    (True, False)
    """
    return len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])
