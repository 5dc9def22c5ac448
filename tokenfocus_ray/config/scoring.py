"""What scores depend on, and how a scoring job runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tokenfocus_ray.config.base import Frozen, UserPath, mapping_in
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.parsing import read_yaml

#: What the probabilities of the levels are made of.
LevelNormalization = Literal["logits", "probs"]


class ScoringConfig(Frozen):
    """How images are scored. What changes a score is in here; what changes only the pace is not.

    Attributes:
        backbone: Built-in name, folder or hub id.
        revision: Commit, branch or tag of a hub id.
        adapters: Name -> folder of a peft adapter, local or ``s3://``; each is one member. None:
            the backbone itself.
        dtype: ``auto`` is float32 on a CPU and bfloat16 on a GPU.
        total_levels: Words of the overall score and their values.
        element_levels: Words of an element's score and their values.
        normalization: See :func:`~tokenfocus_ray.scoring.distribution.level_distribution`.
        structure: Whether the prompt carries the elements and the prompt type.
        max_visual_tokens: Most image tokens an image; None: the backbone's own limit.
    """

    backbone: UserPath = Field(min_length=1)
    revision: str | None = None
    adapters: dict[str, UserPath] = Field(default_factory=dict)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    total_levels: dict[str, float] = Field(
        default={"1": 1.0, "2": 2.0, "3": 3.0, "4": 4.0, "5": 5.0}, min_length=2
    )
    element_levels: dict[str, float] = Field(default={"No": 0.0, "Yes": 1.0}, min_length=2)
    normalization: LevelNormalization = "logits"
    structure: bool = True
    max_visual_tokens: int | None = Field(default=None, ge=1)


class PoolConfig(Frozen):
    """The scoring actors of a backbone.

    Attributes:
        workers: Actors at the least; None: as many as the session's GPUs hold, or one on a machine
            without.
        max_workers: At the most, where there is work for them; None: as ``workers``.
        gpus: GPUs an actor, where the session has some: one, or a fraction that shares one.
        cpus: Logical CPUs an actor.
    """

    workers: int | None = Field(default=None, ge=1)
    max_workers: int | None = Field(default=None, ge=1)
    gpus: float = Field(default=1.0, gt=0.0)
    cpus: float = Field(default=0.5, gt=0.0)

    @field_validator("gpus")
    @classmethod
    def _one_device(cls, value: float) -> float:
        return at_most_one(value, "an actor")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_workers is not None and self.max_workers < (self.workers or 1):
            raise ValueError(
                f"max_workers {self.max_workers} is below workers {self.workers}; raise it"
            )
        return self


def at_most_one(gpus: float, who: str) -> float:
    """What is reserved and not used is refused: others could not have it."""
    if gpus > 1.0:
        raise ValueError(
            f"{gpus:g} GPUs for {who}, which uses one and would leave the others idle; give at "
            f"most 1, and use several by more 'workers'"
        )
    return gpus


class JobConfig(PoolConfig):
    """Workers and pace of a scoring job; no score depends on it beyond the rounding of its dtype.

    Attributes:
        commit_rows: Rows that are written together: the most that a worker loses when it is killed.
            Another launch on the same output must agree.
        order: Of several backbones. ``one_after_another``: each has the whole session, and images
            are read once for each. ``side_by_side``: all hold actors at once, and images are read
            once.
        pools: Backbone -> what its actors need, where that differs.
        stall_minutes: The job ends when nothing at all moves for so long.
    """

    commit_rows: int = Field(default=256, ge=1)
    order: Literal["one_after_another", "side_by_side"] = "one_after_another"
    pools: dict[str, PoolConfig] = Field(default_factory=dict)
    stall_minutes: float = Field(default=30.0, gt=0.0)

    def pool(self, backbone: str) -> PoolConfig:
        """What the actors of a backbone need."""
        common = {name: getattr(self, name) for name in PoolConfig.model_fields}
        own = self.pools.get(backbone, PoolConfig()).model_dump(exclude_unset=True)
        return PoolConfig.parse(common | own, f"job: pools: {backbone}")


def load_score_config(
    path: str | None,
    overrides: Mapping[str, Any] | None = None,
    brought: Mapping[str, ScoringConfig] | None = None,
    **job: Any,
) -> tuple[dict[str, ScoringConfig], JobConfig]:
    """Reads a YAML file of :class:`ScoringConfig`, with :class:`JobConfig` under ``job``.

    Several backbones stand under ``backbones``, each a name and the fields in which it differs from
    those beside ``backbones``.

    Args:
        path: The file; None for none.
        overrides: Fields of the former that win over the file's.
        brought: Backbones of an ensemble, of which nothing can be changed; none: the file's.
        **job: Fields of the latter, likewise.

    Returns:
        Name -> backbone, and the job.

    Raises:
        ConfigError: a key or a value is wrong, or there is no backbone.
    """
    values = read_yaml(path) if path else {}
    where = path or "options"
    below = mapping_in(values.pop("job", None), f"{where}: job")
    several = mapping_in(values.pop("backbones", None), f"{where}: backbones")
    pace = JobConfig.parse({**below, **job}, f"{where}: job")
    overrides = overrides or {}
    if brought:
        if given := [*values, *(["backbones"] if several else []), *overrides]:
            raise ConfigError(
                f"{where}: the ensemble brings its backbones as it was fitted on them, so "
                f"{', '.join(given)} cannot be given; only 'job' can"
            )
        return dict(brought), pace
    if not several:
        values |= overrides
        if "backbone" not in values:
            raise ConfigError("no backbone: give --backbone NAME, or 'backbone' in --config")
        one = ScoringConfig.parse(values, where)
        return {one.backbone: one}, pace
    if given := [f"--{n}" for n in ("backbone", "adapters") if n in overrides]:
        raise ConfigError(
            f"{where} has several backbones, so {', '.join(given)} cannot be for one of them; "
            f"write it there"
        )
    return {
        str(name): ScoringConfig.parse(
            {**values, **mapping_in(own, f"{where}: backbones: {name}"), **overrides},
            f"{where}: backbones: {name}",
        )
        for name, own in several.items()
    }, pace
