"""The two stages of the batch job, as Ray Data maps them over Arrow tables.

``PrepareStage`` (CPU tasks): fetch, decode, resize; what leaves it is uint8 at the final size.
``ScoreStage`` (actors): vision pass, packed language pass, score rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tokenfocus_ray.backbones.base import ImageSpec, PreparedImage
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.datasets.manifest import Columns, passthrough
from tokenfocus_ray.errors import ImageDecodeError, RowError
from tokenfocus_ray.schema import SCORE_SCHEMA, ScoreRow, sample_id
from tokenfocus_ray.scoring.fetch import fetch
from tokenfocus_ray.scoring.image import decode
from tokenfocus_ray.scoring.request import Request, image_reference, read_elements

_PREPARED_COLUMNS: dict[str, pa.DataType] = {
    "tokenfocus_id": pa.string(),
    "tokenfocus_tiles": pa.large_binary(),
    "tokenfocus_tiles_shape": pa.list_(pa.int32()),
    "tokenfocus_grid": pa.list_(pa.int32()),
    "tokenfocus_n_visual_tokens": pa.int32(),
    "tokenfocus_size": pa.list_(pa.int32()),
    "tokenfocus_error_code": pa.string(),
    "tokenfocus_error_message": pa.string(),
}
#: Message of rows that were given up.
DIED = (
    "the process that worked on this row died each time; look at the workers' logs, and try again "
    "with --retry-unscored"
)
#: Columns that exist between the two stages only.
PREPARED = pa.schema(_PREPARED_COLUMNS)


@dataclass(frozen=True, slots=True)
class PrepareStage:
    """Decodes and resizes the images of a batch; a bad image becomes an error in its row.

    Attributes:
        columns: Which column is what.
        image_spec: How the backbone wants its images.
        base: Folder that relative image paths start from.
        given_up: Whether rows leave with ``process_died`` instead.
    """

    columns: Columns
    image_spec: ImageSpec
    base: str
    given_up: bool = False

    def __call__(self, table: pa.Table) -> pa.Table:
        """Replaces the image bytes by prepared pixels."""
        c = self.columns
        used = [n for n in (c.image, c.image_uri, c.prompt, c.sample_id) if n]
        records = [self._record(row) for row in table.select(used).to_pylist()]
        prepared = pa.Table.from_pylist(records, schema=PREPARED)
        if c.image:
            table = table.drop_columns([c.image])
        for field, column in zip(PREPARED, prepared.columns, strict=True):
            table = table.append_column(field, column)
        return table

    def unread(self, table: pa.Table) -> pa.Table:
        """The rows of a batch as given up: no image of it is looked at."""
        dead = replace(self, given_up=True)
        return dead(table)

    def _record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        c = self.columns
        value = row[c.image] if c.image else None
        uri = row[c.image_uri] if c.image_uri else None
        prompt = _text(row[c.prompt]) or ""
        given = row[c.sample_id] if c.sample_id else None
        reference = image_reference(uri) or image_reference(value) or b""
        record: dict[str, Any] = {
            "tokenfocus_id": sample_id(reference, prompt) if given in (None, "") else str(given)
        }
        try:
            if self.given_up:
                raise ImageDecodeError("process_died", DIED)
            prepared = self.image_spec.prepare(self._decode(value, uri))
        except RowError as error:
            return record | {
                "tokenfocus_error_code": error.code,
                "tokenfocus_error_message": error.message,
            }
        return record | {
            "tokenfocus_tiles": prepared.tiles_NHWC.tobytes(),
            "tokenfocus_tiles_shape": list(prepared.tiles_NHWC.shape),
            "tokenfocus_grid": list(prepared.grid),
            "tokenfocus_n_visual_tokens": prepared.n_visual_tokens,
            "tokenfocus_size": [prepared.width, prepared.height],
        }

    def _decode(self, value: Any, uri: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        if isinstance(value, Mapping):
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if isinstance(value, bytes):
            return decode(value)
        uri = value if value is not None else uri
        if uri is None or not str(uri).strip():
            raise ImageDecodeError(
                "image_missing",
                f"the row has no image: column {self.columns.image_uri or self.columns.image!r} is "
                f"empty; give bytes, a path or a URI",
            )
        return decode(fetch(str(uri), self.base), where=f"image {str(uri)!r}")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


class ScoreStage:
    """An actor that holds one backbone with its members."""

    _threads: int | None = None

    def __init__(
        self, config: ScoringConfig, columns: Columns, device: str | None, threads: int | None
    ) -> None:
        """Loads the weights.

        Args:
            config: What to score with.
            columns: Which column is what.
            device: ``"cuda"``, ``"cpu"``, or None for whichever there is.
            threads: CPU threads of torch; Ray gives an actor one unless told otherwise.
        """
        from tokenfocus_ray.scoring.memory import fit_token_budget
        from tokenfocus_ray.scoring.scorer import AlignmentScorer

        self.columns, self._threads = columns, threads
        self.scorer = AlignmentScorer.from_config(config, device=device)
        fit_token_budget(self.scorer)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Scores a batch: passthrough columns and score columns, one row out for each row in."""
        if self._threads:
            import torch

            # now, not when made: it holds for the calling thread, and Ray has several
            torch.set_num_threads(self._threads)
        rows = self.scorer.score_requests(list(requests_of(table, self.columns)))
        scores = rows_to_table(rows)
        names = [n for n in table.column_names if n not in PREPARED.names]
        renamed = passthrough(names, self.columns)
        kept = table.select(list(renamed)).rename_columns(list(renamed.values()))
        for field, column in zip(scores.schema, scores.columns, strict=True):
            kept = kept.append_column(field, column)
        return kept.replace_schema_metadata(self.scorer.metadata)


def requests_of(table: pa.Table, columns: Columns) -> Iterator[Request]:
    """The requests of a prepared batch.

    Args:
        table: What :class:`PrepareStage` returned.
        columns: Which column is what.
    """
    c = columns
    used = [n for n in (c.prompt, c.elements, c.prompt_type) if n]
    wanted = [*dict.fromkeys(used), *(n for n in PREPARED.names if n != "tokenfocus_tiles")]
    tiles = table.column("tokenfocus_tiles")
    for i, row in enumerate(table.select(wanted).to_pylist()):
        yield Request(
            row["tokenfocus_id"],
            _text(row[c.prompt]),
            _prepared(row, tiles[i]),
            read_elements(row[c.elements]) if c.elements else (),
            _text(row[c.prompt_type]) if c.prompt_type else None,
        )


def _prepared(row: Mapping[str, Any], tiles: Any) -> PreparedImage | RowError:
    if row["tokenfocus_error_code"] is not None:
        return ImageDecodeError(row["tokenfocus_error_code"], row["tokenfocus_error_message"])
    pixels = np.frombuffer(tiles.as_buffer(), dtype=np.uint8)  # no copy
    width, height = row["tokenfocus_size"]
    rows, columns = row["tokenfocus_grid"]
    return PreparedImage(
        pixels.reshape(row["tokenfocus_tiles_shape"]),
        row["tokenfocus_n_visual_tokens"],
        (rows, columns),
        width,
        height,
    )


def rows_to_table(rows: list[ScoreRow]) -> pa.Table:
    """Score rows as an Arrow table of ``SCORE_SCHEMA``."""
    columns = {name: [getattr(row, name) for row in rows] for name in SCORE_SCHEMA.names}
    return pa.table(columns, schema=SCORE_SCHEMA)
