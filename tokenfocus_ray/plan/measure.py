"""What this machine does: preparing an image on one core, and the whole pipeline's stages.

The stages are those of ``tokenfocus score`` itself, without Ray around them.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.config import PoolConfig, ScoringConfig
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.errors import RowError
from tokenfocus_ray.plan.cost import job_seconds
from tokenfocus_ray.plan.sample import SampledRow
from tokenfocus_ray.say import Say
from tokenfocus_ray.scoring.image import decode
from tokenfocus_ray.scoring.prepare import PrepareStage
from tokenfocus_ray.scoring.request import read_elements
from tokenfocus_ray.scoring.wire import image_to_struct, text_of

#: Seconds of the quick measurement of one core.
FEED_SECONDS = 2.0
#: Rounds of the scorer, and seconds of each where the rows are scored fast enough.
ROUNDS, ROUND_SECONDS = 5, 3.0
#: Where Linux names the processor.
CPU_INFO = Path("/proc/cpuinfo")
_COLUMNS = Columns("prompt", "image", None, "id", "elements", "prompt_type")


@dataclass(frozen=True, slots=True)
class Feeding:
    """How long one core prepares an image: decodes it, and cuts it to the backbone's size.

    Attributes:
        seconds: CPU seconds an image, on average.
        images: Images that were prepared.
        machine: Where.
    """

    seconds: float
    images: int
    machine: str


def measure_feeding(spec: ImageSpec, rows: Sequence[SampledRow]) -> Feeding | None:
    """Prepares images of the sample for a second or two; fetching them is not in it.

    A row whose image turns out to be damaged behind its header gets the error.

    Args:
        spec: How the backbone wants its images.
        rows: Of the sample.

    Returns:
        None without any image.
    """
    spent, done, started = 0.0, 0, time.perf_counter()
    for row in rows:
        if row.data is None or row.error is not None:
            continue
        before = time.thread_time()  # others on this machine do not count
        try:
            image_to_struct(spec.prepare(decode(row.data)))
        except RowError as error:
            row.error = row.error or error
            continue
        spent, done = spent + time.thread_time() - before, done + 1
        if time.perf_counter() - started > FEED_SECONDS:
            break
    return Feeding(spent / done, done, this_machine()) if done else None


@dataclass(frozen=True, slots=True)
class Measured:
    """The stages of a scoring job on this machine.

    Attributes:
        machine: Which.
        device: ``cpu``, or the card's name.
        device_bytes: Memory of the card.
        workers: Scorers of a job here.
        threads: CPU threads of each; 1 on a GPU.
        cores: CPU cores of this machine.
        rows: Rows of a round.
        prepare_seconds: CPU seconds of a row's preparation, on one core.
        score_seconds: Of a row in one scorer, by round.
        busy_cores: Cores that were at work while it scored.
        load_seconds: Until the weights were loaded.
    """

    machine: str
    device: str
    device_bytes: int
    workers: int
    threads: int
    cores: int
    rows: int
    prepare_seconds: float
    score_seconds: tuple[float, ...]
    busy_cores: float
    load_seconds: float

    def rates(self) -> tuple[float, float, float]:
        """Images/s that a job would do once it is under way: lowest, likely, highest."""
        each = sorted(self._rate(seconds) for seconds in self.score_seconds)
        return each[0], self._rate(statistics.median(self.score_seconds)), each[-1]

    def _rate(self, score_seconds: float) -> float:
        return 1 / job_seconds(
            score_seconds, self.prepare_seconds, self.busy_cores, self.cores, self.workers,
            self.threads,
        )  # fmt: skip


def measure_scoring(
    config: ScoringConfig,
    source: Source,
    spec: ImageSpec,
    rows: Sequence[SampledRow],
    columns: Columns,
    pool: PoolConfig,
    commit_rows: int,
    say: Say,
) -> Measured | None:
    """Prepares and scores rows of the sample, several times.

    Args:
        config: What to score with.
        source: What its backbone was resolved to.
        spec: How it wants its images.
        rows: Of the sample.
        columns: Which column is what.
        pool: The scorers of a job.
        commit_rows: Rows that are scored together, at the most.
        say: Takes a line of what happens.

    Returns:
        None where no row has an image that can be read.
    """
    import torch
    from transformers.utils import logging

    from tokenfocus_ray.scoring.stage import ScoreStage

    table = _table(rows, columns)
    if not table.num_rows:
        return None
    on_gpu = torch.cuda.is_available()
    cores = os.cpu_count() or 1
    workers = pool.workers or (max(1, int(torch.cuda.device_count() / pool.gpus)) if on_gpu else 1)
    threads = None if on_gpu else max(1, cores // workers)
    say(f"measuring {config.backbone} on {'a GPU' if on_gpu else f'{cores} CPU cores'}")
    before = torch.get_num_threads()
    # as in an actor, which is made in one thread and called in another: OpenMP then counts more
    # threads than cores, and lets those that wait sleep; else they spin, fast on an idle machine
    # and several times slower on one that does something else too
    caller = ThreadPoolExecutor(1)
    shows_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        started = time.perf_counter()
        stage = ScoreStage(config, source, _COLUMNS, "cuda" if on_gpu else "cpu", threads)
        loaded = time.perf_counter() - started
        prepare = PrepareStage(_COLUMNS, {0: spec}, "")
        first = prepare(table.slice(0, 4))
        stage(first)  # libraries make themselves ready at the first call
        pace = caller.submit(_timed, stage, first).result()[0] / first.num_rows
        count = max(1, min(commit_rows, table.num_rows, round(ROUND_SECONDS / pace)))
        seconds, busy, prepared = [], [], 0.0
        for n in range(ROUNDS):
            piece = _cycled(table, n * count, count)
            began = time.thread_time()
            ready = prepare(piece)
            prepared += time.thread_time() - began
            took, at_work = caller.submit(_timed, stage, ready).result()
            seconds.append(took / count)
            busy.append(at_work)
    finally:
        caller.shutdown()
        torch.set_num_threads(before)
        if shows_bars:
            logging.enable_progress_bar()
    return Measured(
        this_machine(),
        torch.cuda.get_device_name() if on_gpu else "cpu",
        torch.cuda.get_device_properties(0).total_memory if on_gpu else 0,
        workers, threads or 1, cores, count, prepared / (ROUNDS * count), tuple(seconds),
        statistics.median(busy), loaded,
    )  # fmt: skip


def _timed(stage: Any, table: pa.Table) -> tuple[float, float]:
    """Seconds of a call, and cores of the machine that were at work meanwhile."""
    before, started = psutil.cpu_times(), time.perf_counter()
    stage(table)
    took, after = time.perf_counter() - started, psutil.cpu_times()
    idle = sum(
        getattr(after, name, 0.0) - getattr(before, name, 0.0) for name in ("idle", "iowait")
    )
    cores = os.cpu_count() or 1
    return took, min(float(cores), max(0.0, cores - idle / took))


def _cycled(table: pa.Table, start: int, count: int) -> pa.Table:
    """So many rows from a row on, from the first again behind the last."""
    at = itertools.islice(itertools.cycle(range(table.num_rows)), start % table.num_rows, None)
    return table.take(pa.array(itertools.islice(at, count), pa.int64()))


def _table(rows: Sequence[SampledRow], c: Columns) -> pa.Table:
    """Rows whose image is here, as a manifest that holds images."""

    def value(row: SampledRow, name: str | None) -> str | None:
        return text_of(row.values[name]) if name else None

    made = []
    for number, row in enumerate(rows):
        if row.data is None or row.error is not None:
            continue
        elements = read_elements(row.values[c.elements]) if c.elements else ()
        if isinstance(elements, RowError):
            continue
        made.append(
            {
                "id": str(number),
                "prompt": value(row, c.prompt),
                "image": row.data,
                "elements": json.dumps([asdict(e) for e in elements]),
                "prompt_type": value(row, c.prompt_type),
            }
        )
    texts: Mapping[str, pa.DataType] = dict.fromkeys(
        ("id", "prompt", "elements", "prompt_type"), pa.string()
    )
    return pa.Table.from_pylist(made, schema=pa.schema({**texts, "image": pa.large_binary()}))


def this_machine() -> str:
    """Its processor in words."""
    cores = os.cpu_count() or 1
    model = platform.processor() or platform.machine()
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(named, model)}, {cores} core{'s' * (cores > 1)}"
