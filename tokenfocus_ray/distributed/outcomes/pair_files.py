"""Records that name images by path, as files; and pairs put down for the tasks that read images."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.distributed.layout import part_name
from tokenfocus_ray.distributed.lease import Lease
from tokenfocus_ray.exports.formats.base import Format

#: Records of a file.
FILE_RECORDS = 65_536
#: Pairs of which a task reads the images at a time; a file of pairs holds a whole number of these.
TASK_PAIRS = 128


def file_name(part: int, ending: str) -> str:
    """Name of an output file.

    >>> file_name(3, ".jsonl")
    'part-00003.jsonl'
    """
    return part_name(part).removesuffix(".parquet") + ending


def encoded(record: dict[str, Any]) -> bytes:
    """A record as a line of JSON.

    >>> encoded({"seed": 7, "confidence": float("nan")})
    b'{"seed": 7, "confidence": null}'
    """
    values = {k: None if _is_nan(v) else v for k, v in record.items()}
    return json.dumps(values, ensure_ascii=False, allow_nan=False, default=_plain).encode()


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _plain(value: Any) -> str:
    """What JSON has no type for: bytes, decimals, dates."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


class RecordFiles:
    """Writes records to files of an output folder, each whole or not at all.

    Args:
        lease: Of the folder.
        format: Of the records, in ``.json`` (a list a file) or ``.jsonl``.
        seed: For the format.
    """

    def __init__(self, lease: Lease, format: Format, seed: int) -> None:
        self.written = 0
        self._lease, self._format, self._seed = lease, format, seed
        self._buffer = io.BytesIO()
        self._here = self._files = 0

    def add(self, table: pa.Table) -> None:
        """Writes pairs or rankings."""
        record = self._format.record
        assert record is not None
        self.add_records(record(row, self._seed) for row in table.to_pylist())

    def add_records(self, records: Iterable[dict[str, Any]]) -> None:
        """Writes records."""
        is_list = self._format.files == ".json"
        for one in records:
            if is_list:
                self._buffer.write(b",\n" if self._here else b"[\n")
            self._buffer.write(encoded(one) + (b"" if is_list else b"\n"))
            self._here += 1
            if self._here == FILE_RECORDS:
                self.close()

    def close(self) -> None:
        """Writes what is left."""
        if not self._here:
            return
        if self._format.files == ".json":
            self._buffer.write(b"\n]\n")
        self._lease.confirm()
        name = file_name(self._files, self._format.files)
        self._lease.out.write_bytes(name, self._buffer.getvalue())
        self.written += self._here
        self._buffer = io.BytesIO()
        self._here, self._files = 0, self._files + 1


class TableFiles:
    """Writes tables as Parquet files of so many rows, each whole or not at all.

    Args:
        lease: Of the output folder.
        folder: In it; empty: itself.
        group: Rows of a row group; None: as the writer likes.
    """

    def __init__(self, lease: Lease, folder: str = "", group: int | None = None) -> None:
        self.written = 0
        self._lease, self._folder, self._group = lease, folder, group
        self._waiting: list[pa.Table] = []
        self._here = self._files = 0

    def add(self, table: pa.Table) -> None:
        """Writes rows."""
        while table.num_rows:
            room = FILE_RECORDS - self._here
            self._waiting.append(table.slice(0, room))
            self._here += self._waiting[-1].num_rows
            table = table.slice(room)
            if self._here == FILE_RECORDS:
                self.close()

    def close(self) -> None:
        """Writes what is left."""
        if not self._here:
            return
        sink = pa.BufferOutputStream()
        table = pa.concat_tables(self._waiting)
        pq.write_table(table, sink, row_group_size=self._group, compression="zstd")
        self._lease.confirm()
        name = file_name(self._files, ".parquet")
        self._lease.out.child(self._folder).write_bytes(name, sink.getvalue())
        self.written += self._here
        self._waiting.clear()
        self._here, self._files = 0, self._files + 1
