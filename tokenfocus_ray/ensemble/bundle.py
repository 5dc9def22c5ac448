"""A fitted ensemble as a folder: ``ensemble.json`` and ``ensemble.safetensors``; no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.ensemble.calibrated import CalibratedStack, below
from tokenfocus_ray.ensemble.stored import Broken, check_arrays, check_values
from tokenfocus_ray.errors import ManifestError, OutputError, shown
from tokenfocus_ray.storage import Store
from tokenfocus_ray.version import __version__

JSON, TENSORS = "ensemble.json", "ensemble.safetensors"
#: Of the files; another is refused.
FORMAT = 2
_STACKS = ("total", "elements")


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Everything that makes one score of many.

    Attributes:
        total: For the overall score, or for the label of any table.
        elements: For the score of an element; None where there were no labels of elements.
        backbones: Name -> ``config`` (a ``ScoringConfig`` as plain values, with its members) and
            ``identity`` (hashes of what it scores with); empty where a table was stacked.
    """

    total: CalibratedStack
    elements: CalibratedStack | None = None
    backbones: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def save(self, folder: str) -> None:
        """Writes the bundle; the JSON comes last, so that a folder with one is whole.

        Raises:
            OutputError: the folder cannot be written.
        """
        store = Store.of(folder)
        values, arrays = self._parts()
        store.write_bytes(TENSORS, save_tensors(arrays))
        store.write_json(JSON, values)

    def scoring_configs(self) -> dict[str, ScoringConfig]:
        """The backbones that it brings; none where a table of scores was stacked."""
        return {
            name: ScoringConfig.parse(one["config"], f"ensemble: {name}")
            for name, one in self.backbones.items()
        }

    def fingerprint(self) -> str:
        """Hash of all that a score depends on."""
        values, arrays = self._parts()
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
        digest.update(save_tensors(arrays))
        return digest.hexdigest()[:16]

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        values: dict[str, Any] = {"format": FORMAT, "version": __version__}
        values["backbones"] = {name: dict(one) for name, one in self.backbones.items()}
        tensors: dict[str, NDArray[Any]] = {}
        for name in _STACKS:
            stack: CalibratedStack | None = getattr(self, name)
            values[name] = None
            if stack is not None:
                values[name], arrays = stack.parts()
                tensors |= {f"{name}.{k}": np.array(a, order="C") for k, a in arrays.items()}
        return values, tensors

    @classmethod
    def load(cls, folder: str) -> Self:
        """Reads a bundle.

        Raises:
            ManifestError: there is none, or it is of another format or broken.
        """
        store = Store.of(folder)
        values, tensors = _read(store, folder)
        if isinstance(values, dict) and values.get("format") != FORMAT:
            raise ManifestError(
                f"{folder!r} has format {shown(values.get('format'))}, this version reads "
                f"{FORMAT}; stack again"
            )
        at = JSON
        try:
            check_values(values)
            at = TENSORS
            for name in _STACKS:
                if values[name] is not None:
                    check_arrays(name, values[name], tensors)
        except Broken as error:
            raise ManifestError(
                f"{folder!r} cannot be read as an ensemble: {at}: {error}; stack again"
            ) from None
        total, elements = (
            values[name] and CalibratedStack.from_parts(values[name], below(tensors, name))
            for name in _STACKS
        )
        return cls(total, elements, values["backbones"])


def _read(store: Store, folder: str) -> tuple[Any, dict[str, NDArray[Any]]]:
    try:
        return store.read_json(JSON), load_tensors(store.read_bytes(TENSORS))
    except FileNotFoundError as error:
        raise ManifestError(
            f"{folder!r} is no ensemble: {JSON} or {TENSORS} is missing; make one with "
            f"`tokenfocus stack ... --out {folder}`"
        ) from error
    except OutputError as error:  # which names the file
        raise ManifestError(f"{folder!r} cannot be read as an ensemble: {error}") from error
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{folder!r} cannot be read as an ensemble: {TENSORS}: {shown(str(error))}; stack again"
        ) from error
