"""What a finished member leaves: its adapter, its out-of-fold scores, and the record of both."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from tokenfocus_ray.distributed.train.checkpoints import History
from tokenfocus_ray.distributed.train.member_job import (
    ADAPTER,
    HELD_OUT_FILE,
    MEMBER_FILE,
    MemberJob,
)
from tokenfocus_ray.distributed.train.metrics import plain_number
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.prompt import question_settings
from tokenfocus_ray.scoring.wire import rows_to_table
from tokenfocus_ray.tables.parquet import to_parquet
from tokenfocus_ray.training.adapter import count, save_member, trainable
from tokenfocus_ray.training.learner import Learner
from tokenfocus_ray.training.soft_labels import SampleLabels
from tokenfocus_ray.training.validation import score_metrics


def write_member(
    job: MemberJob,
    learner: Learner,
    history: History,
    best_step: int,
    held_out: Sequence[tuple[ScoreRow, SampleLabels]],
    trained: Mapping[str, Tensor],
) -> None:
    """Writes all of it, the record last: it says that the member is finished.

    Args:
        job: Which member.
        learner: That trained it.
        history: Of its training.
        best_step: Steps behind the epoch that was chosen.
        held_out: What it never saw, scored, with labels.
        trained: Values by name, full and on the CPU.
    """
    scored = rows_to_table([row for row, _ in held_out])
    job.folder.write_bytes(HELD_OUT_FILE, to_parquet(scored))
    _write_adapter(job, learner, trained)
    job.folder.write_json(MEMBER_FILE, _record(job, learner, history, best_step, held_out))


def _write_adapter(job: MemberJob, learner: Learner, trained: Mapping[str, Tensor]) -> None:
    source = learner.backbone.source
    taught = {
        "backbone": source.name,
        "revision": source.revision,
        "member": job.name,
        "questions": question_settings(job.config.scoring(job.backbone)),
    }
    with tempfile.TemporaryDirectory() as local:
        save_member(learner.wrapped, learner.backbone, dict(trained), Path(local), taught)
        job.folder.delete(ADAPTER)
        for path in sorted(p for p in Path(local).rglob("*") if p.is_file()):
            name = f"{ADAPTER}/{path.relative_to(local).as_posix()}"
            job.folder.write_bytes(name, path.read_bytes())


def _record(
    job: MemberJob,
    learner: Learner,
    history: History,
    best_step: int,
    held_out: Sequence[tuple[ScoreRow, SampleLabels]],
) -> dict[str, Any]:
    options = job.config.backbones[job.backbone]
    gpus = 1.0 if options.gpus is None else options.gpus
    if learner.backbone.device.type != "cuda":
        gpus = 0.0
    (chosen,) = (r for r in history.records if r["step"] == best_step)
    return {
        "member": job.name,
        "backbone": job.backbone,
        "bag": job.bag.index,
        "steps": history.steps,
        "best_step": best_step,
        "best_epoch": best_step // job.schedule.steps_per_epoch,
        "criterion": job.selection.criterion,
        "validation_srcc": plain_number(chosen["validation_srcc"]),
        "out_of_fold": {k: plain_number(v) for k, v in score_metrics(held_out).items()},
        "n_train": len(job.bag.train),
        "n_held_out": len(job.bag.held_out),
        "trainable_parameters": count(trainable(learner.backbone.model)),
        "seconds": history.seconds,
        "gpu_hours": history.seconds / 3600 * gpus * learner.workers.count,
    }
