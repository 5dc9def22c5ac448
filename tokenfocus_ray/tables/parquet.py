"""Parquet as it is read and written, wherever it lies."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tokenfocus_ray.storage import Store

if TYPE_CHECKING:
    import pyarrow as pa


def to_parquet(table: pa.Table) -> pa.Buffer:
    """A file of one row group."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def read_parquet(
    path: str,
    columns: Iterable[str] | None,
    needed: Iterable[str],
    ids: Collection[str] | None = None,
) -> pa.Table:
    """Some columns of a Parquet file, or of all Parquet files below a folder.

    Files and folders whose name starts with ``_`` or ``.`` are not data and are left out.

    Args:
        path: Local path or URI of a file or folder.
        columns: The columns to read, as far as they are there; None: all.
        needed: The columns without which there is no use in reading.
        ids: Values of ``sample_id`` whose rows are read; None: all. The others are passed over a
            few at a time, so that a large table needs no more memory.

    Returns:
        The table; when a needed column is missing, all columns without a row, so that the message
        about it can name what was found.

    Raises:
        ManifestError: when there is nothing, or no Parquet, at ``path``.
    """
    import pyarrow as pa
    from pyarrow import dataset as ds
    from pyarrow import fs

    from tokenfocus_ray.errors import ManifestError

    store = Store.of(path)
    filesystem, root = store.filesystem, store.root
    try:
        info = filesystem.get_file_info(root)
        if info.type == fs.FileType.Directory:
            below = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
            files = sorted(f.path for f in below if _is_data(f.path.removeprefix(root)))
        else:
            files = [root]
        if info.type == fs.FileType.NotFound or not files:
            raise ManifestError(f"{path}: no Parquet file there; check the path")
        parts = ds.dataset(files, filesystem=filesystem, format="parquet").get_fragments()
        # A column can be all null, so of null type, in one file and typed in the next.
        schema = pa.unify_schemas(
            [plain_schema(part.physical_schema) for part in parts], promote_options="permissive"
        )
        found = ds.dataset(files, schema=schema, filesystem=filesystem, format="parquet")
        names = found.schema.names
        if not set(needed) <= set(names):
            return found.schema.empty_table()
        scan = found.scanner([name for name in columns or names if name in names])
        if ids is None:
            return check_text(scan.to_table(), path)
        # not by the scanner, which cannot compare a file's statistics of views
        known = pa.array(list(ids), pa.string())
        some = [
            batch.filter(pc.is_in(batch["sample_id"].cast(pa.string()), known))
            for batch in scan.to_batches()
        ]
        kept = scan.projected_schema.with_metadata(schema.metadata)
        return check_text(pa.Table.from_batches(some, schema=kept), path)
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{path}: cannot be read as Parquet ({error}); give Parquet") from None


def check_text(table: pa.Table, where: str) -> pa.Table:
    """The table, if its text is UTF-8: Arrow does not look when it reads.

    Args:
        table: To look at.
        where: It comes from, for the message.

    Raises:
        ManifestError: naming the first column that is not.
    """
    import pyarrow as pa

    from tokenfocus_ray.errors import ManifestError

    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            raise ManifestError(
                f"{where}: column {name!r} holds text that is not UTF-8; write it again as UTF-8, "
                f"or leave the column out"
            ) from None
    return table


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The same with text as text, however it is stored: Arrow cannot search or take views."""
    import pyarrow as pa

    for index, field in enumerate(schema):
        kind: Any = field.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_string_view(kind):
            kind = pa.string()
        elif pa.types.is_binary_view(kind):
            kind = pa.binary()
        schema = schema.set(index, field.with_type(kind))
    return schema


def _is_data(relative: str) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in relative.split("/"))
    return relative.endswith(".parquet") and not hidden
