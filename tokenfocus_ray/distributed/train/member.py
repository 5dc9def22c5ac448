"""One member on its workers: what Ray Train runs, from the first step to its out-of-fold scores."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.train
import torch
import torch.distributed as dist
from ray.train.torch import get_device

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.distributed.train.member_job import (
    ADAPTER,
    HELD_OUT_FILE,
    MEMBER_FILE,
    MemberJob,
)
from tokenfocus_ray.distributed.train.metrics import (
    METRICS_SECONDS,
    METRICS_STEPS,
    plain_number,
    write_metrics,
)
from tokenfocus_ray.distributed.train.stream import StepReader, checkpoint_name, step_of
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.prompt import question_settings
from tokenfocus_ray.scoring.wire import requests_of, rows_to_table
from tokenfocus_ray.training.adapter import count, save_member, trainable
from tokenfocus_ray.training.divergence import without_answer
from tokenfocus_ray.training.learner import Learner
from tokenfocus_ray.training.objective import Example
from tokenfocus_ray.training.samples import SAMPLE_COLUMNS, labels_of, vocabularies
from tokenfocus_ray.training.schedule import early_stop
from tokenfocus_ray.training.soft_labels import SampleLabels
from tokenfocus_ray.training.validation import epoch_score, measure, validation_loss

STATE_FILE = "state.pt"
#: Score of a checkpoint within an epoch, below any of an epoch's end: kept as the latest only.
NOT_VALIDATED = -2.0


@dataclass(slots=True)
class Progress:
    """What a checkpoint carries beside the tensors.

    Attributes:
        steps: Steps done.
        seconds: Time spent training, all starts together.
        scores: Validation score of each epoch, see ``epoch_score``.
        records: The metrics so far.
    """

    steps: int = 0
    seconds: float = 0.0
    scores: list[float] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)


def train_member(job: MemberJob) -> None:
    """Trains a member, scores what it never saw, writes it.

    Args:
        job: Which member.

    Raises:
        DivergedError: the training diverged.
        UserError: the backbone or its adapter cannot be made.
    """
    _Run(job).finish()


class _Run:
    """The state of one worker."""

    def __init__(self, job: MemberJob) -> None:
        context = ray.train.get_context()
        self.job, self.config = job, job.config
        self.rank, self.workers = context.get_world_rank(), context.get_world_size()
        options = self.config.backbones[job.backbone]
        device = get_device()
        # full fine-tuning and sharding keep float32 weights and compute in the low precision
        low = options.dtype == "bfloat16" or (options.dtype == "auto" and device.type == "cuda")
        whole = self.config.lora is not None and options.strategy != "fsdp"
        dtype = torch.bfloat16 if low and whole else torch.float32
        # a sharded one is loaded whole where there is room for it
        sharded = options.strategy == "fsdp" and self.workers > 1
        self.backbone = loading.load(
            registry.on_this_node(job.source),
            device="cpu" if sharded else device,
            dtype=dtype,
            max_visual_tokens=options.max_visual_tokens,
        )
        self.levels = vocabularies(self.config)
        self.learner = Learner(
            self.backbone,
            self.config,
            self.config.scoring(job.backbone),
            job.schedule.n_steps,
            self.config.bags.seed * 1009 + job.bag.index,
            low_precision=torch.bfloat16 if low else None,
        )
        self.progress = Progress()
        self._written = 0.0
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is not None:
            self._restore(checkpoint)

    def finish(self) -> None:
        """Everything after the start."""
        self._train()
        best = self._load_best()
        held_out = self._predict("held_out")
        trained = self.learner.trained()
        if self.rank == 0:
            self._write(best, held_out, trained)
        self._wait()

    def _train(self) -> None:
        schedule, patience = self.job.schedule, self.config.optimizer.patience
        reader: StepReader | None = None
        for step in schedule.steps(self.progress.steps):
            if early_stop(self.progress.scores, patience):
                return
            if reader is None:
                shard = ray.train.get_dataset_shard("train")
                blocks = shard.iter_batches(
                    batch_size=None, batch_format="pyarrow", prefetch_batches=2
                )
                reader = StepReader(blocks, self.rank, self.workers)
            started = time.monotonic()
            table = reader.take(step)
            metrics = self.learner.step(step.index, self._examples(table))
            self.progress.seconds += time.monotonic() - started
            self.progress.steps = step.index + 1
            record = {"step": step.index + 1, "epoch": step.epoch, **metrics}
            if step.ends_epoch:
                record |= self._validate()
            if step.ends_epoch or step.index % METRICS_STEPS == 0:
                record["seconds"] = self.progress.seconds
                self.progress.records.append(record)
                self._write_metrics(now=step.ends_epoch)
            if step.ends_epoch or self.progress.steps % self.config.checkpoint_steps == 0:
                self._checkpoint(record)

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
        return [labels_of(row, self.levels, self.config.loss.unsure) for row in rows]

    def _predict(self, name: str) -> list[tuple[ScoreRow, SampleLabels]]:
        """Scores and labels of a data set, on every worker all of it."""
        shard = ray.train.get_dataset_shard(name)
        mine: list[tuple[ScoreRow, SampleLabels]] = []
        blocks = shard.iter_batches(batch_size=None, batch_format="pyarrow")
        if self.config.backbones[self.job.backbone].strategy == "fsdp":
            # forwards of a sharded model are collective: all rows in one call
            tables = [t for t in blocks if t.num_rows]
            blocks = [pa.concat_tables(tables)] if tables else [None]
        for table in blocks:
            requests = list(requests_of(table, SAMPLE_COLUMNS)) if table is not None else []
            labels = self._labels(table) if table is not None else []
            rows = self.learner.predict(requests)
            mine += zip(rows, labels, strict=True)
        if self.workers == 1:
            return mine
        shares: list[list[tuple[ScoreRow, SampleLabels]]] = [[] for _ in range(self.workers)]
        dist.all_gather_object(shares, mine)
        n = max(map(len, shares))
        return [share[i] for i in range(n) for share in shares if i < len(share)]

    def _validate(self) -> dict[str, float]:
        scored = self._predict("validation")
        if lost := without_answer([row for row, _ in scored]):
            what = f"validation after {self.progress.steps} steps: all answers are NaN or infinite"
            raise self.learner.diverged(what, lost)
        figures = measure(scored)
        figures["loss"] = validation_loss(scored, self.levels, self.config.loss)
        self.progress.scores.append(epoch_score(self.job.choice.criterion, figures))
        return {f"validation_{name}": value for name, value in figures.items()}

    def _checkpoint(self, record: dict[str, Any]) -> None:
        """To the run's storage; Ray keeps the best and the latest."""
        state = self.learner.state()
        validated = "validation_srcc" in record
        metrics = {
            "steps": self.progress.steps,
            "loss": record["loss"],
            "score": self.progress.scores[-1] if validated else NOT_VALIDATED,
        }
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if self.rank == 0:
                progress = {name: getattr(self.progress, name) for name in Progress.__slots__}
                torch.save({**state, "progress": json.dumps(progress)}, Path(folder) / STATE_FILE)
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(
                metrics, checkpoint, checkpoint_dir_name=checkpoint_name(self.progress.steps)
            )

    def _restore(self, checkpoint: ray.train.Checkpoint) -> None:
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / STATE_FILE, map_location="cpu", weights_only=True)
        self.learner.load_state(state)
        self.progress = Progress(**json.loads(state["progress"]))
        assert self.progress.steps == step_of(checkpoint.path)

    def _load_best(self) -> int:
        """Loads the epoch of the best validation score; returns its number of steps."""
        reported = ray.train.get_all_reported_checkpoints()
        best = max(reported, key=lambda r: (r.metrics["score"], -r.metrics["steps"]))
        with best.checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / STATE_FILE, map_location="cpu", weights_only=True)
        self.learner.load_trained(state)
        return int(best.metrics["steps"])

    def _write_metrics(self, now: bool) -> None:
        if self.rank == 0 and (now or time.monotonic() - self._written > METRICS_SECONDS):
            self._written = time.monotonic()
            write_metrics(self.job.folder, self.progress.records, tensorboard=now)

    def _wait(self) -> None:
        if self.workers > 1:
            dist.barrier()

    def _write(
        self,
        best: int,
        held_out: Sequence[tuple[ScoreRow, SampleLabels]],
        trained: dict[str, torch.Tensor],
    ) -> None:
        job, folder = self.job, self.job.folder
        sink = pa.BufferOutputStream()
        pq.write_table(rows_to_table([row for row, _ in held_out]), sink)
        folder.write_bytes(HELD_OUT_FILE, sink.getvalue().to_pybytes())
        scoring = self.config.scoring(job.backbone)
        source = self.backbone.source
        record = {
            "backbone": source.name,
            "revision": source.revision,
            "member": job.name,
            "questions": question_settings(scoring),
        }
        with tempfile.TemporaryDirectory() as local:
            save_member(self.learner.wrapped, self.backbone, trained, Path(local), record)
            folder.delete(ADAPTER)
            for path in sorted(p for p in Path(local).rglob("*") if p.is_file()):
                name = f"{ADAPTER}/{path.relative_to(local).as_posix()}"
                folder.write_bytes(name, path.read_bytes())
        options = self.config.backbones[job.backbone]
        cuda = self.backbone.device.type == "cuda"
        gpus = (1.0 if options.gpus is None else options.gpus) if cuda else 0.0
        each = job.schedule.steps_per_epoch
        (chosen,) = (r for r in self.progress.records if r["step"] == best)
        folder.write_json(
            MEMBER_FILE,
            {
                "member": job.name,
                "backbone": job.backbone,
                "bag": job.bag.index,
                "steps": self.progress.steps,
                "best_step": best,
                "best_epoch": best // each,
                "criterion": job.choice.criterion,
                "validation_srcc": plain_number(chosen["validation_srcc"]),
                "out_of_fold": {k: plain_number(v) for k, v in measure(held_out).items()},
                "n_train": len(job.bag.train),
                "n_held_out": len(job.bag.held_out),
                "trainable_parameters": count(trainable(self.backbone.model)),
                "seconds": self.progress.seconds,
                "gpu_hours": self.progress.seconds / 3600 * gpus * self.workers,
            },
        )
