"""One member in training: the packed model, one optimiser step, predictions, its state.

Knows torch.distributed, so that DDP and FSDP give the same gradients as one worker, and nothing of
Ray: a plain loop trains with it as well.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.backbones.packing import collate, micro_batches
from tokenfocus_ray.config import ScoringConfig, TrainConfig
from tokenfocus_ray.errors import DivergedError
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.request import Request
from tokenfocus_ray.scoring.scorer import AlignmentScorer
from tokenfocus_ray.training import state as saved
from tokenfocus_ray.training.adapter import attach, trainable
from tokenfocus_ray.training.divergence import diverged
from tokenfocus_ray.training.loss import rank_slopes, ranked_pairs
from tokenfocus_ray.training.objective import PART_TOKENS, Example, Objective, TrainingPart
from tokenfocus_ray.training.schedule import learning_rate
from tokenfocus_ray.training.sharding import PackedModel, shard_decoder
from tokenfocus_ray.training.workers import Workers

#: Images that all ranks score in lockstep where the model is sharded over them.
_SHARDED_CHUNK = 4


class Learner:
    """Trains one member of a backbone.

    Attributes:
        backbone: The backbone with what is trained.
        wrapped: The ``PeftModel``, or the model where the decoder is trained.
        objective: The loss.
        optimizer: AdamW over what is trained.
        workers: This process among those that train the member.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: TrainConfig,
        scoring: ScoringConfig,
        n_steps: int,
        seed: int,
        low_precision: torch.dtype | None = None,
    ) -> None:
        """Attaches the adapter; in a process group, the model is made parallel.

        Args:
            backbone: A loaded backbone without adapters, on its device.
            config: How to train.
            scoring: How members of this backbone score.
            n_steps: Steps of the whole run, for the learning rate.
            seed: Of the adapter and of dropout.
            low_precision: What forwards compute in where the weights are in float32.

        Raises:
            ConfigError: a target of the adapter names no linear layer.
            LevelError: a level word is not one token of the backbone's tokenizer.
        """
        self.backbone, self.config, self.seed = backbone, config, seed
        self.run = config.backbones[scoring.backbone]
        self._n_steps, self._low = n_steps, low_precision
        self.workers = Workers.here(backbone)
        self._sharded = self.workers.count > 1 and self.run.strategy == "fsdp"
        self._scorer = AlignmentScorer(backbone, scoring)
        self.wrapped = attach(backbone, config.lora, seed)
        if self.run.gradient_checkpointing:
            backbone.language_model.gradient_checkpointing_enable({"use_reentrant": False})
        self._packed = packed = PackedModel(backbone, self._scorer.packer.level_ids)
        self._parallel: nn.Module = packed
        if self._sharded:
            shard_decoder(backbone, low_precision or backbone.dtype)
        elif self.workers.count > 1:
            self._parallel = nn.parallel.DistributedDataParallel(packed)
        self.objective = Objective(
            self._scorer.packer,
            self._scorer.total_levels,
            self._scorer.element_levels,
            config.loss,
            scoring.normalization,
            backbone.encode_markup(backbone.markup.after_answer),
        )
        self._peak = self.run.learning_rate or config.optimizer.learning_rate
        self._suspects: list[str] = []  # samples of this step whose loss is not finite
        self.optimizer = torch.optim.AdamW(
            trainable(packed), lr=self._peak, weight_decay=config.optimizer.weight_decay
        )
        if self._sharded:
            # what layers are gathered into is made now: made in a prediction, it would be of
            # inference mode, and the next step could not write to it
            with torch.no_grad():
                self._empty_pass()

    def step(self, index: int, examples: Sequence[Example]) -> dict[str, float]:
        """One optimiser step on this worker's share of a batch.

        Sums are divided by the weights of the whole step, so the gradient is that of one forward
        over all of it, whatever the micro-batches and workers.

        Args:
            index: Number of the step, from 0: sets learning rate and dropout's seed.
            examples: The worker's share; may be empty.

        Returns:
            The step's loss and its terms over all workers, learning rate, norm of the gradient.

        Raises:
            RowError: an example cannot be asked.
            DivergedError: the loss or the gradient is not finite.
        """
        options = self.config.optimizer
        rate = learning_rate(index, self._n_steps, self._peak, options.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # within the 64 bits that torch takes, whatever the user's seed
        torch.manual_seed(((self.seed * 1_000_003 + index) * 1_009 + self.workers.rank) % 2**63)
        shown = self.gradients(examples)
        parameters = trainable(self._parallel)
        clipped: Any = nn.utils.clip_grad_norm_(parameters, options.max_grad_norm)
        # of a sharded model, the norm is spread over the workers too
        norm = float(clipped.full_tensor() if hasattr(clipped, "full_tensor") else clipped)
        if not (math.isfinite(norm) and math.isfinite(shown["loss"])):
            raise self._lost(index, shown["loss"], norm, examples)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {**shown, "learning_rate": rate, "grad_norm": norm}

    def _lost(
        self, index: int, loss: float, norm: float, examples: Sequence[Example]
    ) -> DivergedError:
        """All workers meet it in the same step, so they can tell each other their rows."""
        mine = self._suspects or [example.request.sample_id for example in examples]
        shares = self.workers.gather([(bool(self._suspects), name) for name in mine])
        every = [row for share in shares for row in share]
        rows = [name for found, name in every if found] or [name for _, name in every]
        what = f"step {index}: the loss is {loss:g} and its gradient's norm {norm:g}"
        return self.diverged(what, list(dict.fromkeys(rows)))

    def diverged(self, what: str, rows: Sequence[str]) -> DivergedError:
        """The error for what was seen with these samples; see :func:`diverged`."""
        exact = self._low is None and self.backbone.dtype.itemsize >= 4
        return diverged(what, rows, self.config, self._scorer.config.backbone, exact)

    def gradients(self, examples: Sequence[Example]) -> dict[str, float]:
        """Adds the step's gradient to the parameters; see :meth:`step`."""
        self._parallel.train()
        self._suspects = []
        parts = [part for example in examples for part in self.objective.parts(example)]
        plan = micro_batches([len(p) for p in parts], self.run.token_budget)
        batches = [[parts[i] for i in indices] for indices in plan]
        weights = self.workers.sum({"total": 0.0, "elements": 0.0, **self.objective.weights(parts)})
        # every worker passes through its collectives equally often: DDP's once a step, a sharded
        # model's in each forward
        n_passes = self.workers.most(len(batches)) if self._sharded else max(1, len(batches))
        shown = dict.fromkeys(self.objective.term_names(), 0.0)
        slopes: list[list[float]] = [[] for _ in batches]
        if self.config.loss.rank:
            shown["rank"], slopes = self._rank(batches, n_passes)
        for i in range(n_passes):
            with self._no_sync(i < n_passes - 1):
                if i < len(batches):
                    logits_AV = self._logits(self._parallel, batches[i])
                    loss, terms = self.objective.loss(logits_AV, batches[i], weights, slopes[i])
                else:
                    loss, terms = self._empty_pass(), {}
                # DDP and FSDP average over the workers, the sums want adding up
                (loss * self.workers.count).backward()
            if not all(map(math.isfinite, terms.values())):
                self._suspects += [part.sample_id for part in batches[i]]
            for name, value in terms.items():
                shown[name] += value
        shown = self.workers.sum(shown)
        return {"loss": sum(shown.values()), **shown}

    def _logits(self, model: nn.Module, batch: Sequence[TrainingPart]) -> Tensor:
        packed = collate([item.part.sequence for item in batch], self.backbone.device)
        with self._autocast():  # of the model, never of the loss
            logits_AV: Tensor = model([item.image for item in batch], packed)
        return logits_AV

    def _rank(
        self, batches: Sequence[Sequence[TrainingPart]], n_passes: int
    ) -> tuple[float, list[list[float]]]:
        """The step's rank term, and its derivatives by the totals of each micro-batch here.

        A pair's images may lie in different micro-batches and on different workers, so the scores
        of the whole step are gathered first, by a pass without gradients. Each total then needs
        the derivative by its own score alone.

        Returns:
            The term, 0 on all workers but the first; and a derivative for each total.
        """
        labels = [
            (p.group, p.total.mean) for batch in batches for p in batch if p.total is not None
        ]
        shares = self.workers.gather(labels)
        every = [label for share in shares for label in share]
        groups, means = [group for group, _ in every], [mean for _, mean in every]
        if not ranked_pairs(groups, means):
            return 0.0, [[] for _ in batches]
        scores = self.workers.gather(self._expected(batches, n_passes))
        value, slopes = rank_slopes([s for share in scores for s in share], groups, means)
        mine = iter(slopes[sum(map(len, shares[: self.workers.rank])) :])
        found = [[next(mine) for p in batch if p.total is not None] for batch in batches]
        return (0.0 if self.workers.rank else self.config.loss.rank * value), found

    def _expected(self, batches: Sequence[Sequence[TrainingPart]], n_passes: int) -> list[float]:
        """Expected totals as the passes with gradients are about to find them: dropout too."""
        device = self.backbone.device
        found: list[float] = []
        with (
            torch.no_grad(),
            torch.random.fork_rng([device] if device.type == "cuda" else [], device_type="cuda"),
        ):
            for i in range(n_passes):
                # not through DDP, which would wait for the other workers' passes
                if i < len(batches):
                    logits_AV = self._logits(self._packed, batches[i])
                    found += self.objective.expected(logits_AV, batches[i])
                elif self._sharded:
                    self._empty_pass()
        return found

    def _empty_pass(self) -> Tensor:
        """A pass that adds nothing, for a worker without rows: the others wait for it."""
        # a picture of its own: right after a restart there is no earlier row to take
        image = self.backbone.image_spec.prepare(np.zeros((32, 32, 3), np.uint8))
        (part,) = self._scorer.packer.pack(0, image, "nothing", (), None, PART_TOKENS)
        packed = collate([part.sequence], self.backbone.device)
        with self._autocast():
            logits_AV: Tensor = self._parallel([image], packed)
        return logits_AV.sum() * 0.0

    def _no_sync(self, accumulate: bool) -> AbstractContextManager[Any]:
        if accumulate and isinstance(self._parallel, nn.parallel.DistributedDataParallel):
            return self._parallel.no_sync()
        return contextlib.nullcontext()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._low is None:
            return contextlib.nullcontext()
        return torch.autocast(self.backbone.device.type, self._low)

    def predict(self, requests: Sequence[Request]) -> list[ScoreRow]:
        """Scores requests with the member as it stands, as the batch job would.

        Where the model is sharded, every worker must call it, with or without requests.
        """
        self._parallel.eval()
        if not self._sharded:
            with self._autocast():
                return self._scorer.score_requests(requests)
        # one forward a chunk, and as many chunks on every worker
        rows: list[ScoreRow] = []
        self._scorer.token_budget = 1 << 40
        n_chunks = self.workers.most(-(-len(requests) // _SHARDED_CHUNK))
        for i in range(n_chunks):
            chunk = requests[i * _SHARDED_CHUNK : (i + 1) * _SHARDED_CHUNK]
            with self._autocast():
                scored = self._scorer.score_requests(chunk)
                if all(row.status != "ok" for row in scored):  # nothing to ask: no forward
                    with torch.no_grad():
                        self._empty_pass()
            rows += scored
        return rows

    def trained(self) -> dict[str, Tensor]:
        """Trained values by name, as :mod:`~tokenfocus_ray.training.state` has them."""
        return saved.trained_values(self.wrapped)

    def state(self) -> dict[str, Any]:
        """Trained values and the optimiser's state, as :meth:`trained`; all workers call it."""
        optimizer = saved.optimizer_state(self.wrapped, self.optimizer)
        return {"model": self.trained(), "optimizer": optimizer}

    def load_trained(self, state: Mapping[str, Any]) -> None:
        """Loads the trained values of a :meth:`state`.

        Raises:
            TrainingError: it is of other parameters.
        """
        saved.load_trained_values(self.wrapped, state["model"])

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self.load_trained(state)
        saved.load_optimizer_state(self.wrapped, self.optimizer, state["optimizer"])
