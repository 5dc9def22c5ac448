"""The columns that are asked about: of types that can be asked, and one valid text or image a row.

Types are checked at the start, by column; what a type leaves open marks its row. Nothing is turned
into text by Python's way of printing it, which would be scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.errors import ManifestError, RowError
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE, as_text

_TEXT_ROLES = ("prompt", "image_uri", "sample_id", "prompt_type")
#: Rows that tell of a whole column.
_FEWEST = 8
_WANTED = {
    **dict.fromkeys(_TEXT_ROLES, "text, its bytes, or whole numbers"),
    "image": "encoded bytes, a struct of bytes and path, or paths",
    "elements": "lists of texts or of structs with a text, or JSON text",
}


def by_type(columns: Columns, schema: pa.Schema, mapping: Mapping[str, str]) -> Columns:
    """The columns with the roles that their types allow.

    An image column of text holds paths, no bytes. Beside bytes, a column of other things than paths
    is none of paths only because it is called ``url``.

    Args:
        columns: By name.
        schema: Of all rows.
        mapping: Role -> column name, as the user gave it.
    """
    kinds = {f.name: f.type for f in schema}
    if columns.image in kinds and _is_text(_one(kinds[columns.image])):
        return replace(columns, image=None, image_uri=columns.image)
    if columns.image and columns.image_uri and "image_uri" not in mapping:
        kind = kinds.get(columns.image_uri)
        if kind is not None and not _any(_plain(kind), _is_text, _is_bytes, pa.types.is_null):
            return replace(columns, image_uri=None)
    return columns


def check_file(own: pa.Schema, schema: pa.Schema, columns: Columns, where: str, rows: int) -> None:
    """Refuses a file without the columns that every row needs, or with such as cannot be asked.

    Args:
        own: The file's schema.
        schema: Of all files.
        columns: Which column is what.
        where: The file, for messages.
        rows: Its number of rows.

    Raises:
        ManifestError: naming the file, the column, its type and the remedy.
    """
    images = [name for name in (columns.image, columns.image_uri) if name is not None]
    for names in ([columns.prompt], images):
        if rows and not set(names) & set(own.names):
            raise ManifestError(
                f"{where}: there is no column {' or '.join(map(repr, names))}, which other files "
                f"have; found {own.names}: write it there, or leave the file out"
            )
    for role, name in _roles(columns):
        if name not in own.names:
            continue
        kind = own.field(name).type
        fits = {"image": _is_image, "elements": _are_elements}.get(role, _is_one_text)
        if role == "image" and _is_text(_one(kind)) != _is_text(_one(schema.field(name).type)):
            raise ManifestError(
                f"{where}: column {name!r} (image) has paths, and bytes in other files; score them "
                f"one after another"
            )
        if not fits(kind):
            remedy = f"cast or rename it, or name another with --map {role}=COLUMN"
            if pa.types.is_floating(kind):
                remedy = (
                    f"whole numbers became floats there, as pandas makes them beside missing "
                    f"values, and long ones have lost digits: write them as text, or name another "
                    f"column with --map {role}=COLUMN"
                )
            raise ManifestError(
                f"{where}: column {name!r} ({role}) is of type {kind}; wanted {_WANTED[role]}: "
                f"{remedy}"
            )


def unsure(schema: pa.Schema, columns: Columns) -> list[str]:
    """Columns whose type does not tell whether they can be asked: bytes for text, and lists."""
    found = []
    for role, name in _roles(columns):
        if role != "elements" and name in schema.names:
            kind = schema.field(name).type
            if _item(kind) or (role != "image" and _is_bytes(_plain(kind))):
                found.append(name)
    return found


def check_first(table: pa.Table, columns: Columns, where: str, encoding: str | None) -> None:
    """Refuses what no row, or not the first rows, can be asked about.

    Args:
        table: The first rows of the columns that :func:`unsure` names.
        columns: Which column is what.
        where: The manifest, for messages.
        encoding: Of bytes; None: UTF-8.

    Raises:
        ManifestError: a list holds several, or the bytes of all these rows are no text.
    """
    for role, name in _roles(columns):
        if name not in table.column_names or not _item(table.schema.field(name).type):
            continue
        for i, value in enumerate(table[name]):
            if value.is_valid and len(value) > 1:
                raise ManifestError(
                    f"{where}: column {name!r} ({role}) holds {len(value)} values in row {i}; "
                    f"write one of them to a column of its own, or a row for each"
                )
    asked = as_asked(table, columns, encoding)
    if table.num_rows >= _FEWEST and not asked[ERROR_CODE].null_count:
        raise ManifestError(
            f"{where}: none of the first {table.num_rows} rows can be asked; in the first, "
            f"{asked[ERROR_MESSAGE][0]}"
        )


def as_asked(table: pa.Table, columns: Columns, encoding: str | None = None) -> pa.Table:
    """The table with one valid text or image in each row of the columns that are asked.

    Bytes of text are decoded, and a list of one is its element; columns of other types stay as they
    are. Columns of equal types become columns of equal types, whatever is in them.

    Args:
        table: Of types that :func:`check_file` let pass; it may lack columns.
        columns: Which column is what.
        encoding: Of bytes; None: UTF-8.

    Returns:
        The table with ``ERROR_CODE`` and ``ERROR_MESSAGE``, where a row cannot be asked; what was
        there of them stays.
    """
    work = _Work(encoding, {})
    for role, name in _roles(columns):
        if name not in table.column_names:
            continue
        i, old = table.column_names.index(name), table[name]
        change = {"image": work.images, "elements": work.elements}.get(role, work.texts)
        if (new := change(old, name)) is not old:
            table = table.set_column(i, table.schema.field(i).with_type(new.type), new)
    codes: list[Any] = [None] * table.num_rows
    messages: list[Any] = list(codes)
    if ERROR_CODE in table.column_names:
        codes, messages = (table[n].to_pylist() for n in (ERROR_CODE, ERROR_MESSAGE))
        table = table.drop_columns([ERROR_CODE, ERROR_MESSAGE])
    for row, error in work.errors.items():
        if codes[row] is None:
            codes[row], messages[row] = error.code, error.message
    for name, values in ((ERROR_CODE, codes), (ERROR_MESSAGE, messages)):
        table = table.append_column(name, pa.array(values, pa.string()))
    return table


@dataclass(slots=True)
class _Work:
    encoding: str | None
    errors: dict[int, RowError] = field(default_factory=dict)

    def texts(self, column: Any, name: str) -> Any:
        kind = column.type
        is_text = _is_text(_plain(kind))
        if is_text and _is_valid(column):
            return column
        if not is_text and not _item(kind) and not _is_bytes(_plain(kind)):
            return column
        raw = _raw(column).to_pylist()
        if _is_text(_one(kind)):  # what is UTF-8, as its type says, is not decoded as another
            raw = [_decoded(value) for value in raw]
        values = self._each(raw, name)
        if not is_text:
            return pa.chunked_array([pa.array(values, pa.string())])
        return pa.chunked_array([pa.array(values, _plain(kind))]).cast(kind)

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
        if _item(column.type):
            column = self._single(column, name)
        kind = _plain(column.type)
        if _is_text(kind):
            return self.texts(column, name)
        return self._readable(column, name) if pa.types.is_struct(kind) else column

    def elements(self, column: Any, name: str) -> Any:
        kind = _plain(column.type)
        if _is_text(kind) or _is_bytes(kind):
            return self.texts(column, name)
        return self._readable(column, name)

    def _single(self, column: Any, name: str) -> Any:
        """The element of each list."""
        out, start = [], 0
        for chunk in column.cast(pa.large_list(_item(column.type))).chunks:
            sizes = [size or 0 for size in pc.list_value_length(chunk).to_pylist()]
            places = zip(sizes, chunk.offsets.to_pylist(), strict=False)
            at = [place if size == 1 else None for size, place in places]
            out.append(chunk.values.take(pa.array(at, pa.int64())))
            for row, size in enumerate(sizes, start):
                if size > 1:
                    message = f"{name} is a list of {size}; give one image"
                    self.errors.setdefault(row, RowError("type_invalid", message))
            start += len(chunk)
        return pa.chunked_array(out, _item(column.type))

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


def _roles(columns: Columns) -> Iterator[tuple[str, str]]:
    for role in _WANTED:
        if (name := getattr(columns, role)) is not None:
            yield role, name


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
    if (item := _item(kind)) and _is_text(item):
        return column.cast(pa.large_list(pa.large_binary()))
    return column.cast(pa.large_binary()) if _is_text(kind) else column


def _decoded(value: Any) -> Any:
    """Text where the bytes are UTF-8, else the bytes."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _plain(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _item(kind: Any) -> Any:
    """Type of a list's elements; None of no list."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return kind.value_type if any(test(kind) for test in tests) else None


def _one(kind: Any) -> Any:
    """The type of the one value that a cell holds."""
    return _plain(_item(kind) or kind)


def _any(kind: Any, *tests: Callable[[Any], bool]) -> bool:
    return any(test(kind) for test in tests)


def _is_text(kind: Any) -> bool:
    t = pa.types
    return _any(kind, t.is_string, t.is_large_string, t.is_string_view)


def _is_bytes(kind: Any) -> bool:
    t = pa.types
    return _any(kind, t.is_binary, t.is_large_binary, t.is_binary_view, t.is_fixed_size_binary)


def _is_one_text(kind: Any) -> bool:
    one = _one(kind)
    if pa.types.is_decimal(one):
        return bool(one.scale == 0)
    if isinstance(one, pa.UuidType):
        return True
    return _any(one, _is_text, _is_bytes, pa.types.is_integer, pa.types.is_null)


def _is_image(kind: Any) -> bool:
    one = _one(kind)
    if not pa.types.is_struct(one):
        return _any(one, _is_text, _is_bytes, pa.types.is_null)
    fits = {"bytes": _is_bytes, "path": _is_text}
    inside = {f.name: f.type for f in one if f.name in fits}
    return bool(inside) and all(
        fits[name](kind) or pa.types.is_null(kind) for name, kind in inside.items()
    )


def _are_elements(kind: Any) -> bool:
    t = pa.types
    one = _one(kind)
    if _item(kind):
        return _any(one, _is_text, t.is_struct, t.is_map, t.is_null)
    return _any(one, _is_text, _is_bytes, t.is_struct, t.is_map, t.is_null)
