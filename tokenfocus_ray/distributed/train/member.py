"""One member on its workers: what Ray Train runs, from the first step to its out-of-fold scores."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
import ray.train
import torch
import torch.distributed as dist
from ray.train.torch import get_device

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.distributed.train.checkpoints import (
    NOT_VALIDATED,
    History,
    read_history,
    read_state,
    report,
)
from tokenfocus_ray.distributed.train.member_files import write_member
from tokenfocus_ray.distributed.train.member_job import MemberJob
from tokenfocus_ray.distributed.train.metrics import (
    METRICS_SECONDS,
    METRICS_STEPS,
    write_metrics,
)
from tokenfocus_ray.distributed.train.stream import StepReader
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.wire import requests_of
from tokenfocus_ray.training.divergence import without_answer
from tokenfocus_ray.training.learner import Learner
from tokenfocus_ray.training.objective import Example
from tokenfocus_ray.training.out_of_memory import out_of_memory_in_words
from tokenfocus_ray.training.samples import SAMPLE_COLUMNS, labels_of, vocabularies
from tokenfocus_ray.training.schedule import Step, early_stop
from tokenfocus_ray.training.soft_labels import SampleLabels
from tokenfocus_ray.training.validation import epoch_metrics, epoch_score


def train_member(job: MemberJob) -> None:
    """Trains a member, scores what it never saw, writes it; every worker calls it.

    Args:
        job: Which member.

    Raises:
        DivergedError: the training diverged.
        UserError: the backbone or its adapter cannot be made, a step does not fit into memory, or a
            checkpoint cannot be read.
    """
    member = _Member(job)
    member.train()
    best_step = member.load_best()
    held_out = member.predict("held_out")
    trained = member.learner.trained()
    workers = member.learner.workers
    if workers.rank == 0:
        write_member(job, member.learner, member.history, best_step, held_out, trained)
    if workers.count > 1:
        dist.barrier()


def _make_learner(job: MemberJob) -> Learner:
    """The backbone on this worker's device, with what is trained."""
    config, options = job.config, job.config.backbones[job.backbone]
    device = get_device()
    # full fine-tuning and sharding keep float32 weights and compute in the low precision
    low = options.dtype == "bfloat16" or (options.dtype == "auto" and device.type == "cuda")
    whole = config.lora is not None and options.strategy != "fsdp"
    # a sharded one is loaded whole where there is room for it
    sharded = options.strategy == "fsdp" and ray.train.get_context().get_world_size() > 1
    backbone = loading.load(
        registry.on_this_node(job.source),
        device="cpu" if sharded else device,
        dtype=torch.bfloat16 if low and whole else torch.float32,
        max_visual_tokens=options.max_visual_tokens,
    )
    return Learner(
        backbone,
        config,
        config.scoring(job.backbone),
        job.schedule.n_steps,
        config.bags.seed * 1009 + job.bag.index,
        low_precision=torch.bfloat16 if low else None,
    )


class _Member:
    """A member on one of its workers: where its training stands.

    Attributes:
        learner: With its values.
        history: Steps, scores and metrics so far.
    """

    def __init__(self, job: MemberJob) -> None:
        """Begins, or goes on from the latest checkpoint."""
        self._job, self._config = job, job.config
        self._levels = vocabularies(job.config)
        self._written = 0.0
        self.learner, self.history = _make_learner(job), History()
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is not None:
            state = read_state(checkpoint)
            self.learner.load_state(state)
            self.history = read_history(checkpoint, state)

    def train(self) -> None:
        """All steps that are left, or until epochs bring nothing more."""
        reader: StepReader | None = None
        for step in self._job.schedule.steps(self.history.steps):
            if early_stop(self.history.scores, self._config.optimizer.patience):
                return
            reader = reader or self._reader()
            record = self._step(step, reader.take(step))
            if step.ends_epoch:
                record |= self._validate()
            if step.ends_epoch or step.index % METRICS_STEPS == 0:
                self._note(record, now=step.ends_epoch)
            if step.ends_epoch or self.history.steps % self._config.checkpoint_steps == 0:
                score = self.history.scores[-1] if step.ends_epoch else NOT_VALIDATED
                is_first = self.learner.workers.rank == 0
                report(self.learner.state(), self.history, record["loss"], score, is_first)

    def _reader(self) -> StepReader:
        shard = ray.train.get_dataset_shard("train")
        blocks = shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
        return StepReader(blocks, self.learner.workers.rank, self.learner.workers.count)

    def _step(self, step: Step, rows: pa.Table | None) -> dict[str, Any]:
        """One step; returns its record."""
        options = self._config.backbones[self._job.backbone]
        started = time.monotonic()
        with out_of_memory_in_words(step.index, self._job.backbone, options):
            metrics = self.learner.step(step.index, self._examples(rows))
        self.history.seconds += time.monotonic() - started
        self.history.steps = step.index + 1
        return {"step": step.index + 1, "epoch": step.epoch, **metrics}

    def _examples(self, table: pa.Table | None) -> list[Example]:
        if table is None:
            return []
        requests = requests_of(table, SAMPLE_COLUMNS)
        labels = self._labels(table)
        groups: list[Any] = table["group"].to_pylist()
        return [Example(*each) for each in zip(requests, labels, groups, strict=True)]

    def _labels(self, table: pa.Table) -> list[SampleLabels]:
        names = ["total_scores", "element_labels", "split_confidence", "attribute_confidence"]
        rows = table.select(names).to_pylist()
        return [labels_of(row, self._levels, self._config.loss.unsure) for row in rows]

    def _validate(self) -> dict[str, float]:
        """Scores the epoch; returns its figures."""
        scored = self.predict("validation")
        if lost := without_answer([row for row, _ in scored]):
            what = f"validation after {self.history.steps} steps: all answers are NaN or infinite"
            raise self.learner.diverged(what, lost)
        figures = epoch_metrics(scored, self._levels, self._config.loss)
        self.history.scores.append(epoch_score(self._job.selection.criterion, figures))
        return {f"validation_{name}": value for name, value in figures.items()}

    def _note(self, record: dict[str, Any], now: bool) -> None:
        """Keeps a record, and writes all of them now and then."""
        self.history.records.append(record | {"seconds": self.history.seconds})
        due = now or time.monotonic() - self._written > METRICS_SECONDS
        if self.learner.workers.rank == 0 and due:
            self._written = time.monotonic()
            write_metrics(self._job.folder, self.history.records, tensorboard=now)

    def predict(self, name: str) -> list[tuple[ScoreRow, SampleLabels]]:
        """Scores and labels of a data set, on every worker all of it."""
        shard = ray.train.get_dataset_shard(name)
        mine: list[tuple[ScoreRow, SampleLabels]] = []
        blocks = shard.iter_batches(batch_size=None, batch_format="pyarrow")
        if self._config.backbones[self._job.backbone].strategy == "fsdp":
            # forwards of a sharded model are collective: all rows in one call
            tables = [t for t in blocks if t.num_rows]
            blocks = [pa.concat_tables(tables)] if tables else [None]
        for table in blocks:
            requests = list(requests_of(table, SAMPLE_COLUMNS)) if table is not None else []
            labels = self._labels(table) if table is not None else []
            mine += zip(self.learner.predict(requests), labels, strict=True)
        shares = self.learner.workers.gather(mine)
        n = max(map(len, shares))
        return [share[i] for i in range(n) for share in shares if i < len(share)]

    def load_best(self) -> int:
        """Loads the epoch of the best validation score; returns its number of steps."""
        reported = ray.train.get_all_reported_checkpoints()
        best = max(reported, key=lambda r: (r.metrics["score"], -r.metrics["steps"]))
        self.learner.load_trained(read_state(best.checkpoint))
        return int(best.metrics["steps"])
