"""Pairs that hold their images: tasks of Ray Data, each of which writes one part.

    OUT/__job/pairs/part-NNNNN.parquet  the pairs, in the order of the table, while the job runs
    OUT/__job/done/NNNNN.json           of each part that is written: how many pairs, and why less

A part is written whole or not at all; a relaunch makes those that are missing.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from tokenfocus_ray.distributed.layout import JOB, part_name
from tokenfocus_ray.distributed.lease import Lease
from tokenfocus_ray.distributed.outcomes.pair_files import FILE_RECORDS, TASK_PAIRS, file_name
from tokenfocus_ray.distributed.ray_errors import keep_exceptions, unwrapped_errors
from tokenfocus_ray.distributed.session import ray_session, streamed
from tokenfocus_ray.errors import JobError, RowError
from tokenfocus_ray.exports.formats import FORMATS
from tokenfocus_ray.progress import Pace, Watch
from tokenfocus_ray.scoring.originals import ROW, Originals

PAIRS, DONE = f"{JOB}/pairs", f"{JOB}/done"
#: How often images are asked for of a store that does not answer, and the first pause in seconds.
_ATTEMPTS, _PAUSE = 4, 1.0
_SIDES = ("chosen", "rejected")


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
        """Parts by number -> what became of their pairs, once they are written."""
        parts: list[Any] = batch["part"].to_pylist()
        found = [self._make(part) for part in parts]
        return pa.table({"counts": [json.dumps(counts) for counts in found]})

    def _make(self, part: int) -> dict[str, int]:
        pairs = self._pairs(part)
        images = self._images(pairs)
        make = FORMATS[self.format].with_images
        assert make is not None
        counts = Counter[str]()
        records = []
        for pair in pairs.to_pylist():
            each = [images[pair[f"{side}_row"]] for side in _SIDES]
            if failed := [one for one in each if isinstance(one, RowError)]:
                counts[failed[0].code] += 1
                continue
            chosen, rejected = (one for one in each if isinstance(one, bytes))
            records.append(make(pair, self.seed, chosen, rejected))
        counts["written"] = len(records)
        self.lease.confirm()
        self._write(part, records)
        self.lease.out.write_json(f"{DONE}/{part:05d}.json", counts)
        return counts

    def _pairs(self, part: int) -> pa.Table:
        file, group = divmod(part, FILE_RECORDS // TASK_PAIRS)
        data = self.lease.out.read_bytes(f"{PAIRS}/{part_name(file)}")
        return pq.ParquetFile(pa.BufferReader(data)).read_row_group(group)

    def _images(self, pairs: pa.Table) -> dict[int, bytes | RowError]:
        """The images of a part by row, each read once."""
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
        rows = rows.take(first)
        found: dict[int, bytes | RowError] = {}
        for attempt in range(_ATTEMPTS):
            found |= self.originals.read(rows)
            down = {
                n: one.message
                for n, one in found.items()
                if isinstance(one, RowError) and one.code == "storage"
            }
            if not down:
                return found
            time.sleep(_PAUSE * 2**attempt)
            rows = rows.filter(pa.array([n in down for n in rows[ROW].to_pylist()]))
        raise JobError(
            f"{next(iter(down.values()))} (asked {_ATTEMPTS} times); launch the same command again "
            f"to go on"
        )

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
    blocks: list[Any] = [pa.table({"part": [part]}) for part in todo]
    task: Any = make
    there = total.total()
    with ray_session():
        dataset = ray.data.from_arrow(blocks).map_batches(
            task, batch_size=1, batch_format="pyarrow", num_cpus=1
        )
        dataset.context.enable_progress_bars = False
        keep_exceptions(dataset)
        pace = Pace()
        with unwrapped_errors(), streamed(dataset) as batches:
            watch(pace.progress("writing", n_pairs, unit="pairs", there=there))
            for batch in batches:
                texts: list[Any] = batch["counts"].to_pylist()
                for counts in map(json.loads, texts):
                    total.update(counts)
                    pace.count(counts)
                watch(pace.progress("writing", n_pairs, unit="pairs", there=there))
    return total
