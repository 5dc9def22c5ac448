"""A stacker with its calibration: from columns to scores on the human scale, with intervals.

Legend: N rows, F feature columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.ensemble.features import Scaler
from tokenfocus_ray.ensemble.isotonic import Calibrator
from tokenfocus_ray.ensemble.stacking import Stack
from tokenfocus_ray.tables.columns import FloatArray

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Scores of rows.

    Attributes:
        score: [N] on the labels' scale; NaN where every feature is missing.
        low: [N] lower end of the interval.
        high: [N] upper end.
    """

    score: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True, slots=True)
class CalibratedStack:
    """A stacker with its calibration.

    Attributes:
        features: [F] names of the columns that it takes.
        stack: From columns to the labels' units.
        calibrator: From there to the labels' scale.
        radius: Half the width of the interval; infinite where there were too few rows.
        coverage: Share of new rows whose label lies in the interval.
        threshold: From which score on an element counts as present; None of totals.
        about: Metrics, notes and the data's fingerprint, as plain values.
    """

    features: tuple[str, ...]
    stack: Stack
    calibrator: Calibrator
    radius: float
    coverage: float
    threshold: float | None
    about: Mapping[str, Any]

    def predict(self, values_NF: FloatArray) -> Prediction:
        """Scores with intervals.

        Args:
            values_NF: In the order of ``features``; NaN where missing.
        """
        score = self.calibrator(self.stack.predict(values_NF))
        low, high = self.calibrator.low, self.calibrator.high
        return Prediction(
            score, np.clip(score - self.radius, low, high), np.clip(score + self.radius, low, high)
        )

    def parts(self) -> tuple[dict[str, Any], Arrays]:
        """Plain values for JSON, and arrays."""
        stack, curve = self.stack, self.calibrator
        arrays = {f"scaler.{k}": v for k, v in stack.scaler.arrays().items()}
        arrays |= {"calibrator.x": curve.x, "calibrator.y": curve.y}
        for part, own in stack.parts.items():
            arrays |= {f"parts.{part}.{k}": np.asarray(v) for k, v in own.items()}
        values = {
            "features": list(self.features),
            "method": stack.method,
            "weights": dict(stack.weights),
            "centers": dict(stack.centers),
            "scales": dict(stack.scales),
            "slope": stack.slope,
            "bias": stack.bias,
            "calibration": {"slope": curve.slope, "low": curve.low, "high": curve.high},
            "interval": {
                "radius": self.radius if math.isfinite(self.radius) else None,
                "coverage": self.coverage,
            },
            "threshold": self.threshold,
            "about": dict(self.about),
        }
        return values, arrays

    @classmethod
    def from_parts(cls, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of :meth:`parts`."""
        curve, radius = values["calibration"], values["interval"]["radius"]
        stack = Stack(
            values["method"],
            Scaler.from_arrays(below(arrays, "scaler")),
            {name: below(arrays, f"parts.{name}") for name in values["weights"]},
            values["weights"],
            values["centers"],
            values["scales"],
            values["slope"],
            values["bias"],
        )
        x, y = arrays["calibrator.x"], arrays["calibrator.y"]
        return cls(
            tuple(values["features"]),
            stack,
            Calibrator(x, y, curve["slope"], curve["low"], curve["high"]),
            math.inf if radius is None else radius,
            values["interval"]["coverage"],
            values["threshold"],
            values["about"],
        )


def below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    """Those whose names begin with a prefix and a dot, without it."""
    start = f"{prefix}."
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
