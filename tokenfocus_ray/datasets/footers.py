"""Parquet footers: sizes, schema and a fingerprint of the content of many files at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.datasets.schemas import unified
from tokenfocus_ray.datasets.watch import stamps
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store, public

_THREADS = 16


@dataclass(frozen=True, slots=True)
class File:
    """One file to read.

    Attributes:
        uri: For any process.
        base: Folder that relative image paths start from.
        size: In bytes.
        data: Its content, where it is yet to be written.
    """

    uri: str
    base: str
    size: int
    data: bytes | None = None


def unreadable(store: Store, error: Exception) -> ManifestError:
    """Why an input file cannot be read, and what to do."""
    cause, remedy = store.explain(error)
    return ManifestError(f"{public(store.uri)!r} cannot be read: {cause}; {remedy}")


def look_at(files: Sequence[File]) -> tuple[list[pq.FileMetaData], pa.Schema, dict[str, Any]]:
    """Footers of Parquet files, the schema that holds all their columns, and a fingerprint.

    Raises:
        ManifestError: one cannot be read, or its columns do not fit those of the others.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        footers = list(pool.map(footer, files))
    schema = unified(files, footers)
    fingerprint = {
        "files": len(files),
        "rows": sum(own.num_rows for own in footers),
        **stamps(files),
        "content": digest(map(_summary, files, footers)),
    }
    return footers, schema, fingerprint


def footer(file: File) -> pq.FileMetaData:
    """The footer of a Parquet file.

    Raises:
        ManifestError: it cannot be read.
    """
    store = Store.of(file.uri)
    try:
        if file.data is not None:
            return pq.read_metadata(pa.BufferReader(file.data))
        return pq.read_metadata(store.root, filesystem=store.filesystem)
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, pa.ArrowException):
            raise ManifestError(
                f"{public(file.uri)}: cannot be read as Parquet: {error}"
            ) from error
        raise unreadable(store, error) from error


def _summary(file: File, own: pq.FileMetaData) -> tuple[Any, ...]:
    """What tells one file from another: layout and statistics of every column."""
    columns = []
    for g in range(own.num_row_groups):
        group = own.row_group(g)
        for c in range(own.num_columns):
            column = group.column(c)
            found = column.statistics
            bounds = (found.min_raw, found.max_raw) if found and found.has_min_max else None
            columns.append((column.total_compressed_size, repr(bounds)))
    return file.uri.rpartition("/")[2], file.size, own.num_rows, columns


def digest(values: Any) -> str:
    """A short hash of JSON values, one after another."""
    found = hashlib.sha256()
    for value in values:
        found.update(json.dumps(value).encode())
    return found.hexdigest()[:16]
