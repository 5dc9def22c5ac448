"""The forward pass: packed questions in, the answers of every member out.

Each image goes through the vision tower once, each micro-batch of sequences through the language
model once a member; the level logits at the answer positions become distributions, these answers.

Legend: A answer positions, D width, K levels, M members, V vocabulary; features_VD: V image tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.backbones.packing import collate, micro_batches
from tokenfocus_ray.config.scoring import LevelNormalization
from tokenfocus_ray.errors import RowError
from tokenfocus_ray.scoring.answers import Answers
from tokenfocus_ray.scoring.distribution import level_distribution
from tokenfocus_ray.scoring.encoder import ImageEncoder
from tokenfocus_ray.scoring.questions import Part, QuestionPacker

#: By index of the request.
Images = Sequence[PreparedImage | RowError]


@dataclass(slots=True)
class ForwardPass:
    """A backbone with its members, and how its logits are read.

    Attributes:
        backbone: Loaded, with its members.
        packer: Knows the levels and their tokens.
        normalization: See :func:`~tokenfocus_ray.scoring.distribution.level_distribution`.
        token_budget: Most tokens of a micro-batch, padding included; halved for good where the
            device's memory runs out.
    """

    backbone: Backbone
    packer: QuestionPacker
    normalization: LevelNormalization
    token_budget: int

    def __call__(
        self, parts: Sequence[Part], images: Images, answers: Mapping[int, Answers]
    ) -> None:
        """Fills the answers.

        Args:
            parts: Questions of all requests.
            images: [N] of the requests; those of the parts are prepared.
            answers: Index of a request -> its answers, empty so far.

        Raises:
            torch.OutOfMemoryError: one sequence alone does not fit.
        """
        encoder = ImageEncoder(self.backbone, [images[part.request] for part in parts])
        with torch.inference_mode():
            while parts := self._run_while_they_fit(parts, images, encoder, answers):
                torch.cuda.empty_cache()  # outside of the handler, which holds what did not fit

    def _run_while_they_fit(
        self,
        parts: Sequence[Part],
        images: Images,
        encoder: ImageEncoder,
        answers: Mapping[int, Answers],
    ) -> list[Part]:
        """Micro-batch by micro-batch; where memory runs out, the budget is halved.

        Returns:
            The parts that are still to be answered.
        """
        lengths = [len(part.sequence) for part in parts]
        planned = micro_batches(lengths, self.token_budget)
        for n, batch in enumerate(planned):
            try:
                self._run([parts[i] for i in batch], images, encoder, answers)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise  # the budget is not what is too large
                longest = max(lengths[i] for i in batch)
                self.token_budget = max(1, longest * len(batch) // 2)
                return [parts[i] for i in sorted(i for rest in planned[n:] for i in rest)]
        return []

    def _run(
        self,
        parts: Sequence[Part],
        images: Images,
        encoder: ImageEncoder,
        answers: Mapping[int, Answers],
    ) -> None:
        """One micro-batch, member by member."""
        batch = collate([part.sequence for part in parts], self.backbone.device)
        used = [images[part.request] for part in parts]
        questions_A = [
            (part.request, part.first_question + q)
            for part in parts
            for q in range(len(part.sequence.answers))
        ]
        for m, member in enumerate(self.backbone.members):
            self.backbone.select(member)
            features_VD = encoder(used, m)
            hidden_AD = self.backbone.answer_hidden(features_VD, batch)
            logits_AV = self.backbone.logits(hidden_AD, self.packer.level_ids)
            self._read_totals(logits_AV, questions_A, m, answers)
            self._read_elements(logits_AV, questions_A, m, answers)

    def _read_totals(
        self,
        logits_AV: Tensor,
        questions_A: Sequence[tuple[int, int]],
        m: int,
        answers: Mapping[int, Answers],
    ) -> None:
        """Question 0 of each request."""
        total_A = [a for a, (_, question) in enumerate(questions_A) if question == 0]
        levels = level_distribution(
            logits_AV[total_A],
            self.packer.total_ids,
            self.packer.total_levels.values,
            self.normalization,
        )
        columns = (levels.probs_BK, levels.expected_B, levels.mass_B, levels.entropy_B)
        values = (column.double().cpu().numpy() for column in columns)
        for a, probs_K, score, mass, entropy in zip(total_A, *values, strict=True):
            answer = answers[questions_A[a][0]]
            answer.level_probs_MK[m], answer.score_M[m] = probs_K, score
            answer.mass_M[m], answer.entropy_M[m] = mass, entropy

    def _read_elements(
        self,
        logits_AV: Tensor,
        questions_A: Sequence[tuple[int, int]],
        m: int,
        answers: Mapping[int, Answers],
    ) -> None:
        """All further questions: one for each element."""
        element_A = [a for a, (_, question) in enumerate(questions_A) if question > 0]
        levels = level_distribution(
            logits_AV[element_A],
            self.packer.element_ids,
            self.packer.element_levels.values,
            self.normalization,
        )
        expected = levels.expected_B.double().cpu().numpy()
        for a, score in zip(element_A, expected, strict=True):
            request, question = questions_A[a]
            answers[request].element_ME[m, question - 1] = score
