"""A request to packed sequences: which tokens are asked, and how they share a prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.backbones.packing import PackedSequence, pack
from tokenfocus_ray.errors import PromptError
from tokenfocus_ray.schema import Element
from tokenfocus_ray.scoring.levels import LevelVocabulary
from tokenfocus_ray.scoring.prompt import PromptTemplate


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a request's questions in one sequence; most requests are one part.

    Attributes:
        request: Index of the request.
        first_question: Index of the part's first question; 0 is the total.
        n_questions: Number of questions in it.
        sequence: Prefix and branches.
    """

    request: int
    first_question: int
    n_questions: int
    sequence: PackedSequence


class QuestionPacker:
    """Encodes requests for one backbone.

    Attributes:
        total_levels: Words of the overall score.
        element_levels: Words of an element's score.
        total_ids: [K] token ids of the total levels.
        element_ids: [K] token ids of the element levels.
        level_ids: Both.
    """

    def __init__(
        self,
        backbone: Backbone,
        template: PromptTemplate,
        total_levels: LevelVocabulary,
        element_levels: LevelVocabulary,
    ) -> None:
        """Checks the levels against the backbone's tokenizer.

        Raises:
            LevelError: a level word is not one token of the backbone's tokenizer.
            BackboneError: the tokenizer merges line breaks with what follows.
        """
        self._backbone = backbone
        self._template = template
        self.total_levels, self.element_levels = total_levels, element_levels
        encode, context = backbone.encode_markup, backbone.markup.before_answer
        self.total_ids, self.element_ids = (
            levels.token_ids(encode, context, backbone.source.name)
            for levels in (total_levels, element_levels)
        )
        self.level_ids = (*self.total_ids, *self.element_ids)
        backbone.encode_text(template.total_question)  # a tokenizer that cannot do it says so now
        self._before_image = backbone.before_image_ids
        self._after_image = encode(backbone.markup.after_image)
        self._before_answer = encode(context)

    def pack(
        self,
        index: int,
        image: PreparedImage,
        prompt: object,
        elements: tuple[Element, ...],
        prompt_type: str | None,
        token_budget: int,
        answers: Sequence[Sequence[int]] | None = None,
    ) -> list[Part]:
        """Packs a request, in several parts where it has very many elements.

        Attention is quadratic in the length of a sequence; parts bound it, and do not change a
        score, since branches do not see each other.

        Args:
            index: Index of the request, kept in the parts.
            image: The prepared image.
            prompt: The text prompt.
            elements: The elements to ask about.
            prompt_type: ``"real"``, ``"synthetic"`` or None.
            token_budget: Most tokens of a part, where the prefix leaves room for one question.
            answers: [Q] answer tokens of each question, for training: every one of them is then
                predicted. Without, the first one is.

        Raises:
            PromptError: the prompt is empty, a text is not valid Unicode, or a question does not
                fit the context.
        """
        backbone = self._backbone
        text = self._template.prefix(prompt, elements, prompt_type)
        questions = self._template.questions(elements, self.total_levels, self.element_levels)
        try:
            "".join([text, *questions]).encode()
        except UnicodeEncodeError as error:
            raise PromptError(
                "text_invalid",
                f"the prompt or an element is not valid Unicode ({error}); write it again as UTF-8",
            ) from None
        after = self._after_image + backbone.encode_text(text)
        branches = [backbone.encode_text(q) + self._before_answer for q in questions]
        n_answers = [1] * len(branches)
        if answers is not None:
            branches = [b + list(a[:-1]) for b, a in zip(branches, answers, strict=True)]
            n_answers = [len(a) for a in answers]
        n_prefix = len(self._before_image) + image.n_visual_tokens + len(after)
        longest = n_prefix + max(map(len, branches))
        if longest > backbone.context_length:
            raise PromptError(
                "prompt_too_long",
                f"image, prompt and longest question need {longest} tokens "
                f"({image.n_visual_tokens} of them for the image), but {backbone.source.name} "
                f"takes {backbone.context_length}; shorten the prompt or lower max_visual_tokens",
            )
        parts: list[Part] = []
        first, n_tokens = 0, n_prefix
        for q, branch in enumerate(branches):
            if q > first and n_tokens + len(branch) > token_budget:
                parts.append(
                    self._part(index, first, image, after, branches[first:q], n_answers[first:q])
                )
                first, n_tokens = q, n_prefix
            n_tokens += len(branch)
        parts.append(self._part(index, first, image, after, branches[first:], n_answers[first:]))
        return parts

    def _part(
        self,
        index: int,
        first: int,
        image: PreparedImage,
        after: list[int],
        branches: list[list[int]],
        n_answers: list[int],
    ) -> Part:
        sequence = pack(
            self._before_image, image.n_visual_tokens, image.grid, after, branches, n_answers
        )
        return Part(index, first, len(branches), sequence)
