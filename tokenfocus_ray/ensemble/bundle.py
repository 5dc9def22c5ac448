"""A fitted ensemble as a folder: ``ensemble.json`` and ``ensemble.safetensors``; no pickle.

Legend: N rows, F feature columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from tokenfocus_ray import __version__
from tokenfocus_ray.ensemble.calibration import Calibrator
from tokenfocus_ray.ensemble.features import FloatArray, Scaler
from tokenfocus_ray.ensemble.stacking import Stack
from tokenfocus_ray.errors import ManifestError, OutputError
from tokenfocus_ray.storage import Store

JSON, TENSORS = "ensemble.json", "ensemble.safetensors"
#: Of the files; another is refused.
FORMAT = 1


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
class Ensemble:
    """A stacker with its calibration.

    Attributes:
        features: [F] names of the columns that it takes.
        stack: From columns to the labels' units.
        calibrator: From there to the labels' scale.
        radius: Half the width of the interval; infinite where there were too few rows.
        coverage: Share of new rows whose label lies in the interval.
        about: Metrics, notes and the data's fingerprint, as plain values.
    """

    features: tuple[str, ...]
    stack: Stack
    calibrator: Calibrator
    radius: float
    coverage: float
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

    def save(self, folder: str) -> None:
        """Writes the bundle; the JSON comes last, so that a folder with one is whole.

        Raises:
            OutputError: the folder cannot be written.
        """
        arrays = {f"scaler.{k}": v for k, v in self.stack.scaler.arrays().items()}
        arrays |= {"calibrator.x": self.calibrator.x, "calibrator.y": self.calibrator.y}
        for part, own in self.stack.parts.items():
            arrays |= {f"parts.{part}.{k}": np.asarray(v) for k, v in own.items()}
        stack, curve = self.stack, self.calibrator
        values = {
            "format": FORMAT,
            "version": __version__,
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
            "about": dict(self.about),
        }
        store = Store.of(folder)
        contiguous = {name: np.array(array, order="C") for name, array in arrays.items()}
        store.write_bytes(TENSORS, save_tensors(contiguous))
        store.write_json(JSON, values)

    @classmethod
    def load(cls, folder: str) -> Self:
        """Reads a bundle.

        Raises:
            ManifestError: there is none, or it is of another format or broken.
        """
        store = Store.of(folder)
        try:
            values, tensors = store.read_json(JSON), load_tensors(store.read_bytes(TENSORS))
        except FileNotFoundError as error:
            raise ManifestError(
                f"{folder!r} is no ensemble: {JSON} or {TENSORS} is missing; make one with "
                f"`tokenfocus stack ... --out {folder}`"
            ) from error
        except (SafetensorError, OutputError) as error:
            raise ManifestError(f"{folder!r} cannot be read as an ensemble: {error}") from error
        if values.get("format") != FORMAT:
            raise ManifestError(
                f"{folder!r} has format {values.get('format')!r}, this version reads {FORMAT}; "
                f"stack again"
            )
        curve = values["calibration"]
        stack = Stack(
            values["method"],
            Scaler.from_arrays(_below(tensors, "scaler")),
            {name: _below(tensors, f"parts.{name}") for name in values["weights"]},
            values["weights"],
            values["centers"],
            values["scales"],
            values["slope"],
            values["bias"],
        )
        radius = values["interval"]["radius"]
        return cls(
            tuple(values["features"]),
            stack,
            Calibrator(
                tensors["calibrator.x"], tensors["calibrator.y"], curve["slope"], curve["low"],
                curve["high"],
            ),
            math.inf if radius is None else radius,
            values["interval"]["coverage"],
            values["about"],
        )  # fmt: skip


def _below(tensors: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
