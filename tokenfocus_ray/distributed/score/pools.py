"""Which backbones score at once, with how many actors, and whether the session holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.config import JobConfig, PoolConfig
from tokenfocus_ray.distributed.score.pipeline import COMMIT_CPUS, PREPARE_CPUS, READ_CPUS
from tokenfocus_ray.errors import ConfigError, did_you_mean
from tokenfocus_ray.scoring.stage import ScoreStage

#: Logical CPUs that reading, preparing, committing and publishing need, beside the actors.
FEEDING_CPUS = READ_CPUS + PREPARE_CPUS + 2 * COMMIT_CPUS


@dataclass(frozen=True, slots=True)
class Scorer:
    """One backbone of a job.

    Attributes:
        name: In messages and in the names of members.
        spec: How it wants its images.
        make: Makes its stage in an actor, of columns, device and threads.
    """

    name: str
    spec: ImageSpec
    make: Callable[..., ScoreStage]


def passes(count: int, job: JobConfig) -> list[range]:
    """Which of several backbones score at once, pass by pass."""
    if job.order == "side_by_side":
        return [range(count)]
    return [range(i, i + 1) for i in range(count)]


def fewest_workers(pools: Mapping[str, PoolConfig], gpus: int) -> dict[str, int]:
    """Scoring actors that a pass starts with: what is asked for, else all GPUs, shared equally.

    Args:
        pools: Backbones that score at once.
        gpus: Of the session.
    """
    given = sum(p.workers * p.gpus for p in pools.values() if p.workers)
    each = sum(p.gpus for p in pools.values() if not p.workers)
    fair = max(1, int((gpus - given) / each)) if each else 0
    return {name: p.workers or fair for name, p in pools.items()}


def check_budget(backbones: Sequence[str], job: JobConfig, gpus: int, cpus: float) -> None:
    """A pool that holds every CPU starves the tasks that feed it, and the job waits for ever.

    Args:
        backbones: All of the job.
        job: Workers, and what each takes.
        gpus: Of the session.
        cpus: Logical CPUs of the session.

    Raises:
        ConfigError: with what is needed and what there is.
    """
    if foreign := [name for name in job.pools if name not in backbones]:
        raise ConfigError(
            f"job: pools: no backbone has the name {foreign[0]!r}. "
            f"{did_you_mean(foreign[0], list(backbones))}"
        )
    for run in passes(len(backbones), job):
        pools = {backbones[i]: job.pool(backbones[i]) for i in run}
        workers = fewest_workers(pools, gpus)
        what = " and ".join(f"{n} of {name}" if len(pools) > 1 else f"{n}" for name, n in
                            workers.items())  # fmt: skip
        actors = sum(n * pools[name].cpus for name, n in workers.items())
        if actors + FEEDING_CPUS > cpus:
            raise ConfigError(
                f"workers: {what} need {actors + FEEDING_CPUS:g} logical CPUs ({actors:g}, and "
                f"{FEEDING_CPUS:g} to feed them), but the session has {cpus:g}; use fewer, give "
                f"each less under 'cpus'{_or_in_turn(pools)}, or a larger session"
            )
        wanted = sum(n * pools[name].gpus for name, n in workers.items())
        if gpus and wanted > gpus:
            raise ConfigError(
                f"workers: {what} need {wanted:g} GPUs, but the session has {gpus}; use fewer, or "
                f"give each less under 'gpus'{_or_in_turn(pools)}"
            )


def _or_in_turn(pools: Mapping[str, PoolConfig]) -> str:
    return ", or score one_after_another" if len(pools) > 1 else ""
