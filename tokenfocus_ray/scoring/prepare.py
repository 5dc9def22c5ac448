"""The CPU stage: from manifest rows to images at the size that the backbones want."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.datasets.role_values import valid_values
from tokenfocus_ray.errors import ImageDecodeError, RowError
from tokenfocus_ray.schema import sample_id
from tokenfocus_ray.scoring.fetch import original
from tokenfocus_ray.scoring.image import decode
from tokenfocus_ray.scoring.request import image_reference
from tokenfocus_ray.scoring.wire import (
    DIED,
    ID,
    PREPARED,
    error_to_struct,
    image_to_struct,
    prepared_column,
    text_of,
)
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE


@dataclass(frozen=True, slots=True)
class PrepareStage:
    """Decodes and resizes the images of a batch; a bad image becomes an error in its row.

    Attributes:
        columns: Which column is what.
        image_specs: Backbone -> how it wants its images.
        base: Folder that relative image paths start from.
        confined: Whether only images below ``base`` are read.
        encoding: Of text in columns of bytes; None: UTF-8.
        given_up: Whether rows leave with ``process_died`` instead.
    """

    columns: Columns
    image_specs: Mapping[int, ImageSpec]
    base: str
    confined: bool = False
    encoding: str | None = None
    given_up: bool = False

    def __call__(self, table: pa.Table) -> pa.Table:
        """Prepares a batch.

        Args:
            table: Rows of a manifest, with images as bytes or references.

        Returns:
            The rows without their image bytes; see :mod:`~tokenfocus_ray.scoring.wire` for the
            columns that are added. What is asked is text now.
        """
        c = self.columns
        table = valid_values(table, c, self.encoding)
        used = [n for n in (c.image, c.image_uri, c.prompt, c.sample_id) if n]
        rows = table.select([*dict.fromkeys(used), ERROR_CODE, ERROR_MESSAGE]).to_pylist()
        images = [self._images(row) for row in rows]
        table = table.drop_columns([ERROR_CODE, ERROR_MESSAGE, *([c.image] if c.image else [])])
        table = table.append_column(ID, pa.array([self._id(row) for row in rows], pa.string()))
        for i in self.image_specs:
            prepared = pa.array([row[i] for row in images], PREPARED)
            table = table.append_column(prepared_column(i), prepared)
        return table

    def unread(self, table: pa.Table) -> pa.Table:
        """The rows of a batch as given up: no image of it is looked at."""
        dead = replace(self, given_up=True)
        return dead(table)

    def _id(self, row: Mapping[str, Any]) -> str:
        c = self.columns
        given = row[c.sample_id] if c.sample_id else None
        if given not in (None, ""):
            return str(given)  # a whole number or a text, see valid_values
        uri, value = (row[name] if name else None for name in (c.image_uri, c.image))
        reference = text_of(uri) or image_reference(value) or b""
        return sample_id(reference, text_of(row[c.prompt]) or "")

    def _images(self, row: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
        c = self.columns
        try:
            if row[ERROR_CODE] is not None:  # of its source, or of what cannot be asked
                raise RowError(row[ERROR_CODE], row[ERROR_MESSAGE])
            if self.given_up:
                raise ImageDecodeError("process_died", DIED)
            uri, value = (row[name] if name else None for name in (c.image_uri, c.image))
            pixels = self._decode(value, uri)
        except RowError as error:
            return dict.fromkeys(self.image_specs, error_to_struct(error))
        return {i: _prepared(spec, pixels) for i, spec in self.image_specs.items()}

    def _decode(self, value: Any, uri: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        column = self.columns.image_uri or self.columns.image
        data, where = original(value, uri, self.base, column=column, confined=self.confined)
        return decode(data, where=where)


def _prepared(spec: ImageSpec, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> dict[str, Any]:
    try:
        return image_to_struct(spec.prepare(pixels))
    except RowError as error:  # of this backbone alone, such as an aspect ratio
        return error_to_struct(error)
