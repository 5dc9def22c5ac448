"""The gradient of the packed loss equals that of separate forwards, one for each question.

The reference loads the weights a second time with eager attention, asks each question in a sequence
of its own with the family's own positions and a plain causal mask, and writes the loss out once
more on hand-made soft labels.

Legend: Q questions of all samples, K levels, V vocabulary.
"""

from __future__ import annotations

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
from tests.support.measure import gap
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
#: See ``LossConfig``; terms that stand together have weights of their own.
LOSSES: dict[str, dict[str, Any]] = {
    "hybrid": {"first_token": 0.8, "regression": 1.3},
    "kl": {"first_token": 0, "regression": 0, "kl": 1.5},
    "whole_answer": {"first_token": 0, "regression": 0, "whole_answer": 1.0},
    "regression": {"first_token": 0, "regression": 1.0, "regression_kind": "mse"},
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
        asked = [
            (item, text, q == 0)
            for item in items
            for q, text in enumerate(text_after_image(item.sample))
        ]
        self.answers = [
            self._answer(plain, *each, label)
            for each, label in zip(asked, SOFT_LABELS, strict=False)
        ]
        self._known: dict[str, dict[str, Tensor]] = {}

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

    def gradients(self, loss: str, weighted: bool = True) -> dict[str, Tensor]:
        """By name of the parameter."""
        key = f"{loss}, {weighted}"
        if key not in self._known:
            value = self.loss(LOSSES[loss], weighted)
            found = torch.autograd.grad(value, list(self.parameters.values()), retain_graph=True)
            self._known[key] = dict(zip(self.parameters, found, strict=True))
        return self._known[key]


def make(name: str, lora: dict[str, Any] | None) -> Learner:
    learner = make_learner(train_config(name, lora=lora))
    fill_adapter(learner.wrapped)
    return learner


def use(learner: Learner, loss: str, token_budget: int = UNLIMITED) -> None:
    (name,) = learner.config.backbones
    values = {"unsure": UNSURE, "elements": ELEMENTS_WEIGHT, **LOSSES[loss]}
    learner.config = train_config(name, loss=values)
    learner.objective.config = learner.config.loss
    learner.run = learner.run.model_copy(update={"token_budget": token_budget})


def packed(learner: Learner, items: Sequence[Labelled]) -> dict[str, Tensor]:
    """Gradients of one packed step, by name."""
    learner.wrapped.zero_grad()
    learner.gradients(examples(learner, items))
    parameters = trained_parameters(learner.wrapped)
    return {n: p.grad.clone() for n, p in parameters.items() if p.grad is not None}


def largest_gap(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    assert got.keys() == wanted.keys()
    return max(gap(got[n], wanted[n]) for n in wanted)


@pytest.fixture(scope="module", params=TINY)
def name(request: pytest.FixtureRequest) -> str:
    torch.set_num_threads(1)
    return str(request.param)


@pytest.fixture(scope="module")
def separate(name: str) -> Separate:
    return Separate(name, {}, labelled())


@pytest.fixture(scope="module")
def learner(name: str) -> Learner:
    return make(name, {})


@pytest.mark.parametrize("loss", LOSSES)
def test_packed_gradient_equals_separate_forwards(
    learner: Learner, separate: Separate, loss: str
) -> None:
    use(learner, loss)
    wanted = separate.gradients(loss)
    assert largest_gap(packed(learner, labelled()), wanted) < TOLERANCE
    # a gradient of nothing would pass as well
    assert torch.stack([g.norm() for g in wanted.values()]).norm() > 1000 * TOLERANCE


@pytest.mark.parametrize("loss", LOSSES)
def test_shown_loss_equals_separate_forwards(
    learner: Learner, separate: Separate, loss: str
) -> None:
    use(learner, loss)
    shown = learner.gradients(examples(learner, labelled()))
    wanted = separate.loss(LOSSES[loss]).item()
    assert shown["loss"] == pytest.approx(wanted, abs=TOLERANCE)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("budget", "order"), [(1, (2, 3, 1, 0)), (450, (3, 1, 0, 2))])
def test_micro_batches_and_order_do_not_change_the_gradient(
    learner: Learner, separate: Separate, loss: str, budget: int, order: tuple[int, ...]
) -> None:
    use(learner, loss, budget)
    items = labelled()
    got = packed(learner, [items[i] for i in order])
    assert largest_gap(got, separate.gradients(loss)) < TOLERANCE


def test_comparison_would_see_a_mistake(separate: Separate) -> None:
    """Equal weights for all labels move the gradient far beyond the tolerance."""
    right, wrong = (separate.gradients("hybrid", weighted) for weighted in (True, False))
    assert largest_gap(right, wrong) > 100 * TOLERANCE


@pytest.mark.parametrize("trained", ["decoder", "vision too"])
def test_other_parameters_get_the_gradient_of_separate_forwards(name: str, trained: str) -> None:
    """All of the decoder, and an adapter on the vision tower."""
    lora = None if trained == "decoder" else {"vision": True}
    items = labelled()[:3]
    wanted = Separate(name, lora, items).gradients("hybrid")
    learner = make(name, lora)
    use(learner, "hybrid", 450)
    assert largest_gap(packed(learner, items), wanted) < TOLERANCE
