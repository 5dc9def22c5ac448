"""Tables -> Parquet files of bounded size, in row groups that suit whoever reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True, slots=True)
class PartSize:
    """Where a file, and a row group in it, ends.

    Attributes:
        group_rows: Most rows of a row group.
        group_bytes: Bytes after which a row group ends; one row may be more.
        part_rows: Rows after which a file ends.
        part_bytes: Bytes after which a file ends.
    """

    group_rows: int
    group_bytes: int
    part_rows: int
    part_bytes: int


def cut_parts(tables: Iterable[pa.Table], size: PartSize) -> Iterator[pa.Buffer]:
    """Files that hold the rows in their order; none where there are none.

    Holds one file and one row group at a time.

    Args:
        tables: Of one schema.
        size: Where files end.
    """
    sink: pa.BufferOutputStream | None = None
    writer: pq.ParquetWriter | None = None
    rows = n_bytes = 0
    for group in _groups(tables, size):
        if writer is None or sink is None:
            sink = pa.BufferOutputStream()
            writer = pq.ParquetWriter(sink, group.schema, compression="zstd")
        writer.write_table(group, row_group_size=group.num_rows)
        rows, n_bytes = rows + group.num_rows, n_bytes + group.nbytes
        if rows >= size.part_rows or n_bytes >= size.part_bytes:
            writer.close()
            yield sink.getvalue()
            sink = writer = None
            rows = n_bytes = 0
    if writer is not None and sink is not None:
        writer.close()
        yield sink.getvalue()


def _groups(tables: Iterable[pa.Table], size: PartSize) -> Iterator[pa.Table]:
    """Row groups: as many rows as fit, one at the least."""
    waiting: list[pa.Table] = []
    rows = n_bytes = 0
    for table in tables:
        while table.num_rows:
            head = table.slice(0, min(size.group_rows - rows, table.num_rows))
            while head.num_rows > 1 and n_bytes + head.nbytes > size.group_bytes:
                head = head.slice(0, (head.num_rows + 1) // 2)
            if waiting and n_bytes + head.nbytes > size.group_bytes:
                yield pa.concat_tables(waiting)
                waiting, rows, n_bytes = [], 0, 0
                continue
            waiting.append(head)
            rows, n_bytes = rows + head.num_rows, n_bytes + head.nbytes
            table = table.slice(head.num_rows)
            if rows >= size.group_rows:
                yield pa.concat_tables(waiting)
                waiting, rows, n_bytes = [], 0, 0
    if waiting:
        yield pa.concat_tables(waiting)
