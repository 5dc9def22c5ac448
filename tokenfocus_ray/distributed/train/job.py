"""The fan-out: backbones times bags, each a run of Ray Train, as many at once as the cluster holds.

    RUN/config.json         what the members are made from; another launch must agree
    RUN/samples.parquet     what is trained on;  RUN/skipped.parquet: what is not, and why
    RUN/members/NAME/       one run of Ray Train: its checkpoints, metrics.jsonl, tensorboard/,
                            adapter/ (peft), held_out.parquet, and member.json once it is finished
    RUN/oof.parquet         every sample once, scored by the members that never saw its prompt
    RUN/summary.json        the table at the end

Launched again with the same configuration it goes on where it stood: finished members are left
alone, and Ray Train starts the others from their latest checkpoints.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.distributed.layout import INPUT, JOB
from tokenfocus_ray.distributed.output import Launch, OutputFolder, OutputKind
from tokenfocus_ray.distributed.session import ray_session
from tokenfocus_ray.distributed.train.checks import check_inputs, resolve_backbones
from tokenfocus_ray.distributed.train.failures import failure_of
from tokenfocus_ray.distributed.train.fleet import Fleet, check_resources
from tokenfocus_ray.distributed.train.images import IMAGES
from tokenfocus_ray.distributed.train.manifest import Manifest
from tokenfocus_ray.distributed.train.members import member_jobs
from tokenfocus_ray.distributed.train.preparation import prepare_samples
from tokenfocus_ray.distributed.train.results import (
    TrainSummary,
    read_member,
    write_out_of_fold,
    write_summary,
)
from tokenfocus_ray.distributed.train.stream import (
    SAMPLES_FILE,
    SKIPPED_FILE,
    read_run_table,
    read_samples,
)
from tokenfocus_ray.progress import Watch
from tokenfocus_ray.say import Say, in_lines
from tokenfocus_ray.storage import Store
from tokenfocus_ray.training.validation import criterion_warnings

if TYPE_CHECKING:
    from tokenfocus_ray.plan.training import TrainingPlan  # needs torch, which only a plan does

CONFIG_FILE = "config.json"
RUN = OutputKind(
    "train",
    "no training",
    CONFIG_FILE,
    frozenset({SAMPLES_FILE, SKIPPED_FILE, IMAGES, "members", JOB}),
)


def plan_training(config: TrainConfig) -> TrainingPlan:
    """What :func:`train_members` would run, as far as the manifest tells; starts nothing.

    Raises:
        UserError: as :func:`train_members`, before any image is looked at.
    """
    from tokenfocus_ray.plan.training import plan_members

    config, sources = resolve_backbones(config)
    manifest, _ = check_inputs(config, sources)
    return plan_members(config, sources, manifest.table, manifest.columns, manifest.where)


def train_members(
    config: TrainConfig, out: str, say: Say = print, progress: Watch | None = None
) -> TrainSummary:
    """Trains every member, and scores every sample with the members that did not see its prompt.

    Args:
        config: What to train.
        out: The run's folder, local or s3://; on several nodes they must all reach it.
        say: Takes lines of what happens.
        progress: Is told where the training stands, at each record of a member's; None: ``say``
            takes lines of it.

    Raises:
        ManifestError: the data cannot be trained on.
        ConfigError: the configuration does not fit the data, the cluster, or what an earlier
            launch began in ``out``.
        BackboneError, LevelError: a backbone cannot be trained.
        OutputError: ``out`` cannot be written to, has too little space, lies in the folder of the
            data, or another launch is writing to it.
        TrainingError: some members failed; launching again trains those only.
    """
    started = time.monotonic()
    folder = OutputFolder.find(RUN, out, [config.data, *([config.test] if config.test else [])])
    config, sources = resolve_backbones(config)
    manifest, specs = check_inputs(config, sources, folder.store.child(INPUT), say)
    identity = config.identity() | {"data": manifest.fingerprint}
    identity |= {f"backbones.{name}.weights": s.revision for name, s in sources.items()}
    folder.store.check_writable()
    folder.is_begun(identity)  # before anything is written to a folder of something else
    with folder.launch(identity, say) as launch:
        watch = progress or in_lines(say)
        summary = _train(config, manifest, sources, specs, launch, say, watch)
    return replace(summary, seconds=time.monotonic() - started)


def _train(
    config: TrainConfig,
    manifest: Manifest,
    sources: Mapping[str, Source],
    specs: Mapping[str, ImageSpec],
    launch: Launch,
    say: Say,
    watch: Watch,
) -> TrainSummary:
    """What is done while no other launch may write to the run's folder."""
    from tokenfocus_ray.plan.training import check_space

    started, store = time.monotonic(), launch.folder.store
    with ray_session():
        check_resources(config)
        check_space(config, sources, store.free_bytes(), store.uri)
        if not (launch.resumes and store.exists(SAMPLES_FILE)):
            say(f"looking at {manifest.table.num_rows} samples of {manifest.where}")
            prepare_samples(manifest, config, sources, specs, store, watch)
            launch.write_record()
        samples = read_samples(store)
        skipped = read_run_table(store, SKIPPED_FILE)
        _say_skipped(skipped, store, say)
        jobs = member_jobs(config, samples, store, sources, specs)
        for line in criterion_warnings({job.name: job.selection for job in jobs}):
            say(line)
        failed = Fleet(jobs, manifest.base, launch.lease, say, watch).run()
        if failed:
            raise failure_of(failed, len(jobs))
    launch.finish()
    members = [read_member(job) for job in jobs]
    write_out_of_fold(jobs, samples, store)
    summary = TrainSummary(store.uri, members, skipped.num_rows, time.monotonic() - started)
    write_summary(summary, config, sources, store)
    return summary


def _say_skipped(skipped: pa.Table, store: Store, say: Say) -> None:
    counts = Counter(str(code) for code in skipped["code"].to_pylist())
    if counts:
        shown = ", ".join(f"{code} {n}" for code, n in sorted(counts.items()))
        say(f"{skipped.num_rows} rows left out ({shown}); {store.uri}/{SKIPPED_FILE} says why")
