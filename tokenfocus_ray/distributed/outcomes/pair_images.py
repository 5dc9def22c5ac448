"""Pairs that hold their images: tasks of Ray Data, each of which writes one part.

    OUT/__job/pairs/part-NNNNN.parquet  the pairs, in the order of the table, while the job runs
    OUT/__job/done/NNNNN.json           of each part that is written: how many pairs, and why less

A part is written whole or not at all; a relaunch makes those that are missing. A task makes several
parts, whose images it reads in one go.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.distributed.blocks import made_of
from tokenfocus_ray.distributed.layout import JOB, part_name
from tokenfocus_ray.distributed.lease import Lease
from tokenfocus_ray.distributed.outcomes.pair_files import FILE_RECORDS, TASK_PAIRS, file_name
from tokenfocus_ray.distributed.session import ray_session
from tokenfocus_ray.errors import JobError, RowError
from tokenfocus_ray.exports.formats import FORMATS
from tokenfocus_ray.progress import Pace, Watch
from tokenfocus_ray.scoring.originals import ROW, Originals

PAIRS, DONE = f"{JOB}/pairs", f"{JOB}/done"
#: How often images are asked for of a store that does not answer, and the first pause in seconds.
_ATTEMPTS, _PAUSE = 4, 1.0
_SIDES = ("chosen", "rejected")


class Spool:
    """Images on the local disk, by row: those of a task are read in one go, and are too many."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._places: dict[int, tuple[int, int] | RowError] = {}

    def __enter__(self) -> Self:
        self._file = self._stack.enter_context(tempfile.TemporaryFile(prefix="tokenfocus-"))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def put(self, row: int, image: bytes | RowError) -> None:
        """Keeps an image, or why there is none."""
        if isinstance(image, RowError):
            self._places[row] = image
            return
        self._places[row] = self._file.seek(0, os.SEEK_END), len(image)
        self._file.write(image)

    def get(self, row: int) -> bytes | RowError:
        """What was kept."""
        place = self._places[row]
        if isinstance(place, RowError):
            return place
        self._file.seek(place[0])
        return self._file.read(place[1])


@dataclass(frozen=True, slots=True)
class WriteImages:
    """Makes parts; a task of Ray Data.

    Attributes:
        format: Name of the format.
        originals: Where the images are.
        lease: Of the output folder.
        seed: For the format.
        kinds: Types of generator and seed.
    """

    format: str
    originals: Originals
    lease: Lease
    seed: int
    kinds: tuple[pa.DataType, pa.DataType]

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Lists of parts by number -> what became of their pairs, once they are written."""
        each: list[Any] = batch["parts"].to_pylist()
        found = [self._make(parts) for parts in each]
        return pa.table({"counts": [json.dumps(counts) for counts in found]})

    def _make(self, parts: Sequence[int]) -> dict[str, int]:
        tables = self._pairs(parts)
        total = Counter[str]()
        with Spool() as images:
            self._read(pa.concat_tables(tables), images)
            for part, pairs in zip(parts, tables, strict=True):
                counts, records = Counter[str](), list[dict[str, Any]]()
                for pair in pairs.to_pylist():
                    self._add(pair, images, counts, records)
                counts["written"] = len(records)
                self.lease.confirm()
                self._write(part, records)
                self.lease.out.write_json(f"{DONE}/{part:05d}.json", counts)
                total.update(counts)
        return total

    def _add(
        self, pair: dict[str, Any], images: Spool, counts: Counter[str], records: list[Any]
    ) -> None:
        """The pair's record, or why there is none."""
        each = [images.get(pair[f"{side}_row"]) for side in _SIDES]
        if failed := [one for one in each if isinstance(one, RowError)]:
            counts[failed[0].code] += 1
            return
        make = FORMATS[self.format].with_images
        assert make is not None
        chosen, rejected = (one for one in each if isinstance(one, bytes))
        records.append(make(pair, self.seed, chosen, rejected))

    def _pairs(self, parts: Sequence[int]) -> list[pa.Table]:
        """The pairs of each part."""
        tables, files = [], dict[int, Any]()
        for part in parts:
            file, group = divmod(part, FILE_RECORDS // TASK_PAIRS)
            if file not in files:
                data = self.lease.out.read_bytes(f"{PAIRS}/{part_name(file)}")
                files = {file: pq.ParquetFile(pa.BufferReader(data))}
            tables.append(files[file].read_row_group(group))
        return tables

    def _read(self, pairs: pa.Table, images: Spool) -> None:
        """Reads the images of pairs, each once."""
        names = [f"need_{name}" for name in self.originals.needed]
        each = [
            pairs.select([f"{side}_row", *(f"{side}_{name}" for name in names)]).rename_columns(
                [ROW, *self.originals.needed]
            )
            for side in _SIDES
        ]
        rows = pa.concat_tables(each).sort_by(ROW)
        numbers: list[Any] = rows[ROW].to_pylist()
        first = [i for i, n in enumerate(numbers) if i == 0 or n != numbers[i - 1]]
        rows, last = rows.take(first), ""
        for attempt in range(_ATTEMPTS):
            down = set[int]()
            for n, found in self.originals.read(rows):
                if isinstance(found, RowError) and found.code == "storage":
                    down.add(n)
                    last = found.message
                else:
                    images.put(n, found)
            if not down:
                return
            time.sleep(_PAUSE * 2**attempt)
            rows = rows.filter(pa.array([n in down for n in rows[ROW].to_pylist()]))
        raise JobError(f"{last} (asked {_ATTEMPTS} times); launch the same command again to go on")

    def _write(self, part: int, records: Sequence[dict[str, Any]]) -> None:
        out, own = self.lease.out, FORMATS[self.format]
        if own.files == "folder":
            for files in records:
                for name, data in files.items():
                    out.write_bytes(name, data)
        elif records and own.schema is not None:
            table = pa.Table.from_pylist(list(records), schema=own.schema(*self.kinds))
            sink = pa.BufferOutputStream()
            # images are packed already
            pq.write_table(table, sink, compression="none", row_group_size=TASK_PAIRS)
            out.write_bytes(file_name(part, own.files), sink.getvalue())


def parts_of_a_task(originals: Originals, n_parts: int) -> int:
    """How many parts a task makes, in a row.

    Images in Parquet and in tar shards are reached by reading what stands before them, so a task
    reads those of many pairs in one go; images in files of their own are reached at once.

    Args:
        originals: Where the images are.
        n_parts: That are to be made.
    """
    source = originals.source
    in_files = source is None or (bool(originals.starts) and not source.has_bytes)
    tasks, most = (64, 8) if in_files else (8, 32)
    return max(1, min(most, n_parts // tasks))


def write_images(make: WriteImages, n_pairs: int, watch: Watch) -> Counter[str]:
    """Writes the parts that are missing.

    Args:
        make: Makes a part.
        n_pairs: Pairs that were put down.
        watch: Is told at each part.

    Returns:
        Pairs of all parts by what became of them, ``written`` among them.
    """
    store, total = make.lease.out, Counter[str]()
    parts = range(-(-n_pairs // TASK_PAIRS))
    done = {name.removesuffix(".json") for name in store.names(DONE)}
    todo = [part for part in parts if f"{part:05d}" not in done]
    for name in done:
        total.update(store.read_record(f"{DONE}/{name}.json"))
    if not todo:
        return total
    size = parts_of_a_task(make.originals, len(todo))
    lists = [todo[at : at + size] for at in range(0, len(todo), size)]
    blocks: list[Any] = [pa.table({"parts": [own]}) for own in lists]
    there = total.total()
    with ray_session():
        pace = Pace()
        with made_of(blocks, make) as batches:
            watch(pace.progress("writing", n_pairs, unit="pairs", there=there))
            for batch in batches:
                texts: list[Any] = batch["counts"].to_pylist()
                for counts in map(json.loads, texts):
                    total.update(counts)
                    pace.count(counts)
                watch(pace.progress("writing", n_pairs, unit="pairs", there=there))
    return total
