"""One launch of the batch job: runs the pipeline over what is left, and publishes what is whole."""

from __future__ import annotations

import functools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray

from tokenfocus_ray.backbones.base import ImageSpec
from tokenfocus_ray.config import JobConfig
from tokenfocus_ray.datasets.sources import Source
from tokenfocus_ray.distributed.commits import Ledger, publish
from tokenfocus_ray.distributed.guard import Attempts, Guard
from tokenfocus_ray.distributed.pieces import (
    COMMIT_CPUS,
    PREPARE_CPUS,
    READ_CPUS,
    CommitPieces,
    PreparePieces,
    ReadPieces,
    piece_pipeline,
    unit_table,
)
from tokenfocus_ray.distributed.session import cluster_gpus
from tokenfocus_ray.distributed.stages import PrepareStage, ScoreStage
from tokenfocus_ray.errors import ConfigError, JobError, UserError
from tokenfocus_ray.storage import Store

#: Logical CPUs that reading, preparing, committing and publishing need, beside the actors.
FEEDING_CPUS = READ_CPUS + PREPARE_CPUS + 2 * COMMIT_CPUS
#: Launches of the pipeline in a row that may end without a single piece committed.
FRUITLESS = 2
#: Seconds between lines of progress.
SAY_SECONDS = 10.0

#: What befalls a process or a machine, rather than the code that runs in it.
_SYSTEM = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.OutOfMemoryError,
)

Say = Callable[[str], None]


class BatchRun:
    """The driver of one launch.

    Args:
        store: The output folder.
        source: What to score.
        spec: How images are prepared.
        make: Makes the scoring stage, of columns, device and threads.
        job: Workers and pace.
        ledger: What is done.
        say: Takes lines of progress.
    """

    def __init__(
        self,
        store: Store,
        source: Source,
        spec: ImageSpec,
        make: Callable[..., ScoreStage],
        job: JobConfig,
        ledger: Ledger,
        say: Say,
    ) -> None:
        self._store, self._source, self._spec = store, source, spec
        self._make, self._job, self._ledger, self._say = make, job, ledger, say
        self._publishing: dict[Any, int] = {}
        self._codes: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()
        self._started = self._said = time.monotonic()
        self._pieces = self._actors = 0
        self._first: tuple[float, int] | None = None
        self._last = self._started

    def finish(self) -> None:
        """Scores what is left and publishes it.

        Raises:
            UserError: of ours, from whichever process raised it.
            JobError: processes or nodes die, and nothing gets done.
        """
        fruitless = 0
        while not self._ledger.is_finished:
            before = self._pieces
            try:
                if units := self._ledger.pending():
                    self._pass([unit_table(u, self._ledger.states[u.number]) for u in units])
                while self._publish_ready() or self._publishing:
                    self._gather(wait=True)
            except ray.exceptions.RayError as error:
                if (own := _own_error(error)) is not None:
                    raise own from error
                if not isinstance(error, _SYSTEM):
                    raise  # the same would happen again
                fruitless = 0 if self._pieces > before else fruitless + 1
                cause = _first_line(error)
                if fruitless >= FRUITLESS:
                    raise JobError(
                        f"scoring ended {fruitless} times without a single piece done: {cause}. "
                        f"What is committed is kept; look at the workers' logs, and launch the "
                        f"same command again to go on"
                    ) from error
                self._say(f"starting again with what is left, after: {cause}")

    def _pass(self, units: list[pa.Table]) -> None:
        columns, job = self._source.columns, self._job
        gpus = cluster_gpus()
        fewest = fewest_workers(job, gpus)
        most = max(fewest, job.max_workers or fewest)
        each = 0.0 if not gpus else job.gpus
        threads = None if gpus else max(1, (os.cpu_count() or 1) // fewest)
        attempts: Any = Attempts
        attempts = attempts.remote()
        prepare = PreparePieces(PrepareStage(columns, self._spec, ""), Guard(0, attempts))
        bare = replace(self._source, units=(), inputs={})
        has_bytes = self._source.has_bytes
        dataset = piece_pipeline(
            units,
            ReadPieces(bare, self._store, job.commit_rows, prepare if has_bytes else None),
            None if has_bytes else prepare,
            functools.partial(self._make, columns, "cuda" if gpus else "cpu", threads),
            Guard(1, attempts),
            CommitPieces(self._store),
            ray.data.ActorPoolStrategy(min_size=fewest, max_size=most),
            {"num_gpus": each, "num_cpus": job.cpus},
        )
        self._actors = fewest
        context = dataset.context
        context.target_max_block_size = 1  # one piece a block
        context.enable_progress_bars = False
        context.execution_no_progress_timeout_s = job.stall_minutes * 60
        blocks: Any = dataset.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        )
        for batch in blocks:
            for row in batch.to_pylist():
                self._note(row)
            self._publish_ready()
            self._gather(wait=False)

    def _note(self, row: Mapping[str, Any]) -> None:
        self._ledger.add(row["unit"], row["piece"], row["last"], row["ids"])
        self._pieces += 1
        self._last = time.monotonic()
        if self._first is None:
            self._first = self._last, row["n_rows"]
        self._codes.update(json.loads(row["codes"]))
        self._seconds.update({n: row[n] for n in ("read_s", "prepare_s", "score_s", "commit_s")})
        if time.monotonic() - self._said > SAY_SECONDS:
            self._said = time.monotonic()
            self._say(self._progress())

    def _progress(self) -> str:
        rows = self._codes.total()
        rate = self._rate() or rows / (time.monotonic() - self._started)
        images = rows - sum(n for c, n in self._codes.items() if c.startswith("image_"))
        per_s = rate * images / rows if rows else 0.0
        text = f"{rows:,} rows in this launch, {rate:.1f} rows/s, {per_s:.1f} images/s"
        total = self._source.n_rows
        if total is not None:
            left = self._left()
            text += f", {left:,} of {total:,} left, about {left / rate / 60:.1f} min"
        bad = ", ".join(f"{c} {n}" for c, n in sorted(self._codes.items()) if c != "ok")
        return text + (f"; unscored: {bad}" if bad else "")

    def _left(self) -> int:
        rows = 0
        for unit in self._ledger.pending():
            done = len(self._ledger.states[unit.number].pieces) * self._job.commit_rows
            rows += max(0, (unit.n_rows or 0) - done)
        return rows

    def _publish_ready(self) -> bool:
        """Starts writing the next part, one at a time: each holds all its rows in memory."""
        if self._publishing or (ready := self._ledger.next_part()) is None:
            return False
        part, duplicates = ready
        pieces = self._ledger.pieces_of(part)
        self._publishing[_publish.remote(self._store, part, pieces, duplicates)] = part
        return True

    def _gather(self, wait: bool) -> None:
        if not self._publishing:
            return
        done, _ = ray.wait(list(self._publishing), timeout=None if wait else 0)
        for ref in done:
            ray.get(ref)
            self._ledger.forget(self._publishing.pop(ref))

    def _rate(self) -> float | None:
        """Rows a second since the first piece was committed: start-up is left out."""
        if self._first is None or self._last <= self._first[0]:
            return None
        started, rows = self._first
        return round((self._codes.total() - rows) / (self._last - started), 3)

    def record(self) -> dict[str, Any]:
        """Counts and timings of this launch, for ``run.json``."""
        wall = time.monotonic() - self._started
        rows = self._codes.total()
        stages = {name.removesuffix("_s"): round(s, 3) for name, s in self._seconds.items()}
        record: dict[str, Any] = {
            "rows": rows,
            "codes": dict(self._codes),
            "seconds": round(wall, 3),
            "rows_per_s": self._rate(),
            "stage_seconds": stages,
            "workers": self._actors,
        }
        if rows and self._actors:
            cpu = sum(s for name, s in stages.items() if name != "score")
            record["scorer_busy_share"] = round(stages["score"] / (wall * self._actors), 4)
            record["scorer_hours_per_million_rows"] = round(stages["score"] / 3.6e-3 / rows, 3)
            record["cpu_hours_per_million_rows"] = round(cpu / 3.6e-3 / rows, 3)
        return record


@ray.remote(num_cpus=COMMIT_CPUS)
def _publish(store: Store, part: int, pieces: Any, duplicates: list[int]) -> None:
    publish(store, part, pieces, duplicates)


def fewest_workers(job: JobConfig, gpus: int) -> int:
    """Scoring actors that the job starts with."""
    return job.workers or max(1, int(gpus / job.gpus))


def check_budget(job: JobConfig, gpus: int, cpus: float) -> None:
    """A pool that holds every CPU starves the tasks that feed it, and the job waits for ever.

    Args:
        job: Workers, and what each takes.
        gpus: Of the session.
        cpus: Logical CPUs of the session.

    Raises:
        ConfigError: with what is needed and what there is.
    """
    workers = fewest_workers(job, gpus)
    needed = workers * job.cpus + FEEDING_CPUS
    if needed > cpus:
        raise ConfigError(
            f"--workers {workers} needs {needed:g} logical CPUs ({job.cpus:g} each, "
            f"{FEEDING_CPUS:g} to feed them), but the session has {cpus:g}; use at most "
            f"{max(0, int((cpus - FEEDING_CPUS) / job.cpus))} workers"
        )
    if gpus and workers * job.gpus > gpus:
        raise ConfigError(
            f"--workers {workers} needs {workers * job.gpus:g} GPUs ({job.gpus:g} each), but the "
            f"session has {gpus}"
        )


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _own_error(error: BaseException | None) -> UserError | None:
    """The error of ours that a Ray error carries, if any."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        # Ray's wrapper is of our class too, with a trace for its text
        if isinstance(error, UserError) and not isinstance(error, ray.exceptions.RayError):
            # which also adds advice to the text, about settings that we do not hand on
            return type(error)(str(error).partition("\nFailed to apply UDF transform")[0])
        seen.add(id(error))
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None
