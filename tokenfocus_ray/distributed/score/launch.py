"""One launch of the batch job: runs the pipeline over what is left, and publishes what is whole."""

from __future__ import annotations

import functools
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.data.exceptions import ExecutionTimeoutError

from tokenfocus_ray.config import JobConfig
from tokenfocus_ray.datasets.names import counted
from tokenfocus_ray.datasets.units import Source
from tokenfocus_ray.distributed.lease import Lease
from tokenfocus_ray.distributed.ray_errors import (
    cause_in_words,
    keep_exceptions,
    release_frames,
    user_error_in,
)
from tokenfocus_ray.distributed.score.commits import Piece
from tokenfocus_ray.distributed.score.guard import Attempts, Guard
from tokenfocus_ray.distributed.score.ledger import Ledger
from tokenfocus_ray.distributed.score.pieces import unit_table
from tokenfocus_ray.distributed.score.pipeline import COMMIT_CPUS, ScorePool, piece_pipeline
from tokenfocus_ray.distributed.score.pools import Scorer, fewest_workers, passes
from tokenfocus_ray.distributed.score.progress import progress_of
from tokenfocus_ray.distributed.score.publish import publish
from tokenfocus_ray.distributed.score.tasks import CommitPieces, PreparePieces, ReadPieces
from tokenfocus_ray.distributed.session import cluster_gpus, streamed
from tokenfocus_ray.errors import JobError
from tokenfocus_ray.progress import Pace, Watch, unwatched
from tokenfocus_ray.say import Say
from tokenfocus_ray.scoring.prepare import PrepareStage

if TYPE_CHECKING:
    from tokenfocus_ray.ensemble.bundle import Ensemble

#: Launches of the pipeline in a row that may end without a single piece committed.
FRUITLESS = 2

#: What befalls a process or a machine, rather than the code that runs in it.
_SYSTEM = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.OutOfMemoryError,
)


class BatchRun:
    """The driver of one launch.

    Args:
        lease: Of the output folder.
        source: What to score.
        scorers: The backbones.
        job: Workers and pace.
        ledger: What is done.
        say: Takes lines of what happens.
        ensemble: What makes one score of the members', if anything.
        watch: Is told where the launch stands, at each piece.
    """

    def __init__(
        self,
        lease: Lease,
        source: Source,
        scorers: Sequence[Scorer],
        job: JobConfig,
        ledger: Ledger,
        say: Say,
        ensemble: Ensemble | None = None,
        watch: Watch = unwatched,
    ) -> None:
        self._ensemble = ensemble
        self._lease, self._source, self._scorers = lease, source, tuple(scorers)
        self._job, self._ledger, self._say, self._watch = job, ledger, say, watch
        self._publishing: dict[Any, int] = {}
        self._codes: Counter[str] = Counter()
        self._passed: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()
        self._workers: dict[str, int] = {}
        self._started = time.monotonic()
        self._pieces = 0
        self._paces: dict[range, Pace] = {}
        self._sizes: dict[int, int] = {}
        self._left = 0

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
                for run in passes(len(self._scorers), self._job):
                    self._pass(run)
                while self._publish_ready() or self._publishing:
                    self._gather(wait=True)
            except ExecutionTimeoutError as error:
                release_frames(error)
                raise JobError(
                    f"nothing moved for {self._job.stall_minutes:g} minutes. What is committed is "
                    f"kept; look at the workers' logs, and launch the same command again to go on"
                ) from error
            except ray.exceptions.RayError as error:
                release_frames(error)
                if (own := user_error_in(error)) is not None:
                    raise own from error
                if not isinstance(error, _SYSTEM):
                    raise  # the same would happen again
                fruitless = 0 if self._pieces > before else fruitless + 1
                cause = cause_in_words(error)
                if fruitless >= FRUITLESS:
                    raise JobError(
                        f"scoring ended {fruitless} times without a single piece done: {cause}. "
                        f"What is committed is kept; look at the workers' logs, and launch the "
                        f"same command again to go on"
                    ) from error
                self._say(f"starting again with what is left, after: {cause}")

        if self._passed:
            self._say(f"passed over in the tar shards: {counted(self._passed)}")

    def _pass(self, run: range) -> None:
        """Some of the backbones over all that they have not scored."""
        ledger = self._ledger
        stop = None if run.stop == len(self._scorers) else run.stop
        pending = ledger.pending(stop)
        units = [unit_table(u, ledger.states[u.number], stop) for u in pending]
        if not units:
            return
        self._sizes = {u.number: u.n_rows or 0 for u in pending}
        pieces = ((u.number, n) for u in pending for n in ledger.states[u.number].done(stop))
        self._left = sum(self._sizes.values()) - sum(self._rows(*piece) for piece in pieces)
        attempts: Any = Attempts
        attempts = attempts.remote()
        dataset = self._pipeline(run, units, attempts)
        self._paces.setdefault(run, Pace(sum(self._workers[self._scorers[i].name] for i in run)))
        self._tell(run)
        context = dataset.context
        context.target_max_block_size = 1  # one piece a block
        keep_exceptions(dataset)
        context.enable_progress_bars = False
        context.execution_no_progress_timeout_s = self._job.stall_minutes * 60
        with streamed(dataset) as batches:
            for batch in batches:
                for row in batch.to_pylist():
                    self._note(run, row)
                self._publish_ready()
                self._gather(wait=False)

    def _pipeline(self, run: range, units: list[pa.Table], attempts: Any) -> ray.data.Dataset:
        columns, job = self._source.columns, self._job
        scorers = {i: self._scorers[i] for i in run}
        gpus = cluster_gpus()
        needs = {s.name: job.pool(s.name) for s in scorers.values()}
        workers = fewest_workers(needs, gpus)
        self._workers |= workers
        device = "cuda" if gpus else "cpu"
        threads = None if gpus else max(1, (os.cpu_count() or 1) // sum(workers.values()))
        pools = []
        for i, scorer in scorers.items():
            need, fewest = needs[scorer.name], workers[scorer.name]
            most = max(fewest, need.max_workers or fewest)
            pools.append(
                ScorePool(
                    scorer.name,
                    i,
                    functools.partial(scorer.make, columns, device, threads),
                    Guard(1 + i, attempts),
                    ray.data.ActorPoolStrategy(min_size=fewest, max_size=most),
                    {"num_gpus": need.gpus if gpus else 0.0, "num_cpus": need.cpus},
                )
            )
        specs = {i: scorer.spec for i, scorer in scorers.items()}
        prepare = PreparePieces(
            PrepareStage(columns, specs, "", self._source.confined, self._source.encoding),
            Guard(0, attempts),
        )
        bare = replace(self._source, units=(), inputs={})
        has_bytes = self._source.has_bytes
        names = tuple(s.name for s in self._scorers)
        return piece_pipeline(
            units,
            ReadPieces(bare, self._lease.out, job.commit_rows, prepare if has_bytes else None),
            None if has_bytes else prepare,
            pools,
            CommitPieces(self._lease, columns, names, run.start, run.stop, self._ensemble),
        )

    def _note(self, run: range, row: Mapping[str, Any]) -> None:
        piece = Piece(row["unit"], row["piece"], row["last"])
        self._pieces += 1
        codes: Counter[str] = Counter(json.loads(row["codes"]))
        self._paces[run].count(codes)
        self._left -= self._rows(piece.unit, piece.number)
        self._seconds.update({n: row[f"{n}_s"] for n in ("read", "prepare", "commit")})
        for i, seconds in zip(run, row["score_s"], strict=True):
            self._seconds[f"score {self._scorers[i].name}"] += seconds
        if run.stop == len(self._scorers):
            self._ledger.add(piece, row["ids"])
            self._codes.update(codes)
            self._passed.update(json.loads(row["passed_over"]))
        else:
            self._ledger.note_scored(replace(piece, scored=run.stop))
        self._tell(run)

    def _tell(self, run: range) -> None:
        part = self._scorers[run.start].name if len(run) < len(self._scorers) else ""
        self._watch(progress_of(self._paces[run], self._source.n_rows, self._left, part))

    def _rows(self, unit: int, piece: int) -> int:
        """Rows of a piece, whether or not all of them are to be scored; 0 of a tar shard's."""
        rows = self._job.commit_rows
        return max(0, min(rows, self._sizes[unit] - piece * rows))

    def _publish_ready(self) -> bool:
        """Starts writing the next part, one at a time: each holds all its rows in memory."""
        if self._publishing or (ready := self._ledger.next_part()) is None:
            return False
        part, duplicates = ready
        pieces = self._ledger.pieces_of(part)
        self._publishing[_publish.remote(self._lease, part, pieces, duplicates)] = part
        return True

    def _gather(self, wait: bool) -> None:
        if not self._publishing:
            return
        done, _ = ray.wait(list(self._publishing), timeout=None if wait else 0)
        for ref in done:
            ray.get(ref)
            self._ledger.forget(self._publishing.pop(ref))

    def record(self) -> dict[str, Any]:
        """Counts and timings of this launch, for ``run.json``."""
        wall = time.monotonic() - self._started
        rows = self._codes.total()
        rates = [pace.rate() for pace in self._paces.values()]
        known = [rate for rate in rates if rate]
        per_s = 1 / sum(1 / rate for rate in known) if known and len(known) == len(rates) else None
        record: dict[str, Any] = {
            "rows": rows,
            "codes": dict(self._codes),
            "seconds": round(wall, 3),
            "rows_per_s": per_s and round(per_s, 3),
            "stage_seconds": {name: round(s, 3) for name, s in self._seconds.items()},
            "workers": self._workers,
        }
        if rows:
            score = {name: self._seconds[f"score {name}"] for name in self._workers}
            cpu = self._seconds.total() - sum(score.values())
            record["scorer_busy_share"] = {
                name: round(s / (wall * self._workers[name]), 4) for name, s in score.items()
            }
            record["scorer_hours_per_million_rows"] = round(sum(score.values()) / 3.6e-3 / rows, 3)
            record["cpu_hours_per_million_rows"] = round(cpu / 3.6e-3 / rows, 3)
        return record


@ray.remote(num_cpus=COMMIT_CPUS)
def _publish(lease: Lease, part: int, pieces: Any, duplicates: list[int]) -> None:
    lease.confirm()
    publish(lease.out, part, pieces, duplicates)
