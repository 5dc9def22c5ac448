"""A table of any columns -> rows of a manifest, each with an id and each bad one with a reason."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tokenfocus_ray.datasets.importers.base import ROWS, ROWS_WITH_BYTES
from tokenfocus_ray.datasets.manifest import CONVENTIONS, Columns
from tokenfocus_ray.datasets.role_types import plain_type
from tokenfocus_ray.datasets.role_values import valid_values
from tokenfocus_ray.datasets.units import Source, Unit, read_unit
from tokenfocus_ray.schema import ELEMENT_TYPE, parse_elements, sample_id
from tokenfocus_ray.storage import split_uri
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE, as_text

ELEMENTS = pa.list_(ELEMENT_TYPE)
#: What an image that lies in its row was called.
IMAGE_FILE = "image_file"
_ERRORS = (ERROR_CODE, ERROR_MESSAGE)


@dataclass(frozen=True, slots=True)
class FromSource:
    """Rows of tables and shards, one for each.

    Attributes:
        source: What is read.
        generator: Column of the generator's name, where it is called otherwise.
    """

    source: Source
    generator: str | None = None

    @classmethod
    def of(cls, source: Source, generator: str | None = None) -> FromSource:
        """Without the units and inputs, which tasks get one at a time."""
        return cls(replace(source, units=(), inputs={}), generator)

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        """Yields tables of a manifest."""
        source = self.source
        rows = ROWS_WITH_BYTES if source.has_bytes else ROWS
        names = row_names(unit)
        for table in read_unit(source.schema, unit, rows, source.encoding):
            yield to_manifest(
                table, source.columns, unit.base, source.encoding, self.generator, names
            )


def row_names(unit: Unit) -> Iterator[str]:
    """A name for each row of a unit, one after another."""
    return (f"row {unit.number}:{unit.start}:{row}" for row in itertools.count())


def to_manifest(
    table: pa.Table,
    columns: Columns,
    base: str,
    encoding: str | None = None,
    generator: str | None = None,
    names: Iterator[str] | None = None,
) -> pa.Table:
    """The rows with the columns that scoring looks for; all others travel on.

    Args:
        table: Columns of a source; ``ERROR_CODE`` and ``ERROR_MESSAGE`` of rows that it spoils.
        columns: Which column is what.
        base: Folder that relative image paths start from.
        encoding: Of text in columns of bytes; None: UTF-8.
        generator: Column of the generator's name, where it is called otherwise.
        names: Of the rows, one is taken for each: what tells those without an image apart.

    Returns:
        ``sample_id``, ``prompt``, ``image``, ``image_uri`` (absolute), ``elements``,
        ``prompt_type`` and ``generator`` as far as they are there, then the others, the reasons at
        the end; with the metadata of ``table``. A name that is needed gets the prefix ``input_``.
    """
    table = valid_values(table, columns, encoding)
    codes, messages = ([*table[name].to_pylist()] for name in _ERRORS)
    prompts = _texts(table, columns.prompt)
    image, paths = _image(table, columns.image)
    uris = _texts(table, columns.image_uri)
    if image is not None:  # what lies in its row is not fetched, whatever it is called
        there = image.is_valid().to_pylist()
        files = [path if inside else None for path, inside in zip(paths, there, strict=True)]
        paths = [None if inside else path for path, inside in zip(paths, there, strict=True)]
    given = _texts(table, columns.sample_id)
    named = list(itertools.islice(names or itertools.repeat(""), table.num_rows))
    own: dict[str, Any] = {}
    ids = [
        known or sample_id(uri or path or _bytes(image, i) or named[i], prompt or "")
        for i, (known, uri, path, prompt) in enumerate(
            zip(given, uris, paths, prompts, strict=True)
        )
    ]
    own["sample_id"] = pa.array(ids, pa.string())
    own["prompt"] = pa.array(prompts, pa.string())
    if image is not None:
        own["image"] = image
    places = [path or uri for path, uri in zip(paths, uris, strict=True)]
    own["image_uri"] = pa.array([absolute(uri, base) for uri in places], pa.string())
    if columns.elements is not None:
        own["elements"] = _elements(table[columns.elements].to_pylist(), codes, messages)
    if columns.prompt_type is not None:
        own["prompt_type"] = pa.array(_texts(table, columns.prompt_type), pa.string())
    if generator is not None:
        names_of: list[Any] = table[generator].to_pylist()
        own["generator"] = pa.array([None if n is None else str(n) for n in names_of], pa.string())
    if image is not None and pa.types.is_struct(plain_type(table[columns.image or ""].type)):
        own[IMAGE_FILE] = pa.array(files, pa.string())
    used = {
        columns.prompt, columns.image, columns.image_uri, columns.sample_id, columns.elements,
        columns.prompt_type, generator, *_ERRORS,
    }  # fmt: skip
    left = [name for name in table.column_names if name not in used]
    for name in left:
        own[_free(name, own, left, has_bytes=image is not None)] = table[name]
    own[ERROR_CODE], own[ERROR_MESSAGE] = (pa.array(v, pa.string()) for v in (codes, messages))
    return pa.table(own).replace_schema_metadata(table.schema.metadata)


def absolute(uri: str | None, base: str) -> str | None:
    """A path from a folder on; what is absolute, has a scheme or is empty stays as it is.

    >>> absolute("a/b.png", "s3://bucket/data"), absolute("/a.png", "/data"), absolute("", "/data")
    ('s3://bucket/data/a/b.png', '/a.png', '')
    """
    if not uri or not uri.strip() or split_uri(uri)[0] or uri.startswith("/"):
        return uri
    return f"{base.rstrip('/')}/{uri}"


def spoiled(table: pa.Table, reasons: Sequence[tuple[str, str] | None]) -> pa.Table:
    """The table with code and message of rows that cannot be scored; what was there stays.

    Args:
        table: Rows of a source.
        reasons: For each row; None: it is good.
    """
    old = [
        table[name].to_pylist() if name in table.column_names else [None] * table.num_rows
        for name in _ERRORS
    ]
    for i, name in enumerate(_ERRORS):
        first = [
            before[i] if before[0] is not None else reason and reason[i]
            for before, reason in zip(zip(*old, strict=True), reasons, strict=True)
        ]
        column = pa.array(first, pa.string())
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table


def _free(name: str, own: dict[str, Any], left: Sequence[str], *, has_bytes: bool) -> str:
    """A name that nothing of the manifest has, and that is not taken for its images."""
    taken = set(own) | ({*CONVENTIONS["image"]} if not has_bytes else set())
    new = name
    while new in taken or (new != name and new in left):
        new = f"input_{new}"
    return new


def _texts(table: pa.Table, name: str | None) -> list[str | None]:
    if name is None or name not in table.column_names:
        return [None] * table.num_rows
    return [as_text(value, where=name) for value in table[name].to_pylist()]


def _image(table: pa.Table, name: str | None) -> tuple[Any, list[Any]]:
    """Bytes of the images, None where no row can have any; and their paths."""
    no_paths: list[Any] = [None] * table.num_rows
    if name is None:
        return None, no_paths
    column: Any = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not pa.types.is_struct(column.type):
        return column.cast(pa.large_binary()), no_paths
    inside = {field.name for field in column.type}
    data: Any = pc.struct_field(column, "bytes") if "bytes" in inside else None
    paths: Any = pc.struct_field(column, "path") if "path" in inside else None
    if data is None:
        data = pa.chunked_array([pa.nulls(table.num_rows, pa.large_binary())])
    return data.cast(pa.large_binary()), no_paths if paths is None else paths.to_pylist()


def _bytes(image: Any, row: int) -> bytes | None:
    return None if image is None else image[row].as_py()


def _elements(values: list[Any], codes: list[Any], messages: list[Any]) -> Any:
    """Elements as structs; a row whose elements cannot be read says why."""
    parsed: list[list[dict[str, str]] | None] = []
    for row, value in enumerate(values):
        found: Any = None
        try:
            if isinstance(value, bytes):
                value = as_text(value)
            found = parse_elements(value)
        except ValueError as error:
            if codes[row] is None:
                codes[row], messages[row] = "elements_invalid", str(error)
        parsed.append(found and [{"text": e.text, "type": e.type} for e in found])
    return pa.array(parsed, ELEMENTS)
