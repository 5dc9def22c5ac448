"""The rank term of a step is that of all its pairs, wherever their images are trained on."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.learners import (
    examples,
    fill_adapter,
    labelled,
    make_learner,
    train_config,
    trained_parameters,
)
from tests.support.samples import picture
from tokenfocus_ray.training.learner import Learner
from tokenfocus_ray.training.objective import Example

TINIEST = "tiny-internvl"
RANK_ONLY = {"first_token": 0, "regression": 0, "rank": 0.7}
ALL_TERMS = {"first_token": 0.8, "regression": 1.3, "kl": 0.2, "rank": 0.7}
RATINGS = (1, 2, 4, 5)


def learner(loss: Mapping[str, float], token_budget: int = 1 << 40, dropout: float = 0) -> Learner:
    run = {"token_budget": token_budget}
    config = train_config(TINIEST, loss=loss, run=run, lora={"dropout": dropout})
    made = make_learner(config)
    fill_adapter(made.wrapped)
    return made


def of_four_prompts(made: Learner) -> list[Example]:
    """Four images of each of four prompts, all rated differently: 24 pairs."""
    plain = labelled()[0].sample
    items = [
        replace(
            labelled()[0],
            sample=replace(plain, image_HWC=picture(40, 40, seed), prompt=f"{group} cats"),
            total=[rating],
            group=group,
        )
        for seed, (rating, group) in enumerate(itertools.product(RATINGS, range(4)))
    ]
    return examples(made, items)


Gradients = dict[str, torch.Tensor]


def gradients(made: Learner) -> Gradients:
    found = trained_parameters(made.wrapped).items()
    return {n: p.grad.clone() for n, p in found if p.grad is not None}


def spread(
    make: Callable[[], Learner], workers: int, batch: Sequence[Example]
) -> tuple[list[dict[str, float]], Gradients]:
    """A step on threads in place of workers: what each shows, and the gradient as DDP has it."""
    made = [make() for _ in range(workers)]
    barrier, shelf = threading.Barrier(workers, timeout=60), [None] * workers

    def exchange(worker: int, value: Any) -> list[Any]:
        shelf[worker] = value
        barrier.wait()
        found = list(shelf)
        barrier.wait()
        return found

    shown: dict[int, dict[str, float]] = {}

    def work(worker: int) -> None:
        def add(values: dict[str, float]) -> dict[str, float]:
            every = exchange(worker, dict(values))
            return {name: sum(each[name] for each in every) for name in values}

        mine: Any = made[worker]
        mine.workers = SimpleNamespace(
            rank=worker, count=workers, gather=lambda v: exchange(worker, list(v)), sum=add
        )
        shown[worker] = mine.gradients(batch[worker::workers])

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    each = [gradients(one) for one in made]
    return [shown[w] for w in range(workers)], {
        name: torch.stack([g[name] for g in each]).mean(0) for name in each[0]
    }


@pytest.fixture(scope="module")
def batch() -> list[Example]:
    return of_four_prompts(learner(RANK_ONLY))


def wanted(loss: Mapping[str, float], batch: Sequence[Example]) -> tuple[float, Gradients]:
    """Rank term and gradient of one forward over the whole step, written out once more."""
    made = learner(loss)
    parts = [part for each in batch for part in made.objective.parts(each)]
    logits_AV = made._logits(made._packed, parts)
    total, shown = made.objective.loss(logits_AV, parts, made.objective.weights(parts))
    p_AK = torch.softmax(logits_AV[:, list(made._scorer.packer.total_ids)], -1)
    e_A = (p_AK * torch.arange(1.0, 6.0)).sum(-1)
    terms = [
        torch.log1p(torch.exp(e_A[b] - e_A[a]))
        for a, b in itertools.permutations(range(len(batch)), 2)
        if batch[a].group == batch[b].group
        and batch[a].labels.total.mean > batch[b].labels.total.mean
    ]
    assert len(terms) == 24
    rank = loss["rank"] * torch.stack(terms).mean()
    (total + rank).backward()
    return float(rank.detach()) + sum(shown.values()), gradients(made)


@pytest.fixture(scope="module")
def of_one_forward(batch: list[Example]) -> tuple[float, Gradients]:
    return wanted(RANK_ONLY, batch)


@pytest.mark.parametrize(
    ("workers", "token_budget"), [(1, 1), (1, 700), (2, 1), (2, 1 << 40), (4, 1)]
)
def test_pairs_do_not_depend_on_workers_and_token_budget(
    batch: list[Example], of_one_forward: tuple[float, Gradients], workers: int, token_budget: int
) -> None:
    """With one image a micro-batch, and with no two of a prompt on one worker, too."""
    loss, exact = of_one_forward
    shown, found = spread(lambda: learner(RANK_ONLY, token_budget), workers, batch)
    for each in shown:
        assert each == pytest.approx({"loss": loss, "rank": loss}, rel=1e-6)
    assert found.keys() == exact.keys()
    scale = max(float(g.abs().max()) for g in exact.values())
    for name, gradient in exact.items():
        assert float((found[name] - gradient).abs().max()) < 1e-5 * scale, name


def test_rank_beside_the_other_terms(batch: list[Example]) -> None:
    loss, exact = wanted(ALL_TERMS, batch)
    shown, found = spread(lambda: learner(ALL_TERMS, 1), 2, batch)
    assert shown[0] == shown[1]
    assert shown[0]["loss"] == pytest.approx(loss, rel=1e-6)
    scale = max(float(g.abs().max()) for g in exact.values())
    for name, gradient in exact.items():
        assert float((found[name] - gradient).abs().max()) < 1e-5 * scale, name


def test_scores_are_gathered_under_the_same_dropout(batch: list[Example]) -> None:
    """What is gathered is what the pass with gradients then finds, micro-batch by micro-batch."""
    made = learner(RANK_ONLY, token_budget=1, dropout=0.5)
    gathered: list[float] = []
    passed: list[float] = []
    expected, loss = made.objective.expected, made.objective.loss

    def note_expected(logits_AV: Any, parts: Any) -> list[float]:
        found = expected(logits_AV, parts)
        gathered.extend(found)
        return found

    def note_loss(logits_AV: Any, parts: Any, *more: Any) -> Any:
        passed.extend(expected(logits_AV, parts))
        return loss(logits_AV, parts, *more)

    made.objective.expected, made.objective.loss = note_expected, note_loss  # type: ignore
    made.gradients(batch[:6])
    assert len(gathered) == 6
    assert gathered == passed
    again = learner(RANK_ONLY, dropout=0.0)
    rows = again.predict([each.request for each in batch[:6]])
    assert np.abs(np.array(gathered) - [row.score for row in rows]).max() > 0.01, "with dropout"


def test_a_step_without_a_pair_is_one_pass(batch: list[Example]) -> None:
    made = learner(RANK_ONLY)
    calls: list[None] = []
    made.backbone.language_model.register_forward_hook(lambda *_: calls.append(None))
    shown = made.gradients(batch[:4])
    assert (shown["loss"], len(calls)) == (0, 1)
    made.gradients(batch[:8])
    assert len(calls) == 3, "scores first, then gradients"
