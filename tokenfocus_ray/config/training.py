"""What a fan-out of fine-tunes depends on, and what it may use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tokenfocus_ray.config.base import Frozen, UserPath
from tokenfocus_ray.config.scoring import LevelNormalization, ScoringConfig, at_most_one


class BagsConfig(Frozen):
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


class LossConfig(Frozen):
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


class LoraOptions(Frozen):
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


class OptimizerConfig(Frozen):
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


class BackboneRun(Frozen):
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
        return None if value is None else at_most_one(value, "a worker")


class TrainConfig(Frozen):
    """A fan-out of fine-tunes: every backbone times every bag.

    Attributes:
        data: Manifest with labels, of any form that is scored: see
            :mod:`~tokenfocus_ray.datasets.sources`.
        images: Folder that relative image paths start from; the manifest's own by default.
        images_only: Whether to leave out images outside that folder, row by row; for manifests of
            strangers, which may name any file that the workers can read.
        map: Role -> column name, see :mod:`~tokenfocus_ray.datasets.manifest`.
        encoding: Of text without a byte order mark, as Python names it; None: UTF-8.
        quotes: Whether quotes in ``.csv`` and ``.tsv`` stand around values; else they are text.
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
    images_only: bool = False
    map: dict[str, str] = Field(default_factory=dict)
    encoding: str | None = None
    quotes: bool = True
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
    normalization: LevelNormalization = "logits"
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
            "quotes",
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
        if not self.images_only:
            del values["images_only"]  # which runs of earlier versions did not keep
        return dict(_flat(values))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
