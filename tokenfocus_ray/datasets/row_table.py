"""Tables of scores as rows by number, however many files and row groups they lie in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from tokenfocus_ray.datasets.footers import read_footers
from tokenfocus_ray.datasets.sources import files_of
from tokenfocus_ray.datasets.text_tables import read_small
from tokenfocus_ray.datasets.units import Unit, read_unit
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store, public
from tokenfocus_ray.tables.members import ScoreTableInfo
from tokenfocus_ray.tables.parquet import read_parquet
from tokenfocus_ray.tables.text import TextOptions


@dataclass(frozen=True, slots=True)
class RowTable:
    """All rows of some Parquet files, in the order of their names.

    Attributes:
        where: For messages.
        schema: Of the rows, with the first file's metadata.
        files: URI and sizes of the row groups of each.
        fingerprint: Changes with the files' names, sizes, layout, statistics and content.
        inputs: Files that are to be written before rows are read, by name.
    """

    where: str
    schema: pa.Schema
    files: tuple[tuple[str, tuple[int, ...]], ...]
    fingerprint: dict[str, Any]
    inputs: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, uri: str, keep: Store) -> RowTable:
        """Finds the files.

        Args:
            uri: Parquet file, folder of them, ``.csv``, ``.tsv`` or ``.jsonl``; local or ``s3://``.
            keep: Where one of the last three will lie as Parquet.

        Raises:
            ManifestError: there is no table, or files of different members.
        """
        files = files_of(uri, None, None, keep)
        if any(not file.uri.lower().endswith(".parquet") for file in files):
            raise ManifestError(f"{public(uri)}: tar shards are no table of scores; score them")
        footers, schema, fingerprint = read_footers(files)
        each = [own.schema.to_arrow_schema() for own in footers]
        members = [_members(own, public(f.uri)) for f, own in zip(files, each, strict=True)]
        for file, own in zip(files, members, strict=True):
            if own != members[0]:
                raise ManifestError(
                    f"{public(file.uri)} has the scores of other members than "
                    f"{public(files[0].uri)}; merge one scoring job's output at a time"
                )
        groups = [
            (file.uri, tuple(own.row_group(g).num_rows for g in range(own.num_row_groups)))
            for file, own in zip(files, footers, strict=True)
        ]
        inputs = {f.name: f.data for f in files if f.data is not None}
        schema = schema.with_metadata(each[0].metadata or {})
        return cls(public(uri), schema, tuple(groups), fingerprint, inputs)

    @property
    def n_rows(self) -> int:
        """Rows in all."""
        return sum(sum(sizes) for _, sizes in self.files)

    def read(self, start: int, stop: int, rows: int) -> Iterator[pa.Table]:
        """The rows from ``start`` to ``stop``, so many at a time.

        Raises:
            ManifestError: a file cannot be read any more, or has fewer rows by now.
        """
        left = stop - start
        bare, metadata = self.schema.remove_metadata(), self.schema.metadata
        waiting = bare.empty_table()
        for unit in self._units(start, stop):
            for table in read_unit(bare, unit, rows):
                left -= table.num_rows
                waiting = pa.concat_tables([waiting, table])
                while waiting.num_rows >= rows:
                    yield waiting.slice(0, rows).replace_schema_metadata(metadata)
                    waiting = waiting.slice(rows)
        if left:
            raise ManifestError(
                f"{self.where}: {stop - start - left:,} rows from row {start:,} on, where "
                f"{stop - start:,} were when reading began; leave the table as it is while it is "
                f"read, and choose another --out for what it holds now"
            )
        if waiting.num_rows:
            yield waiting.replace_schema_metadata(metadata)

    def _units(self, start: int, stop: int) -> Iterator[Unit]:
        """What is read of each file."""
        first = 0
        for uri, sizes in self.files:
            skip = 0
            groups: list[int] = []
            wanted = range(max(start, first), min(stop, first + sum(sizes)))
            for group, size in enumerate(sizes):
                if size and first < stop and first + size > start:
                    skip = skip if groups else max(0, start - first)
                    groups.append(group)
                first += size
            if groups:
                yield Unit(0, uri, tuple(groups), skip, len(wanted), "")


def _members(schema: pa.Schema, where: str) -> tuple[str, ...] | None:
    info = ScoreTableInfo.find(schema, where)
    return None if info is None else info.members


def check_equal_rows(tables: Sequence[RowTable]) -> int:
    """Number of rows of each.

    Raises:
        ManifestError: they differ, or there are none.
    """
    counts = {table.where: table.n_rows for table in tables}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{where} has {n:,}" for where, n in counts.items())
        raise ManifestError(
            f"{shown} rows; score the same manifest with both backbones, or both in one job"
        )
    if not tables[0].n_rows:
        raise ManifestError(f"{tables[0].where}: the table has no rows")
    return tables[0].n_rows


def read_table(path: str, encoding: str | None = None) -> pa.Table:
    """A table of scores, in any of the forms that are read whole.

    Args:
        path: Parquet file or folder, ``.csv``, ``.tsv`` or ``.jsonl``; local or in a store.
        encoding: Of the last three, without a byte order mark; None: UTF-8.

    Raises:
        ManifestError: it cannot be read.
        ConfigError: there is no such encoding.
    """
    text = TextOptions(encoding)
    if PurePosixPath(path).suffix in (".csv", ".tsv", ".jsonl"):
        return read_small(Store.of(path), None, text)
    return read_parquet(path, None, ())
