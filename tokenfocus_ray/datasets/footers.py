"""Parquet footers: what many files hold, and a fingerprint of it, without reading their rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.datasets.files import File, unreadable
from tokenfocus_ray.datasets.schemas import unified
from tokenfocus_ray.datasets.watch import stamps
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store, public

_THREADS = 16


def read_footers(files: Sequence[File]) -> tuple[list[pq.FileMetaData], pa.Schema, dict[str, Any]]:
    """Footers of Parquet files, the schema that holds all their columns, and a fingerprint.

    Raises:
        ManifestError: one cannot be read, or its columns do not fit those of the others.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        footers = list(pool.map(read_footer, files))
    schema = unified(files, footers)
    fingerprint = {
        "files": len(files),
        "rows": sum(footer.num_rows for footer in footers),
        **stamps(files),
        "content": digest(map(_summary, files, footers)),
    }
    return footers, schema, fingerprint


def read_footer(file: File) -> pq.FileMetaData:
    """The footer of a Parquet file.

    Raises:
        ManifestError: it cannot be read.
    """
    store = Store.of(file.uri)
    try:
        if file.data is not None:
            return pq.read_metadata(pa.BufferReader(file.data))
        return pq.read_metadata(store.root, filesystem=store.filesystem)
    except pa.ArrowException as error:
        raise ManifestError(f"{public(file.uri)}: cannot be read as Parquet: {error}") from error
    except OSError as error:
        raise unreadable(store, error) from error


def _summary(file: File, footer: pq.FileMetaData) -> tuple[Any, ...]:
    """What tells one file from another: layout and statistics of every column."""
    groups = [footer.row_group(g) for g in range(footer.num_row_groups)]
    columns = [group.column(c) for group in groups for c in range(footer.num_columns)]
    chunks = [(column.total_compressed_size, repr(_bounds(column))) for column in columns]
    return file.name, file.size, footer.num_rows, chunks


def _bounds(column: pq.ColumnChunkMetaData) -> tuple[Any, Any] | None:
    found = column.statistics
    return (found.min_raw, found.max_raw) if found and found.has_min_max else None


def digest(values: Iterable[Any]) -> str:
    """A short hash of JSON values, one after another."""
    found = hashlib.sha256()
    for value in values:
        found.update(json.dumps(value).encode())
    return found.hexdigest()[:16]
