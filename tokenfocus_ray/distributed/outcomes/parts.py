"""Rows, a few at a time -> Parquet files of bounded size."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.distributed.layout import part_name
from tokenfocus_ray.distributed.lease import Lease

#: Most rows of a file, least rows of a row group but the last, and bytes at which a file is full.
PART_ROWS, GROUP_ROWS, PART_BYTES = 32_768, 8_192, 64 * 2**20


class PartWriter:
    """Writes a folder of parts; each whole or not at all.

    Args:
        lease: Of the output folder.
        folder: Name of the folder in it.
        schema: Of the rows.
    """

    def __init__(self, lease: Lease, folder: str, schema: pa.Schema) -> None:
        self._lease, self._folder, self._schema = lease, folder, schema
        self._waiting = schema.empty_table()
        self._sink = pa.BufferOutputStream()
        self._writer: pq.ParquetWriter | None = None
        self._rows = self._parts = 0

    def add(self, rows: pa.Table) -> None:
        """Takes rows; they are in the schema's types."""
        self._waiting = pa.concat_tables([self._waiting, rows])
        while self._waiting.num_rows >= GROUP_ROWS:
            self._write(self._waiting.slice(0, GROUP_ROWS))
            self._waiting = self._waiting.slice(GROUP_ROWS)

    def close(self) -> None:
        """Writes what is left; at least one file, so that the folder is a table."""
        if self._waiting.num_rows or (not self._parts and self._writer is None):
            self._write(self._waiting)
        self._end()

    def _write(self, rows: pa.Table) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        # a slice would keep the memory of the batch that it is of
        self._writer.write_table(rows.combine_chunks())
        self._rows += rows.num_rows
        if self._rows >= PART_ROWS or self._sink.tell() >= PART_BYTES:
            self._end()

    def _end(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._lease.confirm()
        name = f"{self._folder}/{part_name(self._parts)}"
        self._lease.out.write_bytes(name, self._sink.getvalue())
        self._parts += 1
        self._rows, self._writer, self._sink = 0, None, pa.BufferOutputStream()
        pa.default_memory_pool().release_unused()  # else it grows with the number of parts
