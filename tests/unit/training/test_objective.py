"""What is asked and how answers are judged; the numbers themselves are compared in tests/parity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.samples import labels, picture
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.config import LossConfig
from tokenfocus_ray.errors import ImageDecodeError, PromptError
from tokenfocus_ray.schema import Element
from tokenfocus_ray.scoring.levels import ELEMENT_LEVELS, TOTAL_LEVELS
from tokenfocus_ray.scoring.prompt import PromptTemplate
from tokenfocus_ray.scoring.questions import QuestionPacker
from tokenfocus_ray.scoring.request import Request
from tokenfocus_ray.training import objective as module
from tokenfocus_ray.training.loss import rank_slopes
from tokenfocus_ray.training.objective import Example, Objective, TrainingPart
from tokenfocus_ray.training.soft_labels import sample_labels

END = (2, 77)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return loading.skeleton(registry.resolve("tiny-qwen2_5_vl"))


def make(backbone: Backbone, **loss: Any) -> Objective:
    packer = QuestionPacker(backbone, PromptTemplate(), TOTAL_LEVELS, ELEMENT_LEVELS)
    config = LossConfig(**loss)
    return Objective(packer, TOTAL_LEVELS, ELEMENT_LEVELS, config, "logits", END)


def example(
    backbone: Backbone,
    total: Sequence[float | None] | None,
    elements: Sequence[Sequence[float | None]] = (),
    group: int = 0,
) -> Example:
    image = backbone.image_spec.prepare(picture(40, 40, seed=0))
    asked = tuple(Element.parse(label) for label in labels(len(elements)))
    rated = sample_labels(total, elements, TOTAL_LEVELS, ELEMENT_LEVELS)
    return Example(Request("a", "two dogs", image, asked), rated, group)


def tokens(backbone: Backbone, *words: str) -> list[int]:
    return [backbone.tokenizer.convert_tokens_to_ids(word) for word in words]


def test_one_part_with_a_label_for_each_question(backbone: Backbone) -> None:
    given = example(backbone, [4, 3, 3], [[1], [0]], group=5)
    (part,) = make(backbone).parts(given)
    assert part.labels == (given.labels.total, *given.labels.elements)
    assert part.group == 5
    assert part.image is given.request.image
    assert list(part.tokens) == tokens(backbone, "3", "Yes", "No")
    assert part.first == (True, True, True)
    assert len(part) == len(part.part.sequence)


@pytest.mark.parametrize(
    ("ratings", "word"),
    [([1], "1"), ([4, 3, 3], "3"), ([4, 4, 3], "4"), ([5, 2], "4"), ([None], "1")],
)
def test_whole_answer_is_the_level_nearest_to_the_mean(
    backbone: Backbone, ratings: list[float | None], word: str
) -> None:
    """The higher one where two are as near; any where nobody rated."""
    (part,) = make(backbone, whole_answer=1).parts(example(backbone, ratings, [[0, 1]]))
    assert list(part.tokens) == [*tokens(backbone, word), *END, *tokens(backbone, "Yes"), *END]
    assert part.first == (True, False, False) * 2
    answers = part.part.sequence.answers
    assert len(answers) == 6
    ids = part.part.sequence.ids
    # each answer position but the first of an answer holds the token before
    assert [ids[answers[i]] for i in (1, 2, 4, 5)] == [*part.tokens[0:2], *part.tokens[3:5]]


def test_long_lists_of_elements_become_several_parts(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_TOKENS", 200)
    given = example(backbone, [2], [[q % 2] for q in range(9)])
    for objective, n_tokens in ((make(backbone), 1), (make(backbone, whole_answer=1), 3)):
        parts = objective.parts(given)
        assert len(parts) > 2
        assert sum((p.labels for p in parts), ()) == (given.labels.total, *given.labels.elements)
        for part in parts:
            assert len(part.tokens) == len(part.first) == n_tokens * part.part.n_questions
            assert len(part.labels) == part.part.n_questions
            assert len(part.part.sequence.answers) == len(part.tokens)


def test_requests_that_cannot_be_asked(backbone: Backbone) -> None:
    given = example(backbone, [3], [[1]])
    no_image = ImageDecodeError("image_missing", "no image")
    no_elements = PromptError("elements_invalid", "no elements")
    for request, message in (
        (replace(given.request, image=no_image), "no image"),
        (replace(given.request, elements=no_elements), "no elements"),
        (
            replace(given.request, prompt=" "),
            "the prompt is empty (got ' '); give the text the image was made from",
        ),
    ):
        with pytest.raises((ImageDecodeError, PromptError)) as caught:
            make(backbone).parts(replace(given, request=request))
        assert str(caught.value) == message


def test_labels_and_elements_of_different_number_are_a_mistake(backbone: Backbone) -> None:
    given = example(backbone, [3], [[1], [0]])
    request = replace(given.request, elements=())
    with pytest.raises(AssertionError, match="one label for each element"):
        make(backbone).parts(replace(given, request=request))


def test_weights_are_summed_by_task(backbone: Backbone) -> None:
    rated = [
        example(backbone, [3], [[1], [None], [0]]),
        example(backbone, None, [[1]]),
        example(backbone, [5, 5]),
    ]
    objective = make(backbone)
    parts = [part for each in rated for part in objective.parts(each)]
    assert objective.weights(parts) == {"total": 2.0, "elements": 3.0}
    assert objective.weights([]) == {}


def loss_of(
    objective: Objective, parts: Sequence[TrainingPart], seed: int = 0
) -> tuple[torch.Tensor, dict[str, float], torch.Tensor]:
    """Loss, terms and gradient with random logits."""
    n = sum(len(part.tokens) for part in parts)
    random = np.random.default_rng(seed)
    logits_AV = torch.tensor(random.normal(0, 3, (n, 768)), requires_grad=True)
    weights = {"total": 0.0, "elements": 0.0, **objective.weights(parts)}
    totals = [(part.group, part.total.mean) for part in parts if part.total is not None]
    scores = objective.expected(logits_AV, parts)
    _, slopes = rank_slopes(scores, [g for g, _ in totals], [m for _, m in totals])
    loss, shown = objective.loss(logits_AV, parts, weights, slopes if objective.config.rank else [])
    loss.backward()
    assert logits_AV.grad is not None
    return loss.detach(), shown, logits_AV.grad


def test_terms_add_up_to_the_loss(backbone: Backbone) -> None:
    objective = make(backbone, kl=0.3, whole_answer=0.7, elements=0.5)
    parts = [
        *objective.parts(example(backbone, [4], [[1], [0, 1]])),
        *objective.parts(example(backbone, [2], [[None]])),
    ]
    loss, shown, _ = loss_of(objective, parts)
    assert set(shown) == {
        *(f"{t}_{n}" for t in ("total", "elements") for n in ("first_token", "regression", "kl")),
        "whole_answer",
    }
    assert loss.item() == pytest.approx(sum(shown.values()), rel=1e-6)


def test_answers_that_nobody_rated_have_no_gradient(backbone: Backbone) -> None:
    objective = make(backbone, kl=1, rank=1, whole_answer=1)
    parts = [
        *objective.parts(example(backbone, None, [[1], [None]])),
        *objective.parts(example(backbone, [math.nan], [])),
    ]
    loss, _, gradient_AV = loss_of(objective, parts)
    assert loss.isfinite()
    touched = (gradient_AV != 0).any(dim=1).tolist()
    # three tokens an answer: total, rated element, unrated element, total
    assert touched == [False] * 3 + [True] * 3 + [False] * 6


def test_elements_of_weight_0_are_asked_in_vain(backbone: Backbone) -> None:
    objective = make(backbone, elements=0)
    _loss, shown, gradient_AV = loss_of(objective, objective.parts(example(backbone, [4], [[1]])))
    assert (gradient_AV != 0).any(dim=1).tolist() == [True, False]
    assert shown["elements_first_token"] == shown["elements_regression"] == 0


def rank_parts(backbone: Backbone, objective: Objective) -> list[TrainingPart]:
    rated = [([5], 0), ([3], 1), ([2], 0), ([3], 0), (None, 0), ([2], 1)]
    return [
        part
        for total, group in rated
        for part in objective.parts(example(backbone, total, [[1]], group))
    ]


def test_rank_pulls_pairs_of_one_prompt_apart(backbone: Backbone) -> None:
    """The gradient of the mean over the pairs, and nothing where no total is asked or rated."""
    objective = make(backbone, first_token=0, regression=0, rank=0.4, whole_answer=0)
    parts = rank_parts(backbone, objective)
    _, shown, gradient_AV = loss_of(objective, parts)
    assert shown == {}, "its value is the whole step's"
    random = np.random.default_rng(0).normal(0, 3, (12, 768))
    logits_AV = torch.tensor(random, requires_grad=True)
    p_AK = torch.softmax(logits_AV[::2][:, tokens(backbone, *"12345")], -1)
    e_A = (p_AK * torch.arange(1.0, 6.0, dtype=torch.float64)).sum(-1)
    pairs = [(0, 2), (0, 3), (3, 2), (1, 5)]
    losses = torch.stack([torch.log1p(torch.exp(e_A[b] - e_A[a])) for a, b in pairs])
    torch.autograd.backward(0.4 * losses.mean())
    torch.testing.assert_close(gradient_AV, logits_AV.grad, atol=1e-12, rtol=1e-6)


def test_rank_alone_without_a_pair_has_a_gradient_of_nothing(backbone: Backbone) -> None:
    """A step may hold one image of each prompt."""
    objective = make(backbone, first_token=0, regression=0, rank=1)
    loss, _, gradient_AV = loss_of(objective, rank_parts(backbone, objective)[:2])
    assert loss == 0
    assert (gradient_AV == 0).all()


@pytest.mark.parametrize("whole_answer", [0, 1])
def test_expected_values_are_of_totals_only(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, whole_answer: int
) -> None:
    """Not of elements, whether or not they stand in later parts; whole answers have more tokens."""
    monkeypatch.setattr(module, "PART_TOKENS", 1)
    objective = make(backbone, rank=1, whole_answer=whole_answer)
    parts = [
        part
        for total in ([5], [3])
        for part in objective.parts(example(backbone, total, [[0], [1], [1]]))
    ]
    assert [part.total is not None for part in parts] == [True, False, False, False] * 2
    n_tokens = 3 if whole_answer else 1
    logits_AV = torch.zeros(8 * n_tokens, 768)
    for row, word in ((0, "2"), (4 * n_tokens, "5")):
        logits_AV[row, tokens(backbone, word)] = 1000.0
    assert objective.expected(logits_AV, parts) == [2.0, 5.0]
