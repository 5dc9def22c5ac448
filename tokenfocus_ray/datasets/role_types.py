"""The types of the columns that have a role: which can be a prompt, an image, an id or elements.

What a type leaves open is left to the values: see
:mod:`~tokenfocus_ray.datasets.role_values`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.errors import ManifestError

_TEXT_ROLES = ("prompt", "image_uri", "sample_id", "prompt_type")
_WANTED = {
    **dict.fromkeys(_TEXT_ROLES, "text, its bytes, or whole numbers"),
    "image": "encoded bytes, a struct of bytes and path, or paths",
    "elements": "lists of texts or of structs with a text, or JSON text",
}


def roles_by_type(columns: Columns, schema: pa.Schema, mapping: Mapping[str, str]) -> Columns:
    """The columns with the roles that their types allow.

    An image column of text holds paths, no bytes. Beside bytes, a column of other things than paths
    is none of paths only because it is called ``url``.

    Args:
        columns: By name.
        schema: Of all rows.
        mapping: Role -> column name, as the user gave it.
    """
    kinds = {f.name: f.type for f in schema}
    if columns.image in kinds and is_text(cell_type(kinds[columns.image])):
        return replace(columns, image=None, image_uri=columns.image)
    if columns.image and columns.image_uri and "image_uri" not in mapping:
        kind = kinds.get(columns.image_uri)
        if kind is not None and not _any(plain_type(kind), is_text, is_bytes, pa.types.is_null):
            return replace(columns, image_uri=None)
    return columns


def check_types(own: pa.Schema, schema: pa.Schema, columns: Columns, where: str, rows: int) -> None:
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
        if rows and names and not set(names) & set(own.names):
            raise ManifestError(
                f"{where}: there is no column {' or '.join(map(repr, names))}, which other files "
                f"have; found {own.names}: write it there, or leave the file out"
            )
    for role, name in roles_in(columns):
        if name not in own.names:
            continue
        kind = own.field(name).type
        fits = {"image": _is_image, "elements": _are_elements}.get(role, _is_one_text)
        whole = schema.field(name).type
        if role == "image" and is_text(cell_type(kind)) != is_text(cell_type(whole)):
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


def ambiguous_columns(schema: pa.Schema, columns: Columns) -> list[str]:
    """Columns whose type does not tell whether they can be asked: bytes for text, and lists."""
    found = []
    for role, name in roles_in(columns):
        if role != "elements" and name in schema.names:
            kind = schema.field(name).type
            if item_type(kind) or (role != "image" and is_bytes(plain_type(kind))):
                found.append(name)
    return found


def roles_in(columns: Columns) -> Iterator[tuple[str, str]]:
    """Role and column of each role that has one."""
    for role in _WANTED:
        if (name := getattr(columns, role)) is not None:
            yield role, name


def plain_type(kind: Any) -> Any:
    """The type of a dictionary's values; any other as it is."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def item_type(kind: Any) -> Any:
    """Type of a list's elements; None of no list."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return kind.value_type if any(test(kind) for test in tests) else None


def cell_type(kind: Any) -> Any:
    """The type of the one value that a cell holds."""
    return plain_type(item_type(kind) or kind)


def _any(kind: Any, *tests: Callable[[Any], bool]) -> bool:
    return any(test(kind) for test in tests)


def is_text(kind: Any) -> bool:
    """Whether it is Unicode, however it is laid out."""
    t = pa.types
    return _any(kind, t.is_string, t.is_large_string, t.is_string_view)


def is_bytes(kind: Any) -> bool:
    """Whether it is binary, however it is laid out."""
    t = pa.types
    return _any(kind, t.is_binary, t.is_large_binary, t.is_binary_view, t.is_fixed_size_binary)


def _is_one_text(kind: Any) -> bool:
    one = cell_type(kind)
    if pa.types.is_decimal(one):
        return bool(one.scale == 0)
    if isinstance(one, pa.UuidType):
        return True
    return _any(one, is_text, is_bytes, pa.types.is_integer, pa.types.is_null)


def _is_image(kind: Any) -> bool:
    one = cell_type(kind)
    if not pa.types.is_struct(one):
        return _any(one, is_text, is_bytes, pa.types.is_null)
    fits = {"bytes": is_bytes, "path": is_text}
    inside = {f.name: f.type for f in one if f.name in fits}
    return bool(inside) and all(
        fits[name](kind) or pa.types.is_null(kind) for name, kind in inside.items()
    )


def _are_elements(kind: Any) -> bool:
    t = pa.types
    one = cell_type(kind)
    if item_type(kind):
        return _any(one, is_text, t.is_struct, t.is_map, t.is_null)
    return _any(one, is_text, is_bytes, t.is_struct, t.is_map, t.is_null)
