"""One schema for all Parquet files of a job, found before anything runs, or refused by name.

Types are widened where no value is lost: what only the values can tell is looked up in the footers'
statistics, else in the columns themselves.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.datasets.files import File, unreadable
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store, public

_THREADS = 16
#: Whole numbers up to here have a float of their own, by the float's type.
_EXACT = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}


def unified(files: Sequence[File], footers: Sequence[pq.FileMetaData]) -> pa.Schema:
    """The schema that holds all columns of all files.

    Args:
        files: At least one.
        footers: Theirs.

    Raises:
        ManifestError: a column's types do not fit, or values would be lost; with file and column.
    """
    schemas = [own.schema.to_arrow_schema().remove_metadata() for own in footers]
    fields: dict[str, pa.Field[Any]] = {}
    first: dict[str, File] = {}
    for file, schema in zip(files, schemas, strict=True):
        if twice := [name for name, n in Counter(schema.names).items() if n > 1]:
            raise ManifestError(
                f"{public(file.uri)}: column {twice[0]!r} stands there twice; rename or drop one"
            )
        for own in schema:
            known = fields.get(own.name)
            if known is None:
                fields[own.name], first[own.name] = own, file
            elif known.type != own.type:
                fields[own.name] = _wider(known, own, first[own.name], file)
    wide = pa.schema(list(fields.values()))
    todo = [
        (file, own, field, fields[field.name].type)
        for file, own, schema in zip(files, footers, schemas, strict=True)
        for field in schema
        if fields[field.name].type != field.type
    ]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda one: _check_cast(*one), todo))
    return wide


def _wider(known: pa.Field[Any], own: pa.Field[Any], first: File, file: File) -> pa.Field[Any]:
    kinds = [known, own]
    if not all(pa.types.is_dictionary(f.type) for f in kinds):
        kinds = [f.with_type(_plain(f.type)) for f in kinds]
    try:
        each = [pa.schema([f.with_nullable(True)]) for f in kinds]
        return pa.unify_schemas(each, promote_options="permissive").field(0)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        raise ManifestError(
            f"{public(file.uri)}: column {own.name!r} is of type {own.type}, and of {known.type} "
            f"in {public(first.uri)}; cast one of them, or take the files one after another"
        ) from None


def _plain(kind: Any) -> Any:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind


def _check_cast(file: File, footer: pq.FileMetaData, field: pa.Field[Any], wide: Any) -> None:
    """Casts a column as workers will, where its type does not tell that every value fits."""
    if _is_family(field.type, wide) or _is_exact(footer, field.name, wide):
        return
    store = Store.of(file.uri)
    try:
        pa.nulls(1, field.type).cast(wide)
        source: Any = io.BytesIO(file.data) if file.data is not None else store.root
        filesystem = None if file.data is not None else store.filesystem
        with pq.ParquetFile(source, filesystem=filesystem) as parquet:
            for batch in parquet.iter_batches(columns=[field.name]):
                batch.column(0).cast(wide)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ManifestError(
            f"{public(file.uri)}: column {field.name!r} is of type {field.type}, which other files "
            f"have as {wide}: {error}; cast one of them, or take the files one after another"
        ) from None
    except OSError as error:
        raise unreadable(store, error) from error


def _is_family(kind: Any, wide: Any) -> bool:
    """Whether every value of the one is one of the other."""
    t = pa.types
    kind, wide = _plain(kind), _plain(wide)
    if t.is_null(kind) or kind == wide:
        return True
    families = (
        (t.is_string, t.is_large_string),
        (t.is_binary, t.is_large_binary, t.is_fixed_size_binary, t.is_string, t.is_large_string),
        (t.is_floating,),
    )
    if any(all(any(test(k) for test in tests) for k in (kind, wide)) for tests in families):
        return not t.is_floating(kind) or wide.bit_width >= kind.bit_width
    bits = kind.bit_width if t.is_integer(kind) else 0
    if t.is_integer(wide):
        signed = t.is_signed_integer(wide) and t.is_unsigned_integer(kind)
        same = t.is_signed_integer(wide) == t.is_signed_integer(kind)
        return bool(bits) and (wide.bit_width > bits if signed else same and wide.bit_width >= bits)
    return bool(bits) and t.is_floating(wide) and 2**bits <= _EXACT[wide]


def _is_exact(footer: pq.FileMetaData, name: str, wide: Any) -> bool:
    """Whether the footer tells that the column has only whole numbers which floats hold."""
    limit = _EXACT.get(_leaf(wide))
    if limit is None:
        return False
    for g in range(footer.num_row_groups):
        group = footer.row_group(g)
        for c in range(footer.num_columns):
            column = group.column(c)
            if column.path_in_schema.partition(".")[0] != name:
                continue
            found = column.statistics
            if found is None or not found.has_min_max:
                if found is None or found.null_count != column.num_values:
                    return False
                continue
            bounds = (found.min, found.max)
            if not all(isinstance(b, int) and abs(b) <= limit for b in bounds):
                return False
    return True


def _leaf(kind: Any) -> Any:
    """Type of the numbers in lists, however deep."""
    while hasattr(kind, "value_type"):
        kind = kind.value_type
    return kind
