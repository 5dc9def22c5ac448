"""What stands in a bundle's files, checked when it is opened: nothing of it is trusted.

Legend: F feature columns, K kept columns, Q quantiles, B blocks, T trees, J nodes of a tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tokenfocus_ray.config.stacking import Method
from tokenfocus_ray.ensemble.stackers import FITS
from tokenfocus_ray.parsing import problems

#: Of a bundle: levels of nesting of its JSON, and nodes of a tree (ours have 15 at the most).
_DEPTH, _NODES = 32, 255
_FLOATS, _INTS = "f", "i"

Arrays = Mapping[str, NDArray[Any]]
_Positive = Annotated[float, Field(gt=0.0)]


class Broken(Exception):
    """A bundle that cannot be right; the message says where and why."""


class _Stored(BaseModel):
    # keys that a later version adds do no harm
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class _Calibration(_Stored):
    slope: float = Field(ge=0.0)
    low: float
    high: float

    @model_validator(mode="after")
    def _rising(self) -> _Calibration:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self


class _Interval(_Stored):
    radius: float | None = Field(ge=0.0)
    coverage: float = Field(gt=0.0, lt=1.0)


class _Stack(_Stored):
    features: list[str] = Field(min_length=1)
    method: Method
    weights: dict[Literal[*FITS], float] = Field(min_length=1)  # type: ignore[valid-type]
    centers: dict[str, float]
    scales: dict[str, _Positive]
    slope: float
    bias: float
    calibration: _Calibration
    interval: _Interval
    threshold: float | None
    about: dict[str, Any]

    @model_validator(mode="after")
    def _together(self) -> _Stack:
        if len({*self.features}) < len(self.features):
            raise ValueError("features holds a name twice")
        for name in ("centers", "scales"):
            if missing := {*self.weights} - {*getattr(self, name)}:
                raise ValueError(f"{name} lacks {', '.join(sorted(missing))}, which has a weight")
        return self


class _Elements(_Stack):
    threshold: float


class _Config(_Stored):
    backbone: str
    adapters: dict[str, str] = Field(default_factory=dict)


class _Backbone(_Stored):
    config: _Config
    identity: dict[str, Any] | None = None


class _Bundle(_Stored):
    total: _Stack
    elements: _Elements | None
    backbones: dict[str, _Backbone]


class _Backbones(_Stored):
    backbones: dict[str, _Backbone]


def check_values(values: Any) -> None:
    """Checks what stands in a bundle's JSON.

    Raises:
        Broken: with every key that is missing or wrong.
    """
    _check_nesting(values, _DEPTH)
    _validate(_Bundle, values)


def check_backbones(values: Any) -> None:
    """The backbones that a bundle, or the run that it is made of, records.

    Args:
        values: Name -> ``config`` and ``identity``.

    Raises:
        Broken: with every key that is missing or wrong.
    """
    _check_nesting(values, _DEPTH)
    _validate(_Backbones, {"backbones": values})


def _validate(model: type[BaseModel], values: Any) -> None:
    try:
        model.model_validate(values)
    except ValidationError as error:
        raise Broken(problems(error, model)) from None


def _check_nesting(value: Any, left: int) -> None:
    if not left:
        raise Broken(f"is nested deeper than {_DEPTH} levels")
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in below:
        _check_nesting(part, left - 1)


def check_arrays(name: str, stack: Mapping[str, Any], arrays: Arrays) -> None:
    """Checks the arrays of a stack against each other and against its values.

    Args:
        name: ``total`` or ``elements``.
        stack: Of :func:`check_values`.
        arrays: By their names in the file.

    Raises:
        Broken: with the array that is missing or wrong.
    """
    n_features = len(stack["features"])
    scaler = f"{name}.scaler"
    kept_K = _array(arrays, f"{scaler}.kept", (None,), _INTS)
    width = len(kept_K)
    if not width or kept_K.min() < 0 or kept_K.max() >= n_features:
        raise Broken(f"{scaler}.kept is {kept_K.tolist()!s:.80}, of {n_features} features")
    each = {
        part: _array(arrays, f"{scaler}.{part}", (width,))
        for part in ("sign", "low", "high", "fill", "center", "scale")
    }
    quantiles_KQ = _array(arrays, f"{scaler}.quantiles", (width, None))
    _require((np.abs(each["sign"]) == 1).all(), f"{scaler}.sign", "is not 1 or -1")
    _require((each["scale"] > 0).all(), f"{scaler}.scale", "is not above 0")
    _require((each["low"] <= each["high"]).all(), f"{scaler}.low", "is above high")
    _require(_rises(quantiles_KQ), f"{scaler}.quantiles", "does not rise")
    x_B = _array(arrays, f"{name}.calibrator.x", (None,))
    y_B = _array(arrays, f"{name}.calibrator.y", x_B.shape)
    _require(len(x_B) > 0 and _rises(x_B), f"{name}.calibrator.x", "does not rise")
    _require(_rises(y_B), f"{name}.calibrator.y", "does not rise")
    for part in stack["weights"]:
        _check_part(part, f"{name}.parts.{part}", arrays, width)


def _check_part(part: str, where: str, arrays: Arrays, width: int) -> None:
    if part == "rank_mean":
        return
    _array(arrays, f"{where}.bias", ())
    if part != "boosting":
        _array(arrays, f"{where}.weights", (width,))
        return
    _array(arrays, f"{where}.value", (None, None))
    shape = arrays[f"{where}.value"].shape
    _require(0 < shape[1] <= _NODES, f"{where}.value", f"has not 1..{_NODES} nodes a tree")
    _array(arrays, f"{where}.threshold", shape)
    left_TJ, right_TJ, feature_TJ = (
        _array(arrays, f"{where}.{own}", shape, _INTS) for own in ("left", "right", "feature")
    )
    reached_TJ = np.zeros(shape, bool)  # the rest is padding
    reached_TJ[:, 0] = True
    for j in range(shape[1]):
        trees = np.flatnonzero(reached_TJ[:, j] & (left_TJ[:, j] >= 0))
        column_T = feature_TJ[trees, j]
        known = (column_T >= 0) & (column_T < width)
        _require(known.all(), f"{where}.feature", f"names none of {width} columns")
        for own, child_TJ in (("left", left_TJ), ("right", right_TJ)):
            child_T = child_TJ[trees, j]
            # behind its parent, so that no tree turns in circles
            behind = (child_T > j) & (child_T < shape[1])
            _require(behind.all(), f"{where}.{own}", "names no node further on")
            reached_TJ[trees, child_T] = True


def _array(
    arrays: Arrays, name: str, shape: tuple[int | None, ...], kind: str = _FLOATS
) -> NDArray[Any]:
    """A finite array; None in the shape is any length."""
    if (found := arrays.get(name)) is None:
        raise Broken(f"{name} is missing")
    if found.dtype.kind != kind:
        raise Broken(f"{name} is of type {found.dtype}")
    fits = len(found.shape) == len(shape) and all(
        wanted in (None, there) for wanted, there in zip(shape, found.shape, strict=True)
    )
    if not fits:
        wanted = " x ".join("any" if n is None else str(n) for n in shape) or "a number"
        raise Broken(f"{name} has the shape {list(found.shape)}, wanted {wanted}")
    _require(np.isfinite(found).all(), name, "holds NaN or infinity")
    return found


def _rises(values: NDArray[Any]) -> bool:
    """Along the last axis, but for rounding."""
    return bool((np.diff(values) >= -1e-9 * np.abs(values).max(initial=0.0)).all())


def _require(good: Any, name: str, what: str) -> None:
    if not good:
        raise Broken(f"{name} {what}")
