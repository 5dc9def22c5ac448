"""The driver's queue: which members run at once, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray

from tokenfocus_ray.config import BackboneRun, TrainConfig
from tokenfocus_ray.distributed.lease import Lease
from tokenfocus_ray.distributed.train.failures import EndAtOnce, in_words
from tokenfocus_ray.distributed.train.member_job import MEMBER_FILE, MemberJob
from tokenfocus_ray.distributed.train.metrics import read_metrics
from tokenfocus_ray.distributed.train.progress import Standings
from tokenfocus_ray.distributed.train.results import read_member
from tokenfocus_ray.distributed.train.stream import DATA_CPUS
from tokenfocus_ray.distributed.train.worker import train_worker
from tokenfocus_ray.errors import ConfigError, OutputError
from tokenfocus_ray.progress import Watch, unwatched
from tokenfocus_ray.say import Say

#: Logical CPUs that stay with the tasks that fetch and decode.
FEEDING_CPUS = 2 * DATA_CPUS


#: Seconds between looks at the members' metrics.
WATCH_SECONDS = 2.0


def worker_resources(run: BackboneRun, cluster: Mapping[str, float]) -> dict[str, float]:
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
        for resource, value in worker_resources(run, cluster).items():
            wanted = value * run.workers + (FEEDING_CPUS if resource == "CPU" else 0)
            if wanted > cluster.get(resource, 0) and config.parallel is None:
                raise ConfigError(
                    f"backbone {name}: a member needs {wanted:g} {resource} ({run.workers} workers "
                    f"of {value:g}, {FEEDING_CPUS:g} CPU to feed them), but the session has "
                    f"{cluster.get(resource, 0):g}; lower workers, cpus, gpus or memory_gib, or "
                    f"set 'parallel' where the cluster grows on demand"
                )


class Fleet:
    """Starts members while there is room, and says how they go."""

    def __init__(
        self, jobs: list[MemberJob], base: str, lease: Lease, say: Say, watch: Watch = unwatched
    ) -> None:
        self._standings = Standings(jobs, watch)
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
                self._end(job)
            else:
                waiting.append(job)
        failed: dict[str, Exception] = {}
        while waiting or self._active:
            self._confirm()
            while waiting and self._has_room(waiting[0]):
                job = waiting.pop(0)
                self._say(f"{job.name}: starts, {job.schedule.n_steps} steps at the most")
                self._active[_fit_member.remote(job, self._base)] = job
                self._seen[job.name] = self._steps_before(job)
                self._standings.enter(job.name, "running", self._seen[job.name])
            done, _ = ray.wait(list(self._active), timeout=WATCH_SECONDS)
            self._watch()
            for ref in done:
                job = self._active.pop(ref)
                try:
                    ray.get(ref)
                    self._say(f"{job.name}: {_result_line(self._end(job))}")
                except Exception as error:
                    failed[job.name] = error
                    self._say(f"{job.name}: failed: {in_words(error)}")
                    self._standings.enter(job.name, "failed")
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
            for name, value in worker_resources(run, self._cluster).items():
                left[name] = left.get(name, 0) - value * run.workers
        return all(value >= 0 for value in left.values())

    def _watch(self) -> None:
        for job in self._active.values():
            new = [r for r in read_metrics(job.folder) if r["step"] > self._seen[job.name]]
            if new:
                self._standings.note(job.name, new, job.selection.criterion)
                self._seen[job.name] = new[-1]["step"]

    def _steps_before(self, job: MemberJob) -> int:
        return max((r["step"] for r in read_metrics(job.folder, self._say)), default=0)

    def _end(self, job: MemberJob) -> dict[str, Any]:
        """What a finished member left."""
        member = read_member(job)
        self._standings.enter(job.name, "finished", member["steps"])
        return member


def _result_line(member: Mapping[str, Any]) -> str:
    held_out = member["out_of_fold"]
    srcc = "-" if held_out["srcc"] is None else f"{held_out['srcc']:.3f}"
    return f"finished after {member['steps']} steps, out-of-fold SRCC {srcc}"


@ray.remote(num_cpus=0, max_retries=0)
def _fit_member(job: MemberJob, base: str) -> None:
    """Runs one trainer; a task of its own, so that several run side by side."""
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from tokenfocus_ray.distributed.train.stream import FixedRows, StepSharding, TrainRows

    run = job.config.backbones[job.backbone]
    each = worker_resources(run, ray.cluster_resources())
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
