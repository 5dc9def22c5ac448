"""The stages of the batch job, as Ray Data maps them over Arrow tables.

``PrepareStage`` (CPU tasks): fetch, decode, resize; what leaves it is uint8 at the final size.
``ScoreStage`` (actors): vision pass, packed language pass, score rows. One for each backbone.
``finish`` (CPU tasks, in :mod:`~tokenfocus_ray.distributed.finish`): one set of score columns.

Between them a table has the columns of the manifest, ``tokenfocus_id``, and for backbone ``i``
either ``tokenfocus_prepared_i`` or ``tokenfocus_scores_i``: a struct a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tokenfocus_ray.backbones.base import ImageSpec, PreparedImage, Source
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.datasets.asked import as_asked
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.datasets.text import ERROR_CODE, ERROR_MESSAGE
from tokenfocus_ray.errors import ImageDecodeError, RowError
from tokenfocus_ray.schema import SCORE_SCHEMA, ScoreRow, sample_id
from tokenfocus_ray.scoring.fetch import fetch
from tokenfocus_ray.scoring.image import decode
from tokenfocus_ray.scoring.request import Request, image_reference, read_elements

ID = "tokenfocus_id"
_PREPARED: dict[str, pa.DataType] = {
    "tiles": pa.large_binary(),
    "tiles_shape": pa.list_(pa.int32()),
    "grid": pa.list_(pa.int32()),
    "n_visual_tokens": pa.int32(),
    "size": pa.list_(pa.int32()),
    "error_code": pa.string(),
    "error_message": pa.string(),
}
#: An image as a backbone wants it, or why there is none.
PREPARED = pa.struct(list(_PREPARED.items()))
#: A score row.
SCORES = pa.struct(list(SCORE_SCHEMA))
#: Message of rows that were given up.
DIED = (
    "the process that worked on this row died each time; look at the workers' logs, and try again "
    "with --retry-unscored"
)


def structs(column: pa.ChunkedArray[Any]) -> Any:
    """A struct column as one ``pa.StructArray``; not copied where it is one already."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def prepared_column(backbone: int) -> str:
    """Name of the column of a backbone's images."""
    return f"tokenfocus_prepared_{backbone}"


def scores_column(backbone: int) -> str:
    """Name of the column of a backbone's score rows; the field's metadata is the scorer's."""
    return f"tokenfocus_scores_{backbone}"


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
        """Replaces the image bytes by prepared pixels, and reads what is asked as text."""
        c = self.columns
        table = as_asked(table, c, self.encoding)
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
            return str(given)  # a whole number or a text, see as_asked
        uri, value = (row[name] if name else None for name in (c.image_uri, c.image))
        reference = _text(uri) or image_reference(value) or b""
        return sample_id(reference, _text(row[c.prompt]) or "")

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
            return dict.fromkeys(self.image_specs, _error(error))
        return {i: _image(spec, pixels) for i, spec in self.image_specs.items()}

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
        data = fetch(str(uri), self.base, confined=self.confined)
        return decode(data, where=f"image {str(uri)!r}")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _image(spec: ImageSpec, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> dict[str, Any]:
    try:
        prepared = spec.prepare(pixels)
    except RowError as error:
        return _error(error)
    return {
        "tiles": prepared.tiles_NHWC.tobytes(),
        "tiles_shape": list(prepared.tiles_NHWC.shape),
        "grid": list(prepared.grid),
        "n_visual_tokens": prepared.n_visual_tokens,
        "size": [prepared.width, prepared.height],
    }


def _error(error: RowError) -> dict[str, Any]:
    return {"error_code": error.code, "error_message": error.message}


def with_errors(table: pa.Table, backbone: int, code: str, messages: Any) -> pa.Table:
    """Prepared rows that are not to be scored.

    Args:
        table: Prepared rows.
        backbone: Whose.
        code: Of the error.
        messages: One text for all rows, or a column with one a row, null where it is to be scored.
    """
    texts = [messages] * table.num_rows if isinstance(messages, str) else messages.to_pylist()
    name = prepared_column(backbone)
    prepared = structs(table[name])
    fields = {f.name: prepared.field(f.name) for f in PREPARED}
    bad = pa.array([text is not None for text in texts], pa.bool_())
    fields["error_code"] = pc.if_else(bad, code, fields["error_code"])
    fields["error_message"] = pc.if_else(bad, pa.array(texts, pa.string()), fields["error_message"])
    new = pa.StructArray.from_arrays(list(fields.values()), fields=list(PREPARED))
    return table.set_column(table.column_names.index(name), name, new)


class ScoreStage:
    """An actor that holds one backbone with its members."""

    _threads: int | None = None

    def __init__(
        self,
        config: ScoringConfig,
        source: Source,
        columns: Columns,
        device: str | None,
        threads: int | None,
    ) -> None:
        """Loads the weights.

        Args:
            config: What to score with.
            source: The backbone as the driver resolved it, so that all actors load the same.
            columns: Which column is what.
            device: ``"cuda"``, ``"cpu"``, or None for whichever there is.
            threads: CPU threads of torch; Ray gives an actor one unless told otherwise.
        """
        from tokenfocus_ray.scoring.memory import fit_token_budget
        from tokenfocus_ray.scoring.scorer import AlignmentScorer

        self.columns, self._threads = columns, threads
        self.scorer = AlignmentScorer.from_config(config, device=device, source=source)
        fit_token_budget(self.scorer)

    def __call__(self, table: pa.Table, backbone: int = 0) -> pa.Table:
        """Scores a batch.

        Args:
            table: With the prepared images of this backbone; they are taken out.
            backbone: Its place among several.
        """
        if self._threads:
            import torch

            # now, not when made: it holds for the calling thread, and Ray has several
            torch.set_num_threads(self._threads)
        rows = self.scorer.score_requests(list(requests_of(table, self.columns, backbone)))
        scores = rows_to_table(rows)
        each = [column.combine_chunks() for column in scores.columns]
        column = pa.StructArray.from_arrays(each, fields=list(SCORES))
        name = scores_column(backbone)
        field = pa.field(name, SCORES, metadata=self.scorer.metadata)
        return table.drop_columns([prepared_column(backbone)]).append_column(field, column)


def requests_of(table: pa.Table, columns: Columns, backbone: int = 0) -> Iterator[Request]:
    """The requests of a prepared batch.

    Args:
        table: What :class:`PrepareStage` returned.
        columns: Which column is what.
        backbone: For which of several.
    """
    c = columns
    used = [n for n in (c.prompt, c.elements, c.prompt_type) if n]
    rows = table.select([*dict.fromkeys(used), ID]).to_pylist()
    prepared = structs(table[prepared_column(backbone)])
    tiles = prepared.field("tiles")
    names = [name for name in _PREPARED if name != "tiles"]
    rest = pa.table({name: prepared.field(name) for name in names}).to_pylist()
    for i, row in enumerate(rows):
        yield Request(
            row[ID],
            _text(row[c.prompt]),
            _prepared(rest[i], tiles[i]),
            read_elements(row[c.elements]) if c.elements else (),
            _text(row[c.prompt_type]) if c.prompt_type else None,
        )


def _prepared(row: Mapping[str, Any], tiles: Any) -> PreparedImage | RowError:
    if row["error_code"] is not None:
        return ImageDecodeError(row["error_code"], row["error_message"])
    pixels = np.frombuffer(tiles.as_buffer(), dtype=np.uint8)  # no copy
    width, height = row["size"]
    rows, columns = row["grid"]
    return PreparedImage(
        pixels.reshape(row["tiles_shape"]),
        row["n_visual_tokens"],
        (rows, columns),
        width,
        height,
    )


def rows_to_table(rows: list[ScoreRow]) -> pa.Table:
    """Score rows as an Arrow table of ``SCORE_SCHEMA``."""
    columns = {name: [getattr(row, name) for row in rows] for name in SCORE_SCHEMA.names}
    return pa.table(columns, schema=SCORE_SCHEMA)
