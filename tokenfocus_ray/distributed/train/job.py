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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.backbones import registry
from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.distributed.layout import JOB
from tokenfocus_ray.distributed.output import Launch, OutputFolder, OutputKind
from tokenfocus_ray.distributed.preflight import check_scorer, members_record
from tokenfocus_ray.distributed.ray_errors import root_cause
from tokenfocus_ray.distributed.score.failures import Action
from tokenfocus_ray.distributed.session import ray_session
from tokenfocus_ray.distributed.train.failures import decide_member
from tokenfocus_ray.distributed.train.fleet import Fleet, check_resources, in_words
from tokenfocus_ray.distributed.train.inspect import prepare_samples
from tokenfocus_ray.distributed.train.manifest import Manifest, read_manifest
from tokenfocus_ray.distributed.train.member_job import (
    ADAPTER,
    HELD_OUT_FILE,
    MEMBER_FILE,
    MemberJob,
)
from tokenfocus_ray.distributed.train.stream import (
    SAMPLES_FILE,
    SKIPPED_FILE,
    read_samples,
)
from tokenfocus_ray.errors import ConfigError, TrainingError
from tokenfocus_ray.progress import Watch
from tokenfocus_ray.say import Say, in_lines
from tokenfocus_ray.schema import backbone_label
from tokenfocus_ray.storage import Store
from tokenfocus_ray.training.bags import make_bags, member_name
from tokenfocus_ray.training.oof import merge_out_of_fold
from tokenfocus_ray.training.schedule import Schedule
from tokenfocus_ray.training.validation import choices, warnings

if TYPE_CHECKING:
    from tokenfocus_ray.plan.training import TrainingPlan  # needs torch, which only a plan does

CONFIG_FILE, OOF_FILE, SUMMARY_FILE = "config.json", "oof.parquet", "summary.json"
RUN = OutputKind(
    "train",
    "no training",
    CONFIG_FILE,
    frozenset({SAMPLES_FILE, SKIPPED_FILE, "images", "members", JOB}),
)


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """What a finished fan-out made.

    Attributes:
        out: The run's folder.
        members: One record a member, as in its ``member.json``.
        skipped: Number of rows that were not trained on.
        seconds: Wall time of this launch.
    """

    out: str
    members: list[dict[str, Any]]
    skipped: int
    seconds: float

    def adapters(self, backbone: str) -> dict[str, str]:
        """Member name -> adapter folder, of one backbone."""
        return {
            m["member"]: f"{self.out}/members/{m['member']}/{ADAPTER}"
            for m in self.members
            if m["backbone"] == backbone
        }

    def line(self) -> str:
        """The final line, which a script can read."""
        hours = sum(m["gpu_hours"] for m in self.members)
        return (
            f"members={len(self.members)} skipped={self.skipped} gpu_hours={hours:.2f} "
            f"seconds={self.seconds:.1f} out={self.out}"
        )


def plan_training(config: TrainConfig) -> TrainingPlan:
    """What :func:`train_members` would run, as far as the manifest tells; starts nothing.

    Raises:
        UserError: as :func:`train_members`, before any image is looked at.
    """
    from tokenfocus_ray.plan.training import plan_members

    config, sources = _settle(config)
    manifest, _ = _check(config, sources)
    return plan_members(config, sources, manifest.table, manifest.columns, manifest.path)


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
    config, sources = _settle(config)
    manifest, specs = _check(config, sources)
    identity = config.identity() | {"data": manifest.fingerprint}
    identity |= {f"backbones.{name}.weights": s.revision for name, s in sources.items()}
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
            say(f"looking at {manifest.table.num_rows} samples of {manifest.path}")
            prepare_samples(manifest, config, sources, specs, store, watch)
            launch.write_record()
        samples = read_samples(store)
        skipped = _read_table(store, SKIPPED_FILE)
        _say_skipped(skipped, store, say)
        jobs = member_jobs(config, samples, store, sources, specs)
        _check_shares(jobs)
        for line in warnings({job.name: job.choice for job in jobs}):
            say(line)
        failed = Fleet(jobs, manifest.base, launch.lease, say, watch).run()
        if failed:
            raise _failure(failed, len(jobs))
    launch.finish()
    members = [job.folder.read_json(MEMBER_FILE) for job in jobs]
    _write_out_of_fold(jobs, samples, store)
    summary = TrainSummary(store.uri, members, skipped.num_rows, time.monotonic() - started)
    scorers = {
        backbone_label(name): members_record(
            config.scoring(name), source, summary.adapters(name), store
        )
        for name, source in sources.items()
        if config.lora is not None  # else members are whole backbones, which no one configures
    }
    record = {"members": members, "skipped": skipped.num_rows, "backbones": scorers}
    store.write_json(SUMMARY_FILE, record)
    return summary


def _settle(config: TrainConfig) -> tuple[TrainConfig, dict[str, Source]]:
    """The configuration at the commits that hub ids stand for now, and the backbones."""
    sources = {name: registry.resolve(name, run.revision) for name, run in config.backbones.items()}
    runs = {
        name: run.model_copy(update={"revision": sources[name].revision})
        if sources[name].on_hub
        else run
        for name, run in config.backbones.items()
    }
    return config.model_copy(update={"backbones": runs}), sources


def _check(
    config: TrainConfig, sources: Mapping[str, Source]
) -> tuple[Manifest, dict[str, ImageSpec]]:
    """What can be told at once: the manifest's columns, the backbones, the levels."""
    labels = Counter(backbone_label(name) for name in config.backbones)
    label, n = labels.most_common(1)[0]
    if n > 1:
        raise ConfigError(
            f"backbones: {n} of {list(config.backbones)} would name their members "
            f"{member_name(label, 0)!r}; rename a folder"
        )
    manifest = read_manifest(config.data, config.images, config.map, config.encoding)
    return manifest, {n: check_scorer(config.scoring(n), source) for n, source in sources.items()}


def member_jobs(
    config: TrainConfig,
    samples: pa.Table,
    store: Store,
    sources: Mapping[str, Source],
    specs: Mapping[str, ImageSpec],
) -> list[MemberJob]:
    """Every member: each backbone with each bag.

    Args:
        config: The fan-out.
        samples: What is trained on.
        store: The run's folder.
        sources: What each backbone was resolved to.
        specs: How each wants its images.

    Raises:
        ConfigError: fewer prompts than the bags need.
    """
    groups: list[Any] = samples["group"].to_pylist()
    bags = make_bags(groups, config.bags)
    options = config.optimizer
    decided = choices(samples, bags, config)
    return [
        MemberJob(
            member_name(backbone, bag.index),
            backbone,
            sources[backbone],
            specs[backbone],
            config,
            bag,
            Schedule(
                bag.train,
                tuple(groups),
                options.epochs,
                options.batch_size,
                config.bags.seed * 1009 + bag.index,
                by_prompt=config.loss.rank > 0,
            ),
            store,
            choice,
        )
        for backbone in config.backbones
        for bag, choice in zip(bags, decided, strict=True)
    ]


def _check_shares(jobs: list[MemberJob]) -> None:
    for job in jobs:
        workers = job.config.backbones[job.backbone].workers
        if len(job.bag.train) < workers:
            raise ConfigError(
                f"member {job.name} has {len(job.bag.train)} samples for {workers} workers; give "
                f"it fewer workers or more data"
            )


def _failure(failed: Mapping[str, Exception], n_members: int) -> TrainingError:
    """What to say of the members that could not be trained."""
    name, error = next(iter(failed.items()))
    again = any(decide_member(root_cause(e)).action is not Action.STOP for e in failed.values())
    remedy = (
        "launch the same command again to train those that are missing"
        if again
        else "the same command would end the same"
    )
    return TrainingError(
        f"{len(failed)} of {n_members} members could not be trained, first {name}: "
        f"{in_words(error)}. The others are kept; {remedy}"
    )


def _say_skipped(skipped: pa.Table, store: Store, say: Say) -> None:
    counts = Counter(str(code) for code in skipped["code"].to_pylist())
    if counts:
        shown = ", ".join(f"{code} {n}" for code, n in sorted(counts.items()))
        say(f"{skipped.num_rows} rows left out ({shown}); {store.uri}/{SKIPPED_FILE} says why")


def _read_table(store: Store, name: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(store.read_bytes(name)))


def _write_out_of_fold(jobs: list[MemberJob], samples: pa.Table, store: Store) -> None:
    held_out = [
        (backbone_label(job.backbone), job.name, _read_table(job.folder, HELD_OUT_FILE))
        for job in jobs
    ]
    table = merge_out_of_fold(samples, held_out)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    store.write_bytes(OOF_FILE, sink.getvalue().to_pybytes())
