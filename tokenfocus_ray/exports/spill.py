"""Rows put aside on the local disk by bucket, so that what belongs together is read together.

Grouping by prompt needs all rows of a prompt at once. A sort by DuckDB would do, but its memory
grows with the table up to its limit, and with a low limit it gives up; here it is that of a bucket.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

#: More would be too many open files.
MOST_BUCKETS = 256


def buckets_for(n_rows: int, rows: int) -> int:
    """How many buckets of about so many rows.

    >>> buckets_for(0, 100), buckets_for(250, 100), buckets_for(10**9, 100)
    (1, 3, 256)
    """
    return max(1, min(MOST_BUCKETS, -(-n_rows // rows)))


class Buckets:
    """Files of rows; in a block, after which they are whole.

    Args:
        folder: Of the local disk; it is made.
        n: Number of buckets.
        schema: Of the rows.
    """

    def __init__(self, folder: str, n: int, schema: pa.Schema) -> None:
        os.makedirs(folder)
        self.n, self.schema = n, schema
        self._folder = folder
        self._writers: dict[int, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, table: pa.Table, bucket_N: NDArray[np.int64]) -> None:
        """Puts rows aside.

        Args:
            table: The rows.
            bucket_N: Which bucket each of them goes to.
        """
        order = np.argsort(bucket_N, kind="stable")
        bucket_N = bucket_N[order]
        rows = table.take(order).combine_chunks()
        first: list[int] = np.flatnonzero(np.diff(bucket_N, prepend=-1)).tolist()
        for start, stop in zip(first, [*first[1:], len(bucket_N)], strict=True):
            self._writer(int(bucket_N[start])).write_table(rows.slice(start, stop - start))

    def read(self, bucket: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a bucket, in the order in which they came."""
        if bucket not in self._writers:
            empty = self.schema.empty_table()
            return empty if columns is None else empty.select(list(columns))
        fields = None if columns is None else [self.schema.get_field_index(n) for n in columns]
        options = ipc.IpcReadOptions(included_fields=fields)
        with (
            pa.OSFile(self._path(bucket), "rb") as file,
            ipc.open_stream(file, options=options) as reader,
        ):
            return reader.read_all()

    def drop(self, bucket: int) -> None:
        """Frees the disk of a bucket that is no longer needed."""
        if bucket in self._writers:
            os.remove(self._path(bucket))

    def _path(self, bucket: int) -> str:
        return os.path.join(self._folder, f"{bucket}.arrow")

    def _writer(self, bucket: int) -> Any:
        if bucket not in self._writers:
            options = ipc.IpcWriteOptions(compression="lz4")
            sink = self._stack.enter_context(pa.OSFile(self._path(bucket), "wb"))
            self._writers[bucket] = self._stack.enter_context(
                ipc.new_stream(sink, self.schema, options=options)
            )
        return self._writers[bucket]
