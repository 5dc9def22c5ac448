"""Examples to packed sequences with targets, and a micro-batch's logits to loss sums.

Legend: A answer positions of a micro-batch, V vocabulary, K levels, L tokens of whole answers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.config import LossConfig
from tokenfocus_ray.config.scoring import LevelNormalization
from tokenfocus_ray.errors import RowError
from tokenfocus_ray.scoring.distribution import level_distribution
from tokenfocus_ray.scoring.levels import LevelVocabulary
from tokenfocus_ray.scoring.questions import Part, QuestionPacker
from tokenfocus_ray.scoring.request import Request
from tokenfocus_ray.training.loss import (
    Targets,
    token_focused_terms,
    whole_answer_term,
)
from tokenfocus_ray.training.soft_labels import SampleLabels, SoftLabel

#: Most tokens of one packed sequence: a longer list of elements becomes several.
PART_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled sample, ready for the device.

    Attributes:
        request: Image, prompt and elements.
        labels: What the annotators said.
        group: Number of its prompt.
    """

    request: Request
    labels: SampleLabels
    group: int


@dataclass(frozen=True, slots=True)
class TrainingPart:
    """One packed sequence with what its answers should be.

    Attributes:
        part: Prefix and branches.
        image: The image.
        sample_id: Of the sample, for messages.
        labels: [Q] label of each question in the part.
        group: Number of the prompt.
        tokens: Target token at each answer position.
        first: Which of them are the first of their answer.
    """

    part: Part
    image: PreparedImage
    sample_id: str
    labels: tuple[SoftLabel, ...]
    group: int
    tokens: tuple[int, ...]
    first: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.part.sequence)

    @property
    def total(self) -> SoftLabel | None:
        """Label of the total question, where this part asks it."""
        return self.labels[0] if self.part.first_question == 0 else None


class Objective:
    """The loss of a member: which questions are asked, and how answers are judged."""

    def __init__(
        self,
        packer: QuestionPacker,
        total_levels: LevelVocabulary,
        element_levels: LevelVocabulary,
        config: LossConfig,
        normalization: LevelNormalization,
        end_of_answer: Sequence[int],
    ) -> None:
        """Keeps them.

        Args:
            packer: Encodes questions for the backbone.
            total_levels: Vocabulary of the total question.
            element_levels: Vocabulary of the element questions.
            config: Weights of the terms.
            normalization: See ``level_distribution``.
            end_of_answer: Tokens that end the turn, for the whole-answer baseline.
        """
        self._packer = packer
        self._tasks = {
            "total": (packer.total_ids, total_levels.values),
            "elements": (packer.element_ids, element_levels.values),
        }
        self.config = config
        self.normalization = normalization
        self._end = tuple(end_of_answer)

    def parts(self, example: Example) -> list[TrainingPart]:
        """Packs an example.

        Raises:
            RowError: the image or the elements are errors, or the prompt cannot be asked.
        """
        request = example.request
        for value in (request.image, request.elements):
            if isinstance(value, RowError):
                raise value
        assert isinstance(request.image, PreparedImage)
        elements = tuple(request.elements) if not isinstance(request.elements, RowError) else ()
        assert len(elements) == len(example.labels.elements), "one label for each element"
        answers = [self._answer(example.labels[q], q) for q in range(len(elements) + 1)]
        parts = self._packer.pack(
            0, request.image, request.prompt, elements, request.prompt_type, PART_TOKENS, answers
        )
        found, first = [], 0
        for part in parts:
            n = part.n_questions
            asked = range(first, first + n)
            found.append(
                TrainingPart(
                    part,
                    request.image,
                    request.sample_id,
                    tuple(example.labels[q] for q in asked),
                    example.group,
                    tuple(token for q in asked for token in answers[q]),
                    tuple(i == 0 for q in asked for i in range(len(answers[q]))),
                )
            )
            first += n
        return found

    def _answer(self, label: SoftLabel, question: int) -> tuple[int, ...]:
        """The level nearest to the mean, and the end of the turn where the whole answer counts."""
        ids, values = self._tasks["total" if question == 0 else "elements"]
        best = 0
        if label.weight:
            best = min(range(len(ids)), key=lambda k: (abs(values[k] - label.mean), -values[k]))
        return (ids[best], *(self._end if self.config.whole_answer else ()))

    def term_names(self) -> list[str]:
        """Of the terms that count; of every worker alike, whatever its rows."""
        terms = [t for t in ("first_token", "regression", "kl") if getattr(self.config, t)]
        names = [f"{task}_{term}" for task in self._tasks for term in terms]
        return names + [t for t in ("rank", "whole_answer") if getattr(self.config, t)]

    def weights(self, parts: Sequence[TrainingPart]) -> dict[str, float]:
        """What sums are divided by, once added up over all workers and micro-batches of a step."""
        sums: defaultdict[str, float] = defaultdict(float)
        for item in parts:
            for q, label in enumerate(item.labels, start=item.part.first_question):
                sums["total" if q == 0 else "elements"] += label.weight
        return dict(sums)

    def loss(
        self,
        logits_AV: Tensor,
        parts: Sequence[TrainingPart],
        weights: dict[str, float],
        slopes: Sequence[float] = (),
    ) -> tuple[Tensor, dict[str, float]]:
        """The micro-batch's share of the step's loss.

        Args:
            logits_AV: Raw logits at the answer positions, part by part.
            parts: The micro-batch.
            weights: Of the whole step, see :meth:`weights`.
            slopes: Derivative of the step's rank term by the expected value of each total in the
                micro-batch, see :func:`~tokenfocus_ray.training.loss.rank_slopes`; none: no pair.

        Returns:
            What to run backwards, whose gradients summed over micro-batches and workers are the
            step's; and the terms but rank, whose value is of the whole step.
        """
        config, device = self.config, logits_AV.device
        questions = [
            (q == 0, label)
            for item in parts
            for q, label in enumerate(item.labels, start=item.part.first_question)
        ]
        is_first = torch.tensor([f for item in parts for f in item.first], device=device)
        first_AV = logits_AV[is_first]
        # nothing, but with a graph: a step may have no pair, and the rank term only
        loss = logits_AV[:0].sum(dtype=torch.float32)
        shown: dict[str, float] = {}
        for task, (ids, values) in self._tasks.items():
            mine = [i for i, (total, _) in enumerate(questions) if total == (task == "total")]
            scale = (1.0 if task == "total" else config.elements) / (weights.get(task, 0.0) or 1.0)
            labels = [questions[i][1] for i in mine]
            terms, expected_A = token_focused_terms(
                first_AV[mine],
                _targets(labels, len(ids), device),
                ids,
                values,
                config,
                self.normalization,
            )
            for name, value in terms.items():
                part = getattr(config, name) * scale * value
                loss = loss + part
                shown[f"{task}_{name}"] = float(part.detach())
            if task == "total" and slopes:
                slopes_A = torch.tensor(slopes, dtype=expected_A.dtype, device=device)
                loss = loss + config.rank * (slopes_A * expected_A).sum()
        if config.whole_answer:
            term = config.whole_answer * self._whole_answers(logits_AV, parts, questions, weights)
            loss = loss + term
            shown["whole_answer"] = float(term.detach())
        return loss, shown

    def expected(self, logits_AV: Tensor, parts: Sequence[TrainingPart]) -> list[float]:
        """Expected value of each total in a micro-batch.

        Args:
            logits_AV: As :meth:`loss` takes them.
            parts: The micro-batch.
        """
        is_total = [
            item.part.first_question == 0 and a == 0
            for item in parts
            for a in range(len(item.first))
        ]
        ids, values = self._tasks["total"]
        totals_AV = logits_AV[torch.tensor(is_total, device=logits_AV.device)]
        found = level_distribution(totals_AV, ids, values, self.normalization)
        return [float(value) for value in found.expected_B.tolist()]

    def _whole_answers(
        self,
        logits_AV: Tensor,
        parts: Sequence[TrainingPart],
        questions: Sequence[tuple[bool, SoftLabel]],
        weights: dict[str, float],
    ) -> Tensor:
        """Mean over the tokens of each answer, weighted as the other terms."""
        n_tokens = 1 + len(self._end)
        each = [
            label.weight
            * (1.0 if total else self.config.elements)
            / (weights.get("total" if total else "elements", 0.0) or 1.0)
            / n_tokens
            for total, label in questions
        ]
        weights_A = torch.tensor(each, device=logits_AV.device).repeat_interleave(n_tokens)
        tokens_A = torch.tensor([t for item in parts for t in item.tokens], device=logits_AV.device)
        return whole_answer_term(logits_AV, tokens_A, weights_A)


def _targets(labels: Sequence[SoftLabel], n_levels: int, device: torch.device) -> Targets:
    probs_AK = torch.tensor(
        [label.probs_K.tolist() for label in labels], dtype=torch.float32, device=device
    ).reshape(len(labels), n_levels)
    means = [0.0 if math.isnan(label.mean) else label.mean for label in labels]
    return Targets(
        probs_AK,
        torch.tensor(means, dtype=torch.float32, device=device),
        torch.tensor([label.weight for label in labels], dtype=torch.float32, device=device),
    )
