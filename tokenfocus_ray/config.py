"""Frozen configuration models: YAML in, an error with a did-you-mean out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from tokenfocus_ray.errors import ConfigError, shown
from tokenfocus_ray.parsing import problems, read_yaml

#: A path or URI as the user gives it; ``~`` is the home folder.
UserPath = Annotated[str, AfterValidator(os.path.expanduser)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "configuration") -> Self:
        """Validates values.

        Args:
            values: Keys and values, as from YAML.
            where: Named in the error.

        Raises:
            ConfigError: every wrong key with the value seen, unknown keys with the nearest known.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(f"{where}: {problems(error, cls)}") from None

    @staticmethod
    def load_values(path: str | Path) -> dict[str, Any]:
        """See :func:`~tokenfocus_ray.parsing.read_yaml`."""
        return read_yaml(path)


class ScoringConfig(_Frozen):
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
    normalization: Literal["logits", "probs"] = "logits"
    structure: bool = True
    max_visual_tokens: int | None = Field(default=None, ge=1)


class PoolConfig(_Frozen):
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
        return _at_most_one(value, "an actor")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_workers is not None and self.max_workers < (self.workers or 1):
            raise ValueError(
                f"max_workers {self.max_workers} is below workers {self.workers}; raise it"
            )
        return self


def _at_most_one(gpus: float, who: str) -> float:
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
    values = ScoringConfig.load_values(path) if path else {}
    where = path or "options"
    below = _mapping(values.pop("job", None), f"{where}: job")
    several = _mapping(values.pop("backbones", None), f"{where}: backbones")
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
            {**values, **_mapping(own, f"{where}: backbones: {name}"), **overrides},
            f"{where}: backbones: {name}",
        )
        for name, own in several.items()
    }, pace


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must hold keys and values, got {shown(value)}")
    return dict(value)


class StackConfig(_Frozen):
    """How a stacker is chosen and judged; see :mod:`tokenfocus_ray.ensemble.stacking`.

    Attributes:
        method: Which meta-learner; ``auto`` takes the best on folds inside the training rows.
        metric: What ``auto`` and the weights of a blend go by: SRCC, PLCC, their mean, or the
            totals' part of the challenge's score.
        label_range: Labels outside are impossible; None: those far off the bulk are.
        coverage: Share of labels that the intervals are to hold.
        folds: Outer folds of whole groups.
        seeds: Rounds of outer folds.
    """

    method: Literal["single", "rank_mean", "nnls", "ridge", "boosting", "blend", "auto"] = "auto"
    metric: Literal["srcc", "plcc", "mean", "challenge"] = "mean"
    label_range: tuple[float, float] | None = None
    coverage: float = Field(default=0.9, gt=0.0, lt=1.0)
    folds: int = Field(default=5, ge=2)
    seeds: int = Field(default=5, ge=1)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.label_range is not None and self.label_range[0] >= self.label_range[1]:
            raise ValueError(f"label_range {self.label_range} must rise")
        return self


class BagsConfig(_Frozen):
    """Who trains on what; see :mod:`tokenfocus_ray.training.bags`.

    Attributes:
        method: ``kfold``: each member leaves out one fold of the prompts. ``bootstrap``: each
            member draws prompts with replacement, and leaves out one fold before it draws.
        count: Members a backbone.
        validation: Share of a member's prompts that choose its best epoch, and nothing else.
        seed: Of the bags, the order of the samples and the initial adapters.
    """

    method: Literal["kfold", "bootstrap"] = "kfold"
    count: int = Field(default=5, ge=2)
    validation: float = Field(default=0.1, gt=0.0, lt=0.5)
    seed: int = Field(default=0, ge=0)


class LossConfig(_Frozen):
    """Weights of the loss terms; see :mod:`tokenfocus_ray.training.loss`. 0 leaves a term out.

    Attributes:
        first_token: Cross-entropy of the first token against the annotators' soft label, over the
            whole vocabulary.
        regression: Distance of the expected score from the annotators' mean, in levels.
        regression_kind: Which distance.
        kl: Kullback-Leibler divergence of the soft label from the closed-set distribution.
        rank: Logistic loss of the order of images of one prompt, over all pairs of a step; costs a
            second forward.
        whole_answer: Plain language-model loss over the whole answer text, a baseline.
        elements: Weight of the element questions against the total question.
        unsure: Weight of an element label whose annotator doubted the split or was unsure.
    """

    first_token: float = Field(default=1.0, ge=0.0)
    regression: float = Field(default=1.0, ge=0.0)
    regression_kind: Literal["huber", "mse", "l1"] = "huber"
    kl: float = Field(default=0.0, ge=0.0)
    rank: float = Field(default=0.0, ge=0.0)
    whole_answer: float = Field(default=0.0, ge=0.0)
    elements: float = Field(default=1.0, ge=0.0)
    unsure: float = Field(default=0.5, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _some_term(self) -> Self:
        names = ("first_token", "regression", "kl", "rank", "whole_answer")
        if not any(getattr(self, name) for name in names):
            raise ValueError(f"every term is 0; give one of {', '.join(names)} a weight")
        return self


class LoraOptions(_Frozen):
    """The adapter of a member, on the decoder's linear layers.

    Attributes:
        rank: Rank of the update.
        alpha: The update is scaled by alpha / rank.
        dropout: Of the update's input.
        targets: Names of linear layers in the decoder.
        vision: Whether the vision tower's linear layers get one too; members then need a vision
            pass each.
    """

    rank: int = Field(default=64, ge=1)
    alpha: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.05, ge=0.0, lt=1.0)
    targets: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
    )
    vision: bool = False


class OptimizerConfig(_Frozen):
    """How a member is trained.

    Attributes:
        epochs: Passes over a member's samples at the most.
        batch_size: Images a step, over all workers and accumulated micro-batches.
        learning_rate: Peak of warm-up and cosine.
        warmup: Share of the steps that warm up.
        weight_decay: AdamW's.
        max_grad_norm: Gradients are scaled down to this norm.
        patience: Epochs without a better validation score before a member stops; see
            :mod:`~tokenfocus_ray.training.validation`.
    """

    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0.0)
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    patience: int = Field(default=2, ge=1)


class BackboneRun(_Frozen):
    """One backbone's model options, and what each of its runs takes of the cluster.

    Attributes:
        revision: Commit, branch or tag of a hub id.
        dtype: ``auto`` is float32 on a CPU and bfloat16 on a GPU; adapters train in float32.
        max_visual_tokens: Most image tokens an image; None: the backbone's own limit.
        learning_rate: In place of the optimiser's.
        workers: Data-parallel workers a run.
        gpus: GPUs a worker, one or a fraction that shares one; None: 1 where the cluster has GPUs.
        cpus: Logical CPUs a worker.
        memory_gib: Memory a worker reserves, in GiB.
        strategy: ``ddp`` holds the model on each worker, ``fsdp`` shards its decoder layers.
        token_budget: Most tokens of a micro-batch, padding included; gradients accumulate.
        gradient_checkpointing: Recompute activations in the backward pass to save memory.
    """

    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    max_visual_tokens: int | None = Field(default=None, ge=1)
    learning_rate: float | None = Field(default=None, gt=0.0)
    workers: int = Field(default=1, ge=1)
    gpus: float | None = Field(default=None, ge=0.0)
    cpus: float = Field(default=1.0, gt=0.0)
    memory_gib: float | None = Field(default=None, gt=0.0)
    strategy: Literal["ddp", "fsdp"] = "ddp"
    token_budget: int = Field(default=8192, ge=1)
    gradient_checkpointing: bool = False

    @field_validator("gpus")
    @classmethod
    def _one_device(cls, value: float | None) -> float | None:
        return None if value is None else _at_most_one(value, "a worker")


class TrainConfig(_Frozen):
    """A fan-out of fine-tunes: every backbone times every bag.

    Attributes:
        data: Manifest with labels: Parquet, ``.jsonl``, or EvalMuse's ``.json``; local or s3://.
        images: Folder that relative image paths start from; the manifest's own by default.
        map: Role -> column name, see :mod:`~tokenfocus_ray.datasets.manifest`.
        encoding: Of a text manifest without a byte order mark, as Python names it; None: UTF-8.
        test: Manifest whose prompts must not be among the training prompts.
        backbones: Name, folder or hub id -> options; a list of names takes the defaults.
        bags: Who trains on what.
        loss: Loss terms.
        lora: The adapters; None trains the whole decoder.
        optimizer: How a member is trained.
        total_levels: See :class:`ScoringConfig`.
        element_levels: See :class:`ScoringConfig`.
        normalization: See :class:`ScoringConfig`.
        structure: See :class:`ScoringConfig`.
        parallel: Members trained at once; None: as many as the cluster holds.
        checkpoint_steps: Steps between checkpoints; one stands at the end of each epoch anyway.
        max_failures: Restarts of a run whose worker died; preempted nodes do not count.
    """

    data: UserPath = Field(min_length=1)
    images: UserPath | None = None
    map: dict[str, str] = Field(default_factory=dict)
    encoding: str | None = None
    test: UserPath | None = None
    backbones: dict[UserPath, BackboneRun] = Field(min_length=1)
    bags: BagsConfig = BagsConfig()
    loss: LossConfig = LossConfig()
    lora: LoraOptions | None = LoraOptions()
    optimizer: OptimizerConfig = OptimizerConfig()
    total_levels: dict[str, float] = Field(
        default=ScoringConfig.model_fields["total_levels"].default, min_length=2
    )
    element_levels: dict[str, float] = Field(
        default=ScoringConfig.model_fields["element_levels"].default, min_length=2
    )
    normalization: Literal["logits", "probs"] = "logits"
    structure: bool = True
    parallel: int | None = Field(default=None, ge=1)
    checkpoint_steps: int = Field(default=200, ge=1)
    max_failures: int = Field(default=3, ge=0)

    @field_validator("backbones", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return {name: {} for name in value} if isinstance(value, (list, tuple)) else value

    @model_validator(mode="after")
    def _rankable(self) -> Self:
        if self.loss.rank and self.optimizer.batch_size < 2:
            raise ValueError(
                f"loss.rank = {self.loss.rank:g} compares the images of a step, but "
                f"optimizer.batch_size is 1; raise it, or set loss.rank to 0"
            )
        return self

    @model_validator(mode="after")
    def _shardable(self) -> Self:
        for name, run in self.backbones.items():
            if run.strategy == "fsdp" and self.lora and self.lora.vision:
                raise ValueError(
                    f"backbone {name}: fsdp shards the decoder only, so lora.vision must be false; "
                    f"or use ddp"
                )
            if run.workers > self.optimizer.batch_size:
                raise ValueError(
                    f"backbone {name}: {run.workers} workers share a batch of "
                    f"{self.optimizer.batch_size} images; raise optimizer.batch_size"
                )
        return self

    def scoring(self, backbone: str) -> ScoringConfig:
        """How the members of a backbone score."""
        run = self.backbones[backbone]
        return ScoringConfig(
            backbone=backbone,
            revision=run.revision,
            dtype=run.dtype,
            total_levels=self.total_levels,
            element_levels=self.element_levels,
            normalization=self.normalization,
            structure=self.structure,
            max_visual_tokens=run.max_visual_tokens,
        )

    def identity(self) -> dict[str, Any]:
        """What changes the members, flat: ``optimizer.epochs -> 3``.

        Resources, the pace of checkpoints and where the data lies (its content is compared) may
        change between launches.
        """
        free = {
            "data",
            "images",
            "map",
            "encoding",
            "test",
            "parallel",
            "checkpoint_steps",
            "max_failures",
        }
        pace = {"workers", "gpus", "cpus", "memory_gib", "strategy", "token_budget"}
        pace |= {"gradient_checkpointing", "revision"}  # the commit is compared as the weights
        values = self.model_dump(
            mode="json", exclude={**dict.fromkeys(free, True), "backbones": {"__all__": pace}}
        )
        for name in ("total_levels", "element_levels"):  # questions name them in their order
            values[name] = [list(pair) for pair in values[name].items()]
        return dict(_flat(values))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
