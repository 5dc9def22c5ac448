"""How a stacker is chosen and judged."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tokenfocus_ray.config.base import Frozen

#: Meta-learners, a blend of some, and the best of all on folds inside the training rows.
Method = Literal["single", "rank_mean", "nnls", "ridge", "boosting", "blend", "auto"]
#: What one of them is chosen by.
Metric = Literal["srcc", "plcc", "mean", "challenge"]


class StackConfig(Frozen):
    """How a stacker is chosen and judged; see :mod:`tokenfocus_ray.ensemble.stacking`.

    Attributes:
        method: Which meta-learner; ``auto`` takes the best on folds inside the training rows.
        metric: What ``auto`` and the weights of a blend go by: SRCC, PLCC, their mean, or the
            totals' part of the challenge's score.
        label_range: Labels outside are impossible; None: those far off the bulk are.
        coverage: Share of labels that the intervals are to hold.
        folds: Outer folds of whole groups.
        seeds: Rounds of outer folds.
    """

    method: Method = "auto"
    metric: Metric = "mean"
    label_range: tuple[float, float] | None = None
    coverage: float = Field(default=0.9, gt=0.0, lt=1.0)
    folds: int = Field(default=5, ge=2)
    seeds: int = Field(default=5, ge=1)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.label_range is not None and self.label_range[0] >= self.label_range[1]:
            raise ValueError(f"label_range {self.label_range} must rise")
        return self
