"""The values of the columns that have a role: one valid text or image in each row.

Types are checked at the start, by column (:mod:`~tokenfocus_ray.datasets.role_types`); what a type
leaves open marks its row. Nothing is turned into text by Python's way of printing it, which would
be scored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.datasets.role_types import (
    cell_type,
    is_bytes,
    is_text,
    item_type,
    plain_type,
    roles_in,
)
from tokenfocus_ray.errors import ManifestError, RowError
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE, as_text

#: Rows that tell of a whole column.
_FEWEST = 8


def check_first_rows(table: pa.Table, columns: Columns, where: str, encoding: str | None) -> None:
    """Refuses what no row, or not the first rows, can be asked about.

    Args:
        table: The first rows of the columns that
            :func:`~tokenfocus_ray.datasets.role_types.ambiguous_columns` names.
        columns: Which column is what.
        where: The manifest, for messages.
        encoding: Of bytes; None: UTF-8.

    Raises:
        ManifestError: a list holds several, or the bytes of all these rows are no text.
    """
    for role, name in roles_in(columns):
        if name not in table.column_names or not item_type(table.schema.field(name).type):
            continue
        for i, value in enumerate(table[name]):
            if value.is_valid and len(value) > 1:
                raise ManifestError(
                    f"{where}: column {name!r} ({role}) holds {len(value)} values in row {i}; "
                    f"write one of them to a column of its own, or a row for each"
                )
    asked = valid_values(table, columns, encoding)
    if table.num_rows >= _FEWEST and not asked[ERROR_CODE].null_count:
        raise ManifestError(
            f"{where}: none of the first {table.num_rows} rows can be asked; in the first, "
            f"{asked[ERROR_MESSAGE][0]}"
        )


def valid_values(table: pa.Table, columns: Columns, encoding: str | None = None) -> pa.Table:
    """The table with one valid text or image in each row of the columns that are asked.

    Bytes of text are decoded, and a list of one is its element; columns of other types stay as they
    are. Columns of equal types become columns of equal types, whatever is in them.

    Args:
        table: Of types that :func:`~tokenfocus_ray.datasets.role_types.check_types` let pass; it
            may lack columns.
        columns: Which column is what.
        encoding: Of bytes; None: UTF-8.

    Returns:
        The table with ``ERROR_CODE`` and ``ERROR_MESSAGE``, where a row cannot be asked; what was
        there of them stays.
    """
    cells = _Cells(encoding)
    for role, name in roles_in(columns):
        if name not in table.column_names:
            continue
        i, old = table.column_names.index(name), table[name]
        change = {"image": cells.images, "elements": cells.elements}.get(role, cells.texts)
        if (new := change(old, name)) is not old:
            table = table.set_column(i, table.schema.field(i).with_type(new.type), new)
    codes: list[Any] = [None] * table.num_rows
    messages: list[Any] = list(codes)
    if ERROR_CODE in table.column_names:
        codes, messages = (table[n].to_pylist() for n in (ERROR_CODE, ERROR_MESSAGE))
        table = table.drop_columns([ERROR_CODE, ERROR_MESSAGE])
    for row, error in cells.errors.items():
        if codes[row] is None:
            codes[row], messages[row] = error.code, error.message
    for name, values in ((ERROR_CODE, codes), (ERROR_MESSAGE, messages)):
        table = table.append_column(name, pa.array(values, pa.string()))
    return table


@dataclass(slots=True)
class _Cells:
    """What became of the cells of a table, column after column.

    Attributes:
        encoding: Of bytes; None: UTF-8.
        errors: Row -> why it cannot be asked, the first reason.
    """

    encoding: str | None
    errors: dict[int, RowError] = field(default_factory=dict)

    def texts(self, column: Any, name: str) -> Any:
        kind = column.type
        holds_text = is_text(plain_type(kind))
        if holds_text and _is_valid(column):
            return column
        if not holds_text and not item_type(kind) and not is_bytes(plain_type(kind)):
            return column
        raw = _raw(column).to_pylist()
        if is_text(cell_type(kind)):  # what is UTF-8, as its type says, is not decoded as another
            raw = [_decoded(value) for value in raw]
        values = self._each(raw, name)
        if not holds_text:
            return pa.chunked_array([pa.array(values, pa.string())])
        return pa.chunked_array([pa.array(values, plain_type(kind))]).cast(kind)

    def _each(self, raw: list[Any], name: str) -> list[str | None]:
        out: list[str | None] = []
        for row, value in enumerate(raw):
            try:
                out.append(as_text(value, self.encoding, name))
            except RowError as error:
                self.errors.setdefault(row, error)
                shown = value.decode("utf-8", "backslashreplace") if type(value) is bytes else None
                out.append(shown)
        return out

    def images(self, column: Any, name: str) -> Any:
        if item_type(column.type):
            column = self._single(column, name)
        kind = plain_type(column.type)
        if is_text(kind):
            return self.texts(column, name)
        return self._readable(column, name) if pa.types.is_struct(kind) else column

    def elements(self, column: Any, name: str) -> Any:
        kind = plain_type(column.type)
        if is_text(kind) or is_bytes(kind):
            return self.texts(column, name)
        return self._readable(column, name)

    def _single(self, column: Any, name: str) -> Any:
        """The element of each list."""
        out, start = [], 0
        for chunk in column.cast(pa.large_list(item_type(column.type))).chunks:
            sizes = [size or 0 for size in pc.list_value_length(chunk).to_pylist()]
            places = zip(sizes, chunk.offsets.to_pylist(), strict=False)
            at = [place if size == 1 else None for size, place in places]
            out.append(chunk.values.take(pa.array(at, pa.int64())))
            for row, size in enumerate(sizes, start):
                if size > 1:
                    message = f"{name} is a list of {size}; give one image"
                    self.errors.setdefault(row, RowError("type_invalid", message))
            start += len(chunk)
        return pa.chunked_array(out, item_type(column.type))

    def _readable(self, column: Any, name: str) -> Any:
        """The column with null where text inside is not valid Unicode."""
        if _is_valid(column):
            return column
        at: list[int | None] = []
        for row in range(len(column)):
            try:
                column[row].as_py()
                at.append(row)
            except UnicodeDecodeError as error:
                message = f"{name} holds text that is not valid Unicode ({error})"
                self.errors.setdefault(row, RowError("text_invalid", message))
                at.append(None)
        return column.take(pa.array(at, pa.int64()))


def _is_valid(column: Any) -> bool:
    """Whether all text in it is UTF-8; Arrow does not look when it reads."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _raw(column: Any) -> Any:
    """Text as its bytes, so that what is invalid can be looked at."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind: Any = column.type
    if (item := item_type(kind)) and is_text(item):
        return column.cast(pa.large_list(pa.large_binary()))
    return column.cast(pa.large_binary()) if is_text(kind) else column


def _decoded(value: Any) -> Any:
    """Text where the bytes are UTF-8, else the bytes."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value
