"""Under bfloat16 the model is approximate; the distribution, the score and the loss are not.

Legend: A answers, K levels, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.learners import (
    examples,
    fill_adapter,
    labelled,
    make_learner,
    requests,
    train_config,
)
from tests.support.reference import distribution
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.config import LossConfig
from tokenfocus_ray.config.scoring import LevelNormalization
from tokenfocus_ray.scoring.distribution import level_distribution
from tokenfocus_ray.training.learner import Learner
from tokenfocus_ray.training.loss import Targets, token_focused_terms, whole_answer_term

IDS, VALUES = (7, 3, 40, 11, 2), (1.0, 2.0, 3.0, 4.0, 5.0)
TINIEST = "tiny-internvl"


def random_logits(n: int = 64) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(0).normal(5, 2, (n, 300)), dtype=torch.float32)


def low() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("normalization", ["logits", "probs"])
def test_distribution_is_exact_under_autocast(
    dtype: torch.dtype, normalization: LevelNormalization
) -> None:
    logits = random_logits().to(dtype)
    with low():
        got = level_distribution(logits, IDS, VALUES, normalization)
    wanted = distribution(logits.double().numpy(), IDS, VALUES, normalization)
    for name, value in wanted.items():
        found = getattr(got, name)
        assert found.dtype == torch.promote_types(dtype, torch.float32), name
        np.testing.assert_allclose(found.double().numpy(), value, atol=1e-5, rtol=0)


def gradient(config: LossConfig, means_A: torch.Tensor, autocast: bool) -> torch.Tensor:
    """Of every term on the answers, by the logits."""
    logits = random_logits().requires_grad_()
    n = len(logits)
    probs_AK = torch.full((n, 5), 0.2)
    targets = Targets(probs_AK, means_A, torch.ones(n))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        terms, _ = token_focused_terms(logits, targets, IDS, VALUES, config)
        loss = sum(terms.values(), torch.zeros(()))
        if config.whole_answer:
            loss = loss + whole_answer_term(logits, torch.full((n,), 7), torch.ones(n))
        assert loss.dtype == torch.float32
    loss.backward()
    assert logits.grad is not None
    return logits.grad


@pytest.mark.parametrize(
    "term",
    [
        {"regression": 1, "regression_kind": "huber"},
        {"regression": 1, "regression_kind": "mse"},
        {"regression": 1, "regression_kind": "l1"},
        {"first_token": 1},
        {"kl": 1},
        {"whole_answer": 1},
    ],
    ids=lambda term: "-".join(map(str, term.values())) + next(iter(term)),
)
def test_gradient_for_near_answers_is_exact_under_autocast(term: dict[str, Any]) -> None:
    """Labels .01 from the answers, above and below: bfloat16 would turn half of them round."""
    config = LossConfig(**{"first_token": 0, "regression": 0, **term})
    signs = torch.where(torch.arange(64) % 2 == 0, 0.01, -0.01)
    means_A = level_distribution(random_logits(), IDS, VALUES).expected_B + signs
    exact, got = (gradient(config, means_A, autocast).flatten() for autocast in (False, True))
    assert exact.norm() > 0
    assert torch.cosine_similarity(exact, got, dim=0) > 0.999999


def in_bfloat16(weights: torch.dtype = torch.float32) -> Learner:
    """A learner that computes in bfloat16, as on a GPU by default."""
    learner = make_learner(train_config(TINIEST))
    if weights == torch.bfloat16:
        backbone = loading.load(registry.resolve(TINIEST), device="cpu", dtype=weights)
        config = learner.config
        learner = Learner(backbone, config, config.scoring(TINIEST), 10, 0, weights)
    learner._low = torch.bfloat16
    fill_adapter(learner.wrapped)
    return learner


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=str)
def test_logits_of_levels_are_not_rounded(weights: torch.dtype) -> None:
    """Neither by the autocast nor by the weights' type."""
    backbone = in_bfloat16(weights).backbone
    n, width = 40, backbone.model.lm_head.weight.shape[1]
    hidden = 3 * torch.tensor(np.random.default_rng(0).normal(0, 1, (n, width))).bfloat16()
    levels = (7, 3, 40, 7)
    with torch.no_grad():
        with low():
            got = backbone.logits(hidden, levels)
        exact = hidden.double() @ backbone.model.lm_head.weight.double().T
        rough = backbone.model.lm_head.bfloat16()(hidden).double()
    assert got.dtype == torch.float32
    assert (got.double() - exact)[:, levels].abs().max() < 1e-4
    assert (rough - exact)[:, levels].abs().max() > 1e-2, "this test would see the rounding"
    assert (got.double() - exact).abs().max() < 0.1


def test_gradient_through_levels_named_twice() -> None:
    """A word may be a level of both questions."""
    backbone = in_bfloat16(torch.bfloat16).backbone
    width = backbone.model.lm_head.weight.shape[1]
    hidden = torch.ones(1, width, requires_grad=True)
    backbone.logits(hidden, (7, 3, 7))[:, 7].sum().backward()
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad[0], backbone.model.lm_head.weight[7].float())


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=str)
def test_scores_of_a_member_are_not_quantised(weights: torch.dtype) -> None:
    """What ``oof.parquet`` holds: elements too, of which ``No`` and ``Yes`` are two logits."""
    learner = in_bfloat16(weights)
    rows = learner.predict(requests(learner, [item.sample for item in labelled()]))
    scores = [row.score for row in rows] + [e for row in rows for e in row.element_scores]
    assert len(scores) == 14
    assert not any((score * 256).is_integer() for score in scores)
    elements = [e for row in rows for e in row.element_scores]
    odds = np.log(np.array(elements) / (1 - np.array(elements)))
    # differences of logits that were rounded, of which the larger is beyond 4
    assert not any(float(odd * 64).is_integer() for odd in odds.round(6))


def test_regression_of_a_bfloat16_member_is_that_of_its_logits() -> None:
    """With a label .01 from the member's own answer: in float32, whatever the autocast."""
    learner = in_bfloat16()
    learner.objective.config = LossConfig(first_token=0)
    (item, *_) = labelled()
    (row,) = learner.predict(requests(learner, [item.sample]))
    (given,) = examples(learner, [item])
    total = replace(given.labels.total, mean=row.score + 0.01)
    seen: list[torch.Tensor] = []
    learner._parallel.register_forward_hook(lambda *each: seen.append(each[-1].detach().double()))
    shown = learner.gradients([replace(given, labels=replace(given.labels, total=total))])
    ids = learner._scorer.packer.total_ids
    (expected,) = distribution(seen[0].numpy(), ids, VALUES, "logits")["expected_B"]
    error = expected - total.mean
    assert abs(error) == pytest.approx(0.01, abs=1e-3)
    assert shown["total_regression"] == pytest.approx(error**2 / 2, rel=1e-3)
