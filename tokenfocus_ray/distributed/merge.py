"""Applies an ensemble to scores that are there: parts of rows -> Parquet, in bounded memory.

    OUT/part-NNNNN.parquet     rows NNNNN * PART_ROWS and on, in the order of the input
    OUT/__job/merge.json       the ensemble and the tables; another launch must agree
    OUT/__job/run.json         what was scored, as the first table's job wrote it down
    OUT/__job/input/N.parquet  text tables, as Parquet

A part is written whole or not at all and its name says which rows are in it, so a relaunch makes
those that are missing.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from tokenfocus_ray.datasets.recorded import RUN_FILE, RecordedInput
from tokenfocus_ray.datasets.row_table import RowTable, check_equal_rows
from tokenfocus_ray.distributed.blocks import made_of
from tokenfocus_ray.distributed.layout import INPUT, JOB, part_name
from tokenfocus_ray.distributed.lease import Lease
from tokenfocus_ray.distributed.output import OutputFolder, OutputKind
from tokenfocus_ray.distributed.session import ray_session
from tokenfocus_ray.ensemble.apply import merge
from tokenfocus_ray.ensemble.bundle import Ensemble
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.progress import Pace, Watch
from tokenfocus_ray.say import Say, in_lines
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.parquet import check_text

MERGE = OutputKind("merge", "no merge", f"{JOB}/merge.json")
#: Rows of an output file, and of what a task holds of the input at a time.
PART_ROWS, BATCH_ROWS = 65_536, 8_192


@dataclass(frozen=True, slots=True)
class MergeSummary:
    """What a finished merge did.

    Attributes:
        out: The output folder.
        rows: Rows in, which equals rows out.
        scored: Rows with a score.
        seconds: Wall time of this launch, start of Ray included.
    """

    out: str
    rows: int
    scored: int
    seconds: float

    def line(self) -> str:
        """The final line, which a script can read."""
        return (
            f"rows={self.rows} scored={self.scored} unscored={self.rows - self.scored} "
            f"seconds={self.seconds:.1f} out={self.out}"
        )


@dataclass(frozen=True, slots=True)
class MergeParts:
    """Makes parts; a task of Ray Data.

    Attributes:
        ensemble: What to apply.
        tables: Of the same rows.
        lease: Of the output folder.
        rows: Of a part.
    """

    ensemble: Ensemble
    tables: tuple[RowTable, ...]
    lease: Lease
    rows: int

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Parts by number -> their rows, once they are written."""
        parts: list[Any] = batch["part"].to_pylist()
        rows = [self._make(part) for part in parts]
        return pa.table({"rows": rows})

    def _make(self, part: int) -> int:
        start = part * self.rows
        stop = min(start + self.rows, self.tables[0].n_rows)
        merged = self._merged(start, stop)
        first = next(merged)
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, first.schema, compression="zstd") as writer:
            for table in itertools.chain([first], merged):
                writer.write_table(table)
        self.lease.confirm()
        self.lease.out.write_bytes(part_name(part), sink.getvalue())
        return stop - start

    def _merged(self, start: int, stop: int) -> Iterator[pa.Table]:
        """Rows of the output, a batch at a time."""
        each = [table.read(start, stop, BATCH_ROWS) for table in self.tables]
        for batches in zip(*each, strict=True):
            named = dict(zip((t.where for t in self.tables), batches, strict=True))
            for where, table in named.items():
                _check_ids(table, where)
            yield merge(self.ensemble, named)


def merge_scores(
    scores: Sequence[str],
    out: str,
    ensemble: Ensemble | str,
    *,
    say: Say = print,
    progress: Watch | None = None,
) -> MergeSummary:
    """Applies an ensemble to tables of scores; launched again, to what is left of them.

    Args:
        scores: Output folders of scoring jobs over the same manifest, such as one a backbone; or
            one table of any kind. Parquet, ``.csv``, ``.tsv`` or ``.jsonl``; local or ``s3://``.
        out: Folder for the Parquet files, local or ``s3://``; every node must reach it.
        ensemble: What to apply, or its folder.
        say: Takes lines of what happens.
        progress: Is told where the job stands, at each part; None: ``say`` takes lines of it.

    Raises:
        ManifestError: a table cannot be read, lacks columns, or has other rows than the first.
        ConfigError: ``out`` holds what another ensemble or input gave.
        OutputError: ``out`` cannot be written, holds something else, lies in the input folder, or
            another launch is writing to it.
    """
    started = time.monotonic()
    bundle = Ensemble.load(ensemble) if isinstance(ensemble, str) else ensemble
    folder = OutputFolder.find(MERGE, out, scores)
    store = folder.store
    tables = tuple(
        RowTable.of(uri, store.child(INPUT, f"{number}.parquet"))
        for number, uri in enumerate(scores)
    )
    n_rows = check_equal_rows(tables)
    merge(bundle, {table.where: table.schema.empty_table() for table in tables})  # columns fit
    identity: dict[str, Any] = {"ensemble": bundle.fingerprint(), "part_rows": PART_ROWS}
    for number, table in enumerate(tables):
        identity |= {f"input.{number}.{key}": value for key, value in table.fingerprint.items()}
    parts = range(math.ceil(n_rows / PART_ROWS))
    if folder.is_begun(identity) and not _missing(store, parts):
        folder.sweep()
        say(f"already finished: {n_rows:,} rows are there, nothing is merged")
    else:
        with folder.launch(identity, say) as launch:
            if not launch.resumes:
                for table in tables:
                    launch.keep_inputs(table.inputs)
                launch.write_record()
            if found := RecordedInput.find(scores[0]):  # where the images are found again
                store.write_json(RUN_FILE, {"input": found.model_dump()})
            if todo := _missing(store, parts):
                if len(todo) < len(parts):
                    say(f"{len(parts) - len(todo):,} of {len(parts):,} parts are there already")
                with ray_session():
                    watch = progress or in_lines(say)
                    parts_of = MergeParts(bundle, tables, launch.lease, PART_ROWS)
                    _run(parts_of, todo, n_rows, watch)
            launch.finish()
    rows, scored = _count(store)
    if rows != n_rows:
        raise OutputError(
            f"{store.uri}: {rows} rows were written for {n_rows} rows of the input; another job "
            f"must have written to this folder: choose another"
        )
    return MergeSummary(out, rows, scored, time.monotonic() - started)


def _check_ids(table: pa.Table, where: str) -> None:
    """Ids are compared and shown as text, also where they are stored as bytes."""
    if "sample_id" in table.column_names:
        ids: Any = table["sample_id"].cast(pa.string(), safe=False)
        check_text(pa.table({"sample_id": ids}), where)


def _missing(store: Store, parts: Sequence[int]) -> list[int]:
    done = set(store.names())
    return [part for part in parts if part_name(part) not in done]


def _run(make: Any, todo: Sequence[int], n_rows: int, watch: Watch) -> None:
    blocks: list[Any] = [pa.table({"part": [part]}) for part in todo]
    there = n_rows - sum(min(PART_ROWS, n_rows - part * PART_ROWS) for part in todo)
    pace = Pace()
    with made_of(blocks, make) as batches:
        watch(pace.progress("merging", n_rows, there=there))
        for batch in batches:
            made: list[Any] = batch["rows"].to_pylist()
            pace.count({"rows": sum(made)})
            watch(pace.progress("merging", n_rows, there=there))


def _count(store: Store) -> tuple[int, int]:
    """Rows of the output, and those with a score."""
    data = pads.dataset(store.root, filesystem=store.filesystem, format="parquet")
    rows = scored = 0
    for batch in data.to_batches(columns=["score"]):
        scores: Any = batch.column(0)
        finite: Any = pc.is_finite(pc.fill_null(scores, math.nan))
        rows += batch.num_rows
        scored += pc.sum(finite).as_py() or 0
    return rows, scored
