"""The gradient of the packed loss equals that of separate forwards, one for each question.

The reference loads the weights a second time with eager attention, asks each question in a sequence
of its own with the family's own positions and a plain causal mask, and writes the loss out once
more on hand-made soft labels.

Legend: Q questions of all samples, K levels, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.folders import LANGUAGE, TINY, build
from tests.support.learners import (
    Labelled,
    examples,
    fill_adapter,
    labelled,
    make_learner,
    train_config,
    trained_parameters,
)
from tests.support.reference import (
    ELEMENT_WORDS,
    TOTAL_WORDS,
    PlainModel,
    text_after_image,
)
from tokenfocus_ray.training.learner import Learner

TOLERANCE = 1e-5
UNLIMITED = 1 << 40
UNSURE, ELEMENTS_WEIGHT = 0.5, 0.7
#: First-token and regression terms with weights of their own; see ``LossConfig``.
LOSSES: dict[str, dict[str, Any]] = {
    "hybrid": {"first_token": 0.8, "regression": 1.3},
    "kl": {"first_token": 0, "regression": 0, "kl": 1.5},
    "whole_answer": {"first_token": 0, "regression": 0, "whole_answer": 1.0},
    "regression": {"first_token": 0, "regression": 1.0, "regression_kind": "mse"},
    "everything": {
        "first_token": 0.8,
        "regression": 1.3,
        "regression_kind": "l1",
        "kl": 0.6,
        "whole_answer": 0.4,
    },
}
NO, YES = [1.0, 0.0], [0.0, 1.0]
#: Sample by sample, the total first: soft label, mean, weight, and the level of a whole answer.
#: Doubts count half; where the doubts fit no annotator, their share does. A mean between two
#: levels is answered with the higher one.
SOFT_LABELS: list[tuple[list[float], float, float, int]] = [
    ([0, 0, 2 / 3, 1 / 3, 0], 10 / 3, 1.0, 2),
    ([0, 0, 0, 0, 0], 0.0, 0.0, 0),
    ([1 / 3, 2 / 3], 2 / 3, 1.0, 1),
    ([0, 0.5, 0, 0, 0.5], 3.5, 1.0, 3),
    ([0.25, 0.75], 0.75, 2 / 3, 1),
    ([0, 0], 0.0, 0.0, 0),
    (NO, 0.0, 2 / 3, 0),
    ([1, 0, 0, 0, 0], 1.0, 1.0, 0),
    *((YES if rating else NO, rating, 0.75, int(rating)) for rating in (1.0, 0, 0, 1, 0, 1)),
]


@dataclass(frozen=True)
class Answer:
    """The reference's answer to one question.

    Attributes:
        first_V: Logits that predict the level.
        end_V: Logits that predict the end of the turn, after the level.
        ids: [K] tokens of the levels.
        values: [K] what they are worth.
        label: Soft label, mean, weight, level of a whole answer.
        is_total: Whether the total was asked.
    """

    first_V: Tensor
    end_V: Tensor
    ids: list[int]
    values: Tensor
    label: tuple[list[float], float, float, int]
    is_total: bool


class Separate:
    """Plain forwards, and their gradient for any loss."""

    def __init__(self, name: str, lora: dict[str, Any] | None, items: Sequence[Labelled]) -> None:
        plain = PlainModel(build(name, None))  # type: ignore[arg-type] # it ships
        model = plain.model
        model.requires_grad_(False)
        if lora is None:
            decoder = model.model.language_model
            decoder.layers.requires_grad_(True)
            decoder.norm.requires_grad_(True)
        else:
            from peft import LoraConfig, get_peft_model

            targets = LANGUAGE
            if lora.get("vision"):
                parts = ("visual", "vision_tower", "multi_modal_projector")
                linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
                seen = [n for n in linear if any(part in n for part in parts)]
                targets = "|".join([LANGUAGE, *(n.replace(".", r"\.") for n in seen)])
            plain.model = get_peft_model(
                model, LoraConfig(r=4, lora_alpha=8, target_modules=targets)
            ).eval()
            fill_adapter(plain.model)
        self.parameters = trained_parameters(plain.model)
        self.end = plain.tokenizer.convert_tokens_to_ids("<|im_end|>")
        labels = iter(SOFT_LABELS)
        self.answers = [
            self._answer(plain, item, text, q == 0, next(labels))
            for item in items
            for q, text in enumerate(text_after_image(item.sample))
        ]
        assert next(labels, None) is None

    @staticmethod
    def _answer(
        plain: PlainModel,
        item: Labelled,
        text: str,
        is_total: bool,
        label: tuple[list[float], float, float, int],
    ) -> Answer:
        ids = plain.level_ids(TOTAL_WORDS if is_total else ELEMENT_WORDS)
        values = [1.0, 2.0, 3.0, 4.0, 5.0] if is_total else [0.0, 1.0]
        inputs = plain.inputs(item.sample, text)
        for name, value in (("input_ids", ids[label[3]]), ("mm_token_type_ids", 0)):
            if name in inputs:
                more = inputs[name].new_full((1, 1), value)
                inputs[name] = torch.cat([inputs[name], more], dim=1)
        logits_TV = plain.model(**inputs).logits[0].double()
        values_K = torch.tensor(values, dtype=torch.float64)
        return Answer(logits_TV[-2], logits_TV[-1], ids, values_K, label, is_total)

    def loss(self, weights: dict[str, Any], weighted: bool = True) -> Tensor:
        """Mean over the questions of each task, by their weights; the tasks' means added up."""
        sums = {True: torch.zeros((), dtype=torch.float64)}
        sums[False] = sums[True].clone()
        total_weight = {True: 0.0, False: 0.0}
        for answer in self.answers:
            q_K, mean, weight, level = answer.label
            weight = weight if weighted else float(weight > 0)
            total_weight[answer.is_total] += weight
            if weight == 0:
                continue
            term = self._term(answer, torch.tensor(q_K).double(), mean, level, weights)
            sums[answer.is_total] = sums[answer.is_total] + weight * term
        total, elements = (sums[task] / total_weight[task] for task in (True, False))
        return total + ELEMENTS_WEIGHT * elements

    def _term(
        self, answer: Answer, q_K: Tensor, mean: float, level: int, weights: dict[str, Any]
    ) -> Tensor:
        p_V = torch.softmax(answer.first_V, -1)
        p_K = p_V[answer.ids]
        P_K = p_K / p_K.sum()
        term = torch.zeros((), dtype=torch.float64)
        if weights["first_token"]:
            term = term - weights["first_token"] * (q_K * p_K.log()).sum()
        if weights["regression"]:
            error = (P_K * answer.values).sum() - mean  # both scales have steps of 1
            distance = {
                "huber": error**2 / 2 if error.abs() <= 1 else error.abs() - 0.5,
                "mse": error**2,
                "l1": error.abs(),
            }[weights.get("regression_kind", "huber")]
            term = term + weights["regression"] * distance
        if weights.get("kl"):
            on = q_K > 0
            kl = (q_K[on] * (q_K[on] / P_K[on]).log()).sum()
            term = term + weights["kl"] * kl
        if weights.get("whole_answer"):
            end = -torch.log_softmax(answer.end_V, -1)[self.end]
            term = term + weights["whole_answer"] * (-p_V[answer.ids[level]].log() + end) / 2
        return term

    def gradients(self, weights: dict[str, Any], weighted: bool = True) -> dict[str, Tensor]:
        """By name of the parameter."""
        found = torch.autograd.grad(
            self.loss(weights, weighted), list(self.parameters.values()), retain_graph=True
        )
        return dict(zip(self.parameters, found, strict=True))


def make(name: str, loss: dict[str, Any], lora: dict[str, Any] | None = None) -> Learner:
    values = {"unsure": UNSURE, "elements": ELEMENTS_WEIGHT, **loss}
    config = train_config(name, loss=values, lora=lora, run={"token_budget": UNLIMITED})
    learner = make_learner(config)
    fill_adapter(learner.wrapped)
    return learner


def packed(
    learner: Learner, items: Sequence[Labelled], budget: int = UNLIMITED
) -> dict[str, Tensor]:
    """Gradients of one packed step, by name."""
    learner.run = learner.run.model_copy(update={"token_budget": budget})
    learner.wrapped.zero_grad()
    learner.gradients(examples(learner, items))
    parameters = trained_parameters(learner.wrapped)
    return {n: p.grad.clone() for n, p in parameters.items() if p.grad is not None}


def largest_gap(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    assert got.keys() == wanted.keys()
    gaps = [(got[n] - wanted[n]).abs().max() for n in wanted]
    assert all(g.isfinite() for g in gaps)
    return float(max(gaps))


@pytest.fixture(scope="module", params=TINY)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def separate(name: str) -> Separate:
    return Separate(name, {}, labelled())


@pytest.mark.parametrize("loss", LOSSES)
def test_packed_gradient_equals_separate_forwards(
    name: str, separate: Separate, loss: str
) -> None:
    learner = make(name, LOSSES[loss], {})
    got, wanted = packed(learner, labelled()), separate.gradients(LOSSES[loss])
    assert largest_gap(got, wanted) < TOLERANCE
    # a gradient of nothing would pass as well
    norm = torch.stack([g.norm() for g in wanted.values()]).norm()
    assert norm > 1000 * TOLERANCE


@pytest.mark.parametrize("loss", LOSSES)
def test_shown_loss_equals_separate_forwards(name: str, separate: Separate, loss: str) -> None:
    learner = make(name, LOSSES[loss], {})
    shown = learner.gradients(examples(learner, labelled()))
    assert shown["loss"] == pytest.approx(float(separate.loss(LOSSES[loss])), abs=TOLERANCE)


def test_comparison_would_see_a_mistake(name: str, separate: Separate) -> None:
    """Equal weights, or another loss, move the gradient far beyond the tolerance."""
    for one, other in itertools.combinations(LOSSES, 2):
        gap = largest_gap(separate.gradients(LOSSES[one]), separate.gradients(LOSSES[other]))
        assert gap > 100 * TOLERANCE, (one, other)
    for loss in LOSSES.values():
        unweighted = separate.gradients(loss, weighted=False)
        assert largest_gap(separate.gradients(loss), unweighted) > 100 * TOLERANCE


@pytest.mark.parametrize("loss", LOSSES)
def test_micro_batches_and_order_do_not_change_the_gradient(
    name: str, separate: Separate, loss: str
) -> None:
    learner = make(name, LOSSES[loss], {})
    wanted = separate.gradients(LOSSES[loss])
    items = labelled()
    for budget, order in ((1, (0, 1, 2, 3)), (600, (3, 1, 0, 2)), (UNLIMITED, (2, 3, 1, 0))):
        got = packed(learner, [items[i] for i in order], budget)
        assert largest_gap(got, wanted) < TOLERANCE, (budget, order)


@pytest.mark.parametrize("trained", ["decoder", "vision too"])
def test_other_parameters_get_the_gradient_of_separate_forwards(name: str, trained: str) -> None:
    """All of the decoder, and an adapter on the vision tower."""
    lora = None if trained == "decoder" else {"vision": True}
    items = labelled()
    wanted = Separate(name, lora, items).gradients(LOSSES["hybrid"])
    got = packed(make(name, LOSSES["hybrid"], lora), items, budget=600)
    assert largest_gap(got, wanted) < TOLERANCE
