"""The images of kept rows: copied, or cut into tar shards; tasks of Ray Data over runs of rows.

    OUT/images/NNNNN/NNNNNNNNN.jpg       copies, with their row in metadata.parquet beside them
    OUT/shards/NNNNN.tar                 webdataset's shards, of even size
    OUT/not_copied/images-NNNNN.parquet  kept rows whose image cannot be read any more, with why
    OUT/__job/images/NNNNN-DONE-MISSING  what is done, with its counts; likewise of shards

A run of rows is done once its mark is there, and made again where it is not: killed, it goes on.
"""

from __future__ import annotations

import itertools
import math
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, cast

import pyarrow as pa

from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.distributed.blocks import made_of
from tokenfocus_ray.distributed.layout import JOB
from tokenfocus_ray.distributed.lease import Lease
from tokenfocus_ray.distributed.session import ray_session
from tokenfocus_ray.errors import OutputError, RowError
from tokenfocus_ray.exports.webdataset import add_sample, image_ending, sample_key, shard_rows
from tokenfocus_ray.progress import Pace, Watch
from tokenfocus_ray.scoring.originals import ROW, Originals
from tokenfocus_ray.storage import Store
from tokenfocus_ray.storage.uploads import upload
from tokenfocus_ray.tables.columns import unlike
from tokenfocus_ray.tables.parquet import to_parquet

#: Images of a folder; files that are written at a time.
FOLDER_ROWS, _WRITES = 1_024, 16
#: Columns of rows without an image.
WHY = ("copy_error_code", "copy_error_message")

Kind = Literal["images", "shards"]
_STAGES = {"images": "copying images", "shards": "cutting shards"}


@dataclass(frozen=True, slots=True)
class Carried:
    """What was done.

    Attributes:
        runs: Folders or shards.
        images: Images in them.
        missing: Kept rows without one.
    """

    runs: int
    images: int
    missing: int


#: Of no rows.
NONE = Carried(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Carry:
    """Makes folders of copies, or shards; a task of Ray Data.

    Attributes:
        kind: Which of them.
        kept: The kept rows.
        originals: Where their images are.
        lease: Of the output folder.
        size: Most rows of a run.
    """

    kind: Kind
    kept: ScoredTable
    originals: Originals
    lease: Lease
    size: int

    @property
    def runs(self) -> int:
        """How many there are; of no rows none."""
        return math.ceil(self.kept.n_rows / self.size)

    def rows(self, run: int) -> tuple[int, int]:
        """First row of a run, and the one before which it ends."""
        if self.kind == "shards":
            return shard_rows(run, self.runs, self.kept.n_rows)
        return run * self.size, min((run + 1) * self.size, self.kept.n_rows)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Runs by number -> their rows, once they are made."""
        runs: list[Any] = batch["run"].to_pylist()
        return pa.table({"rows": [self._make(run) for run in runs]})

    def _make(self, run: int) -> int:
        start, stop = self.rows(run)
        rows = pa.concat_tables(self.kept.read(None, start, stop))
        make = self._shard if self.kind == "shards" else self._folder
        failed = make(run, start, rows)
        self.lease.confirm()
        out = self.lease.out
        if failed:
            own = rows.take(sorted(failed))
            for name, at in zip(WHY, ("code", "message"), strict=True):
                why = [getattr(failed[i], at) for i in sorted(failed)]
                own = own.append_column(unlike(name, own.column_names), pa.array(why, pa.string()))
            out.write_bytes(f"not_copied/{self.kind}-{run:05d}.parquet", to_parquet(own))
        done = rows.num_rows - len(failed)
        out.write_bytes(f"{JOB}/{self.kind}/{run:05d}-{done}-{len(failed)}", b"\n")
        return rows.num_rows

    def _images(self, start: int, rows: pa.Table) -> Iterator[tuple[int, bytes | RowError]]:
        """Place in the run -> its image, each once."""
        numbers = pa.array(range(start, start + rows.num_rows), pa.int64())
        asked = rows.select(dict.fromkeys(self.originals.needed)).append_column(ROW, numbers)
        for number, found in self.originals.read(asked):
            if isinstance(found, RowError) and found.code == "storage":
                raise OutputError(f"{found.message}; launch the same command again to go on")
            yield number - start, found

    def _folder(self, run: int, start: int, rows: pa.Table) -> dict[int, RowError]:
        names, failed = dict[int, str](), dict[int, RowError]()
        folder = self.lease.out.child("images", f"{run:05d}")

        def write(one: tuple[int, bytes | RowError]) -> tuple[int, str | RowError]:
            i, data = one
            if isinstance(data, RowError):
                return i, data
            try:
                name = f"{start + i:09d}.{image_ending(data)}"
            except RowError as error:
                return i, error
            folder.write_bytes(name, data)
            return i, name

        images = self._images(start, rows)
        with ThreadPoolExecutor(_WRITES) as pool:
            while some := list(itertools.islice(images, _WRITES)):
                self.lease.confirm()
                for i, found in pool.map(write, some):
                    if isinstance(found, str):
                        names[i] = found
                    else:
                        failed[i] = found
        own = rows.take(pa.array(sorted(names), pa.int64()))
        # Hugging Face's imagefolder takes each column that ends so for paths of images beside it
        own = own.rename_columns(
            [
                f"{n}_given" if n.endswith(("file_name", "file_names")) else n
                for n in rows.schema.names
            ]
        )
        paths = pa.array([names[i] for i in sorted(names)], pa.string())
        if names:
            folder.write_bytes(
                "metadata.parquet", to_parquet(own.add_column(0, "file_name", paths))
            )
        return failed

    def _shard(self, run: int, start: int, rows: pa.Table) -> dict[int, RowError]:
        failed: dict[int, RowError] = {}
        prompts = self.kept.columns.prompt
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
                for i, data in self._images(start, rows):
                    cast(Any, tar).members.clear()  # which it would keep, all of the shard
                    (row,) = rows.slice(i, 1).to_pylist()
                    prompt = None if prompts is None else row[prompts]
                    try:
                        if isinstance(data, RowError):
                            raise data
                        add_sample(tar, sample_key(run, i, self.size), data, prompt, row)
                    except RowError as error:
                        failed[i] = error
            self.lease.confirm()
            upload(file, self.lease.out.child("shards", f"{run:05d}.tar"))
        return failed


def carry(make: Carry, watch: Watch) -> Carried:
    """Makes what is missing of all folders or shards.

    Args:
        make: What to make.
        watch: Is told where it stands.

    Raises:
        OutputError: an image's store does not answer, or the output cannot be written.
        ManifestError: the images' manifest cannot be read any more, or is another by now.
    """
    done = _done(make.lease.out, make.kind)
    if todo := [run for run in range(make.runs) if run not in done]:
        with ray_session():
            _run(make, todo, sum(map(sum, done.values())), watch)
    done = _done(make.lease.out, make.kind)
    images, missing = (sum(counts[i] for counts in done.values()) for i in range(2))
    if images + missing != make.kept.n_rows:
        raise OutputError(
            f"{make.lease.out.uri}: {images + missing} of {make.kept.n_rows} kept rows came to "
            f"{make.kind}; another job must have written to this folder: choose another"
        )
    return Carried(len(done), images, missing)


def _done(out: Store, kind: Kind) -> dict[int, tuple[int, int]]:
    """Number of each run that is made -> images in it, and rows without one."""
    marks = [name.split("-") for name in out.names(f"{JOB}/{kind}")]
    return {int(run): (int(images), int(missing)) for run, images, missing in marks}


def _run(make: Any, todo: list[int], there: int, watch: Watch) -> None:
    blocks: list[Any] = [pa.table({"run": [run]}) for run in todo]
    pace, total, stage = Pace(), make.kept.n_rows, _STAGES[make.kind]
    with made_of(blocks, make) as batches:
        watch(pace.progress(stage, total, unit="images", there=there))
        for batch in batches:
            made: list[Any] = batch["rows"].to_pylist()
            pace.count({"rows": sum(made)})
            watch(pace.progress(stage, total, unit="images", there=there))
