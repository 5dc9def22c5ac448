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

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from tokenfocus_ray.backbones import registry
from tokenfocus_ray.backbones.base import ImageSpec, Source
from tokenfocus_ray.config import BackboneRun, TrainConfig
from tokenfocus_ray.distributed.causes import reason_of
from tokenfocus_ray.distributed.commits import JOB
from tokenfocus_ray.distributed.failures import Action
from tokenfocus_ray.distributed.identity import check_identity, check_outside, place
from tokenfocus_ray.distributed.lease import Lease, hold, refuse_if_held
from tokenfocus_ray.distributed.scorers import check_scorer, members_record
from tokenfocus_ray.distributed.session import ray_session
from tokenfocus_ray.distributed.train_data import (
    DATA_CPUS,
    SAMPLES_FILE,
    SKIPPED_FILE,
    Manifest,
    prepare_samples,
    read_manifest,
    read_samples,
)
from tokenfocus_ray.distributed.train_failures import EndAtOnce, decide_member
from tokenfocus_ray.distributed.train_job import (
    ADAPTER,
    HELD_OUT_FILE,
    MEMBER_FILE,
    METRICS_FILE,
    MemberJob,
    train_worker,
)
from tokenfocus_ray.errors import ConfigError, OutputError, TrainingError
from tokenfocus_ray.schema import backbone_label
from tokenfocus_ray.storage import Store
from tokenfocus_ray.training.bags import make_bags, member_name
from tokenfocus_ray.training.oof import merge_out_of_fold
from tokenfocus_ray.training.schedule import Schedule
from tokenfocus_ray.training.validation import CRITERIA, choices, warnings

if TYPE_CHECKING:
    from tokenfocus_ray.training.plan import MemberPlan  # needs torch, which only a plan does

CONFIG_FILE, OOF_FILE, SUMMARY_FILE = "config.json", "oof.parquet", "summary.json"
#: Logical CPUs that stay with the tasks that fetch and decode.
FEEDING_CPUS = 2 * DATA_CPUS
#: Seconds between looks at the members' metrics.
WATCH_SECONDS = 2.0

Say = Callable[[str], None]


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


def plan_training(config: TrainConfig) -> list[MemberPlan]:
    """What :func:`train_members` would run, as far as the manifest tells; starts nothing.

    Raises:
        UserError: as :func:`train_members`, before any image is looked at.
    """
    from tokenfocus_ray.training.plan import plan_members

    config, sources = _settle(config)
    manifest, _ = _check(config, sources)
    return plan_members(config, manifest.table, manifest.columns, manifest.path)


def train_members(config: TrainConfig, out: str, say: Say = print) -> TrainSummary:
    """Trains every member, and scores every sample with the members that did not see its prompt.

    Args:
        config: What to train.
        out: The run's folder, local or s3://; on several nodes they must all reach it.
        say: Takes lines of progress.

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
    store = place(out)
    check_outside(store, [config.data, *([config.test] if config.test else [])])
    refuse_if_held(store)
    config, sources = _settle(config)
    manifest, specs = _check(config, sources)
    store.check_writable()
    identity = config.identity() | {"data": manifest.fingerprint}
    identity |= {f"backbones.{name}.weights": s.revision for name, s in sources.items()}
    _is_known(store, identity)  # before anything is written to a folder of something else
    with hold(store, "train", say) as lease:
        summary = _train(config, manifest, sources, specs, identity, lease, say)
    return replace(summary, seconds=time.monotonic() - started)


def _is_known(store: Store, identity: Mapping[str, Any]) -> bool:
    ours = (SAMPLES_FILE, SKIPPED_FILE, "images", "members", JOB)
    return check_identity(store, CONFIG_FILE, identity, ours.__contains__, "no training")


def _train(
    config: TrainConfig,
    manifest: Manifest,
    sources: Mapping[str, Source],
    specs: Mapping[str, ImageSpec],
    identity: Mapping[str, Any],
    lease: Lease,
    say: Say,
) -> TrainSummary:
    """What is done while no other launch may write to the run's folder."""
    from tokenfocus_ray.training.plan import check_space

    started, store = time.monotonic(), lease.out
    known = _is_known(store, identity)
    with ray_session():
        check_resources(config)
        check_space(config, store.free_bytes(), store.uri)
        if not (known and store.exists(SAMPLES_FILE)):
            say(f"looking at {manifest.table.num_rows} samples of {manifest.path}")
            prepare_samples(manifest, config, list(specs.values()), store)
            store.write_json(CONFIG_FILE, identity)
        samples = read_samples(store)
        skipped = _read_table(store, SKIPPED_FILE)
        _say_skipped(skipped, store, say)
        jobs = member_jobs(config, samples, store, sources, specs)
        _check_shares(jobs)
        for line in warnings({job.name: job.choice for job in jobs}):
            say(line)
        failed = _Fleet(jobs, manifest.base, lease, say).run()
        if failed:
            raise _failure(failed, len(jobs))
    lease.confirm()
    members = [job.folder.read_json(MEMBER_FILE) for job in jobs]
    _write_out_of_fold(jobs, samples, store)
    summary = TrainSummary(store.uri, members, skipped.num_rows, time.monotonic() - started)
    scorers = {
        backbone_label(name): members_record(config.scoring(name), summary.adapters(name), store)
        for name in config.backbones
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


def needs(run: BackboneRun, cluster: Mapping[str, float]) -> dict[str, float]:
    """What one worker of a run takes of the cluster, in Ray's names."""
    gpus = run.gpus if run.gpus is not None else float(cluster.get("GPU", 0) > 0)
    each = {"CPU": run.cpus, "GPU": gpus, "memory": (run.memory_gib or 0.0) * 2**30}
    return {name: value for name, value in each.items() if value}


def check_resources(config: TrainConfig) -> None:
    """Refuses a run that the session could never hold, which would wait for ever.

    A cluster may grow: there, ``parallel`` says that it is known to.

    Raises:
        ConfigError: with what is needed and what there is.
    """
    cluster = ray.cluster_resources()
    for name, run in config.backbones.items():
        for resource, value in needs(run, cluster).items():
            wanted = value * run.workers + (FEEDING_CPUS if resource == "CPU" else 0)
            if wanted > cluster.get(resource, 0) and config.parallel is None:
                raise ConfigError(
                    f"backbone {name}: a member needs {wanted:g} {resource} ({run.workers} workers "
                    f"of {value:g}, {FEEDING_CPUS:g} CPU to feed them), but the session has "
                    f"{cluster.get(resource, 0):g}; lower workers, cpus, gpus or memory_gib, or "
                    f"set 'parallel' where the cluster grows on demand"
                )


class _Fleet:
    """Starts members while there is room, and says how they go."""

    def __init__(self, jobs: list[MemberJob], base: str, lease: Lease, say: Say) -> None:
        self._jobs, self._base, self._lease, self._say = jobs, base, lease, say
        self._cluster = ray.cluster_resources()
        self._active: dict[Any, MemberJob] = {}
        self._seen: dict[str, int] = {}

    def run(self) -> dict[str, Exception]:
        """Returns the members that failed, with why."""
        waiting = []
        for job in self._jobs:
            if job.folder.exists(MEMBER_FILE):
                self._say(f"{job.name}: finished before, left as it is")
            else:
                waiting.append(job)
        failed: dict[str, Exception] = {}
        while waiting or self._active:
            self._confirm()
            while waiting and self._has_room(waiting[0]):
                job = waiting.pop(0)
                self._say(f"{job.name}: starts, {job.schedule.n_steps} steps at the most")
                self._active[_fit_member.remote(job, self._base)] = job
            done, _ = ray.wait(list(self._active), timeout=WATCH_SECONDS)
            self._watch()
            for ref in done:
                job = self._active.pop(ref)
                try:
                    ray.get(ref)
                    self._say(f"{job.name}: {_result_line(job.folder.read_json(MEMBER_FILE))}")
                except Exception as error:
                    failed[job.name] = error
                    self._say(f"{job.name}: failed: {_cause(error)}")
        return failed

    def _confirm(self) -> None:
        """Ends the members where another launch has taken over."""
        try:
            self._lease.confirm()
        except OutputError:
            for ref in self._active:
                ray.cancel(ref, force=True)
            raise

    def _has_room(self, job: MemberJob) -> bool:
        if not self._active:
            return True
        if job.config.parallel is not None:
            return len(self._active) < job.config.parallel
        left = dict(self._cluster)
        left["CPU"] = left.get("CPU", 0) - FEEDING_CPUS
        for other in [*self._active.values(), job]:
            run = other.config.backbones[other.backbone]
            for name, value in needs(run, self._cluster).items():
                left[name] = left.get(name, 0) - value * run.workers
        return all(value >= 0 for value in left.values())

    def _watch(self) -> None:
        for job in self._active.values():
            try:
                lines = job.folder.read_bytes(METRICS_FILE).decode().splitlines()
            except (OSError, OutputError):
                continue
            records = [json.loads(line) for line in lines]
            new = [r for r in records if r["step"] > self._seen.get(job.name, 0)]
            if not new:
                continue
            # each epoch's end, else the latest step
            shown = [r for r in new if "validation_srcc" in r] or new[-1:]
            for record in shown:
                self._say(f"{job.name}: {_progress_line(record, job)}")
            self._seen[job.name] = records[-1]["step"]


def _progress_line(record: Mapping[str, Any], job: MemberJob) -> str:
    pace = record["seconds"] / record["step"]
    left = pace * (job.schedule.n_steps - record["step"])
    text = f"step {record['step']}/{job.schedule.n_steps} loss {record['loss']:.3f}"
    criterion = job.choice.criterion
    value = record.get(f"validation_{criterion}")
    if value is not None:
        text += f" validation {CRITERIA[criterion]} {value:.3f}"
    return f"{text} {pace:.2f} s a step, at most {left / 60:.1f} min left"


def _result_line(member: Mapping[str, Any]) -> str:
    held_out = member["out_of_fold"]
    srcc = "-" if held_out["srcc"] is None else f"{held_out['srcc']:.3f}"
    return f"finished after {member['steps']} steps, out-of-fold SRCC {srcc}"


@ray.remote(num_cpus=0, max_retries=0)
def _fit_member(job: MemberJob, base: str) -> None:
    """Runs one trainer; a task of its own, so that several run side by side."""
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from tokenfocus_ray.distributed.train_data import FixedRows, StepSharding, TrainRows

    run = job.config.backbones[job.backbone]
    each = needs(run, ray.cluster_resources())
    members = job.run.child("members")
    # Ray's annotation still names Tune's callbacks
    callbacks: list[Any] = [EndAtOnce()]
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=run.workers, use_gpu="GPU" in each, resources_per_worker=each
        ),
        run_config=RunConfig(
            name=job.name,
            storage_path=members.root,
            storage_filesystem=members.filesystem,
            failure_config=FailureConfig(max_failures=job.config.max_failures),
            callbacks=callbacks,
            checkpoint_config=CheckpointConfig(
                num_to_keep=1, checkpoint_score_attribute="score", checkpoint_score_order="max"
            ),
        ),
        datasets={
            "train": TrainRows(job.run, job.name, job.schedule),
            "validation": FixedRows(job.run, job.bag.validation),
            "held_out": FixedRows(job.run, job.bag.held_out),
        },
        dataset_config=StepSharding(job.spec, base),
    )
    trainer.fit()


def _cause(error: BaseException) -> str:
    """The innermost reason, on one line."""
    inner = reason_of(error)
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[-1] if lines else ''}"


def _failure(failed: Mapping[str, Exception], n_members: int) -> TrainingError:
    """What to say of the members that could not be trained."""
    name, error = next(iter(failed.items()))
    again = any(decide_member(reason_of(e)).action is not Action.STOP for e in failed.values())
    remedy = (
        "launch the same command again to train those that are missing"
        if again
        else "the same command would end the same"
    )
    return TrainingError(
        f"{len(failed)} of {n_members} members could not be trained, first {name}: "
        f"{_cause(error)}. The others are kept; {remedy}"
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
