"""What training reads: the samples, checked before any GPU is asked for, and each worker's rows.

Rows reach the workers in the order of the :class:`~tokenfocus_ray.training.schedule.Schedule`, so
which samples a step takes depends on neither the number of workers nor on an interruption. Ray
Train's own split deals blocks to whichever worker asks first; ``StepSharding`` replaces it at the
place that Ray Train has for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
import ray.train

from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.distributed.ray_errors import keep_exceptions
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.scoring.prepare import PrepareStage
from tokenfocus_ray.storage import Store
from tokenfocus_ray.training.samples import SAMPLE_COLUMNS, SAMPLES, SKIPPED
from tokenfocus_ray.training.schedule import Schedule, Step

SAMPLES_FILE = "samples.parquet"
SKIPPED_FILE = "skipped.parquet"
_THREADS = 16
#: Rows of a block of the training stream: enough to amortise a task, few enough to stay in step.
CHUNK_ROWS = 32
#: Logical CPUs of a task that fetches, decodes and resizes.
DATA_CPUS = 0.5


def read_samples(store: Store) -> pa.Table:
    """The samples of a run, as :mod:`~tokenfocus_ray.distributed.train.preparation` wrote them."""
    return read_run_table(store, SAMPLES_FILE)


def read_run_table(store: Store, name: str) -> pa.Table:
    """A table that was written when the run was begun.

    Raises:
        OutputError: it is not there, cut or of something else.
    """
    try:
        table = pq.read_table(pa.BufferReader(store.read_bytes(name)))
    except (FileNotFoundError, pa.ArrowException) as error:
        raise _foreign(store, name, str(error)) from error
    schema = {SAMPLES_FILE: SAMPLES, SKIPPED_FILE: SKIPPED}[name]
    if table.schema.names != schema.names:
        raise _foreign(store, name, f"its columns are {', '.join(table.schema.names)}")
    return table


def _foreign(store: Store, name: str, what: str) -> OutputError:
    return OutputError(
        f"{store.child(name).uri!r} is not what this run wrote ({what:.200}), and its members were "
        f"trained on that: put it back, or choose another --out"
    )


def in_chunks(table: pa.Table) -> Any:
    """The table as blocks of :data:`CHUNK_ROWS`."""
    size = CHUNK_ROWS
    # combined: a slice of a chunked table would carry all of it to the object store
    return [table.slice(i, size).combine_chunks() for i in range(0, max(1, table.num_rows), size)]


@dataclass(frozen=True, slots=True)
class TrainRows:
    """The training stream from the latest checkpoint on.

    Ray Train calls it at each start of a member's workers, so what was trained on already is
    neither read nor decoded again.

    Attributes:
        run: The run's folder.
        member: Name of the member.
        schedule: Its steps.
    """

    run: Store
    member: str
    schedule: Schedule

    def __call__(self) -> ray.data.Dataset:
        """Rows of ``SAMPLES`` with ``step`` and ``position`` in the step."""
        start = latest_step(self.run, self.member)
        steps = self.schedule.steps(start)
        order = [(s.index, p, i) for s in steps for p, i in enumerate(s.samples)]
        # of a member that was trained to its end and then died, nothing is left
        table = read_samples(self.run).take(pa.array([i for *_, i in order], pa.int64()))
        table = table.append_column("step", pa.array([s for s, *_ in order], pa.int64()))
        table = table.append_column("position", pa.array([p for _, p, _ in order], pa.int32()))
        return ray.data.from_arrow(in_chunks(table))


@dataclass(frozen=True, slots=True)
class FixedRows:
    """Some samples in their order: for validation and out-of-fold predictions."""

    run: Store
    indices: tuple[int, ...]

    def __call__(self) -> ray.data.Dataset:
        """Rows of ``SAMPLES`` with their ``position``."""
        table = read_samples(self.run).take(pa.array(self.indices, pa.int64()))
        numbers = pa.array(range(table.num_rows), pa.int32())
        return ray.data.from_arrow(in_chunks(table.append_column("position", numbers)))


def latest_step(run: Store, member: str) -> int:
    """Steps that the member's latest checkpoint has behind it."""
    folder = run.child("members", member)
    try:
        result = ray.train.Result.from_path(folder.root, storage_filesystem=folder.filesystem)
    except RuntimeError:  # no checkpoint as yet
        return 0
    return step_of(result.checkpoint.path) if result.checkpoint else 0


def checkpoint_name(steps_done: int) -> str:
    """Folder of a checkpoint."""
    return f"step-{steps_done:08d}"


def step_of(checkpoint_path: str) -> int:
    """The inverse of :func:`checkpoint_name`.

    >>> step_of("runs/a/members/b/step-00000120")
    120
    """
    return int(checkpoint_path.rstrip("/").rpartition("-")[2])


@dataclass(frozen=True, slots=True)
class _PrepareShare:
    """Keeps one worker's rows and prepares their images."""

    prepare: PrepareStage
    rank: int
    workers: int

    def __call__(self, table: pa.Table) -> pa.Table:
        position = table["position"].to_numpy()
        return self.prepare(table.filter(pa.array(position % self.workers == self.rank)))


class StepSharding(ray.train.DataConfig):
    """Deals every step's rows to the workers by their position in the step."""

    def __init__(self, spec: ImageSpec, base: str) -> None:
        """Keeps how images are prepared.

        Args:
            spec: How the backbone wants its images.
            base: Folder that relative image paths start from.
        """
        super().__init__()
        self._prepare = PrepareStage(SAMPLE_COLUMNS, {0: spec}, base)

    def configure(
        self,
        datasets: dict[str, ray.data.Dataset],
        world_size: int,
        worker_handles: Any,
        worker_node_ids: Any,
        **kwargs: Any,
    ) -> list[dict[str, ray.data.DataIterator]]:
        """See ``ray.train.DataConfig``."""
        shards: list[dict[str, ray.data.DataIterator]] = [{} for _ in range(world_size)]
        for name, dataset in datasets.items():
            for rank, shard in enumerate(shards):
                share: Any = _PrepareShare(self._prepare, rank, world_size)
                mine = dataset.map_batches(
                    share, batch_size=None, batch_format="pyarrow", num_cpus=DATA_CPUS
                )
                options = self._resolve_execution_options(name)
                options.preserve_order = True
                mine.context.execution_options = options
                keep_exceptions(mine)
                shard[name] = mine.iterator()
        return shards


class StepReader:
    """A worker's rows, step by step, from an iterator over blocks."""

    def __init__(self, blocks: Any, rank: int, workers: int) -> None:
        """Keeps them; ``blocks`` yields Arrow tables in the order of the schedule."""
        self._blocks = iter(blocks)
        self._rows: list[pa.Table] = []
        self._rank, self._workers = rank, workers

    def take(self, step: Step) -> pa.Table | None:
        """This worker's rows of a step; None where it has none."""
        wanted = len(step.share(self._rank, self._workers))
        if not wanted:
            return None
        while sum(t.num_rows for t in self._rows) < wanted:
            self._rows.append(next(self._blocks))
        table = pa.concat_tables([t for t in self._rows if t.num_rows])
        mine, rest = table.slice(0, wanted), table.slice(wanted)
        self._rows = [rest]
        assert set(mine["step"].to_pylist()) == {step.index}, "rows came out of order"
        return mine
