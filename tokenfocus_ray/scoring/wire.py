"""What travels between the stages: columns of Arrow tables, and their way to objects and back.

Beside the columns of the manifest, a table has :data:`ID` and for backbone ``i`` either
``tokenfocus_prepared_i``, an image as the backbone wants it or why there is none (before
:class:`~tokenfocus_ray.scoring.stage.ScoreStage`), or ``tokenfocus_scores_i``, a score row (after
it). Both are one struct a row. Pixels are uint8 at the final size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.errors import ImageDecodeError, RowError
from tokenfocus_ray.schema import SCORE_SCHEMA, ScoreRow
from tokenfocus_ray.scoring.request import Request, read_elements

#: Column of the sample ids.
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


def prepared_column(backbone: int) -> str:
    """Name of the column of a backbone's images."""
    return f"tokenfocus_prepared_{backbone}"


def scores_column(backbone: int) -> str:
    """Name of the column of a backbone's score rows; the field's metadata is the scorer's."""
    return f"tokenfocus_scores_{backbone}"


def image_to_struct(image: PreparedImage) -> dict[str, Any]:
    """A prepared image as a value of :data:`PREPARED`."""
    return {
        "tiles": image.tiles_NHWC.tobytes(),
        "tiles_shape": list(image.tiles_NHWC.shape),
        "grid": list(image.grid),
        "n_visual_tokens": image.n_visual_tokens,
        "size": [image.width, image.height],
    }


def error_to_struct(error: RowError) -> dict[str, Any]:
    """Why there is no image, as a value of :data:`PREPARED`."""
    return {"error_code": error.code, "error_message": error.message}


def _image_of(row: Mapping[str, Any], tiles: Any) -> PreparedImage | RowError:
    """The inverse of both.

    Args:
        row: A value of :data:`PREPARED` without its tiles.
        tiles: Its tiles, an Arrow scalar.
    """
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


def requests_of(table: pa.Table, columns: Columns, backbone: int = 0) -> Iterator[Request]:
    """The requests of a prepared batch.

    Args:
        table: From :class:`~tokenfocus_ray.scoring.prepare.PrepareStage`.
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
            text_of(row[c.prompt]),
            _image_of(rest[i], tiles[i]),
            read_elements(row[c.elements]) if c.elements else (),
            text_of(row[c.prompt_type]) if c.prompt_type else None,
        )


def rows_to_table(rows: list[ScoreRow]) -> pa.Table:
    """Score rows as an Arrow table of ``SCORE_SCHEMA``."""
    columns = {name: [getattr(row, name) for row in rows] for name in SCORE_SCHEMA.names}
    return pa.table(columns, schema=SCORE_SCHEMA)


def rows_to_structs(rows: list[ScoreRow]) -> pa.StructArray:
    """Score rows as values of :data:`SCORES`."""
    columns = [column.combine_chunks() for column in rows_to_table(rows).columns]
    return pa.StructArray.from_arrays(columns, fields=list(SCORES))


def structs(column: pa.ChunkedArray[Any]) -> Any:
    """A struct column as one ``pa.StructArray``; not copied where it is one already."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def text_of(value: Any) -> str | None:
    """A value as text; None for none."""
    return None if value is None else str(value)
