"""A sample on its way from the CPU stage to the device stage; failures travel with it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenfocus_ray.backbones.images import ImageSpec, PreparedImage
from tokenfocus_ray.errors import PromptError, RowError
from tokenfocus_ray.schema import Element, ScoreRow, parse_elements, sample_id
from tokenfocus_ray.scoring.image import ImageSource, decode


@dataclass(frozen=True, slots=True)
class Request:
    """One sample on its way to the device.

    Attributes:
        sample_id: Id of the sample.
        prompt: The text prompt; anything but text becomes an unscored row.
        image: Prepared, or why there is none.
        elements: Elements, or why they cannot be read.
        prompt_type: ``"real"``, ``"synthetic"`` or None.
    """

    sample_id: str
    prompt: object
    image: PreparedImage | RowError
    elements: Sequence[Element] | RowError = ()
    prompt_type: str | None = None

    @property
    def n_elements(self) -> int:
        """Number of elements, 0 where they cannot be read."""
        return 0 if isinstance(self.elements, RowError) else len(self.elements)


def prepare_request(
    spec: ImageSpec, image: ImageSource, prompt: object, elements: Any, prompt_type: str | None
) -> Request:
    """One sample in memory; what is wrong with it travels along.

    Args:
        spec: How the backbone wants its images.
        image: See :func:`~tokenfocus_ray.scoring.image.decode`.
        prompt: The text prompt.
        elements: See :func:`~tokenfocus_ray.schema.parse_elements`.
        prompt_type: ``"real"``, ``"synthetic"`` or None.
    """
    prepared: PreparedImage | RowError
    try:
        prepared = spec.prepare(decode(image))
    except RowError as error:
        prepared = error
    reference = image_reference(image)
    if reference is None and isinstance(prepared, PreparedImage):
        reference = prepared.tiles_NHWC.tobytes()
    return Request(
        sample_id(reference or b"", prompt if isinstance(prompt, str) else ""),
        prompt,
        prepared,
        read_elements(elements),
        prompt_type,
    )


def image_reference(image: object) -> str | bytes | None:
    """What names an image in the hash of a sample: its path or URI, else its encoded bytes.

    None for pictures in memory, which have neither.
    """
    if isinstance(image, Mapping):
        data = image.get("bytes")
        image = image.get("path") if data is None else data
    if isinstance(image, (bytes, bytearray)):
        return bytes(image)
    return str(image) if isinstance(image, (str, os.PathLike)) else None


def read_elements(value: Any) -> Sequence[Element] | RowError:
    """Elements of a row, or why they cannot be read."""
    try:
        return parse_elements(value) or ()
    except ValueError as error:
        return PromptError("elements_invalid", str(error))


def unscored(request: Request, error: RowError) -> ScoreRow:
    """The row of a request that cannot be scored: NaN with a reason."""
    image = request.image if isinstance(request.image, PreparedImage) else None
    return ScoreRow(
        request.sample_id,
        "unscored",
        error.code,
        error.message,
        element_scores=[math.nan] * request.n_elements,
        width=image.width if image else 0,
        height=image.height if image else 0,
        n_visual_tokens=image.n_visual_tokens if image else 0,
    )
