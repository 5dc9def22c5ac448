"""What a figure is, and what it is made from.

Legend: N rows with score and label, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from tokenfocus_ray.evaluation.join import Joined
from tokenfocus_ray.evaluation.resampling.bootstrap import interval
from tokenfocus_ray.evaluation.resampling.intervals import Interval, Resamples
from tokenfocus_ray.tables.columns import FloatArray

_Made = TypeVar("_Made")
_UNDEFINED: Interval = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a report.

    Attributes:
        name: Its key in JSON; with a dot, one that stands within another value.
        title: How it is printed.
        value: NaN where it is not defined.
        n: How many of ``unit`` it is over.
        unit: Such as rows; empty where it is made of other figures.
        interval: Ends of its 95 % interval, NaN where there are none; None of a figure that has no
            interval, or where none was asked for.
        reason: Why it is not defined, or what is to be known of it, as a line of its own; figures
            may share one.
        details: Other keys of the JSON, which say what the figure is over or what it is made from.
        optional: Whether it is printed only where there is something that it is over.
    """

    name: str
    title: str
    value: float
    n: int
    unit: str = "rows"
    interval: Interval | None = None
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    optional: bool = False

    @property
    def low(self) -> float:
        """Lower end of the interval; NaN where there is none."""
        return (self.interval or _UNDEFINED)[0]

    @property
    def high(self) -> float:
        """Upper end."""
        return (self.interval or _UNDEFINED)[1]


class Evidence:
    """Scores beside labels, as figures take them.

    Attributes:
        joined: Everything, labels that are not usable included.
        scores: [N] of the rows with a usable label.
        labels: [N] finite.
        groups: [N] numbers of the prompts.
    """

    def __init__(
        self, joined: Joined, resamples: Resamples | None = None, *, intervals: bool = False
    ) -> None:
        """Takes what was joined.

        Args:
            joined: Scores and labels.
            resamples: Of its groups; None where there are too few, or no intervals are wanted.
            intervals: Whether figures are to have intervals.
        """
        known_N = np.isfinite(joined.labels)
        self.joined = joined
        self.scores, self.labels = joined.scores[known_N], joined.labels[known_N]
        self.groups = joined.groups[known_N]
        self._resamples, self._intervals = resamples, intervals
        self._made: dict[Any, Any] = {}

    def once(self, make: Callable[[Evidence], _Made]) -> _Made:
        """What a function makes of this, kept for the next figure that asks for it."""
        if make not in self._made:
            self._made[make] = make(self)
        found: _Made = self._made[make]
        return found

    def resampled(
        self, make: Callable[[Evidence, Resamples], FloatArray | None]
    ) -> FloatArray | None:
        """[R] a figure on each resample, likewise; None without resamples, or where it is None.

        What was fitted on all rows stays as it is on every resample.
        """
        if self._resamples is None:
            return None
        if make not in self._made:
            self._made[make] = make(self, self._resamples)
        found: FloatArray | None = self._made[make]
        return found

    def interval(self, make: Callable[[Evidence, Resamples], FloatArray | None]) -> Interval | None:
        """The 95 % interval of a figure, from its values on resamples.

        Args:
            make: See :meth:`resampled`.
        """
        if not self._intervals:
            return None
        samples_R = self.resampled(make)
        return _UNDEFINED if samples_R is None else interval(samples_R)
