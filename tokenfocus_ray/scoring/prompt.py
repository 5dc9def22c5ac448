"""Prompt templates: a prefix that all questions about an image share, and a branch for each.

The prefix holds the image, the text prompt and the structural information (every element with its
type, the prompt type). A branch holds one question. Text of users is encoded as plain text, so a
prompt that spells a special token cannot forge one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.errors import PromptError, shown
from tokenfocus_ray.schema import Element
from tokenfocus_ray.scoring.levels import ELEMENT_LEVELS, TOTAL_LEVELS, LevelVocabulary

#: Types of prompts, as they are asked, by how they may be written.
PROMPT_TYPES = {"real": "real", "synthetic": "synthetic", "synth": "synthetic"}


def known_type(prompt_type: object) -> str | None:
    """A prompt type as it is asked, whatever its case and spaces; None where there is none.

    >>> known_type(" Real"), known_type("  ")
    ('real', None)

    Raises:
        PromptError: it is another text, which would change the score.
    """
    missing = prompt_type is None or prompt_type != prompt_type  # pandas has NaN for a text
    folded = "" if missing else str(prompt_type).strip().casefold()
    if not folded:
        return None
    if folded not in PROMPT_TYPES:
        raise PromptError(
            "prompt_type_invalid",
            f"the prompt type is {shown(prompt_type)}; write real or synthetic, leave it empty, or "
            f"set structure: false, which asks without it",
        )
    return PROMPT_TYPES[folded]


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The wording of a request. ``str.format`` fields: prompt, type, text, label, hint.

    Attributes:
        prompt_line: Shared prefix, first part.
        type_line: Shared prefix, prompt type ("real" or "synthetic"); left out when unknown.
        elements_head: Shared prefix, above the list of elements.
        element_line: One line of that list.
        total_question: Branch of the overall score.
        element_question: Branch of one element.
        structure: Whether the prefix carries the structural information (type and elements).
    """

    prompt_line: str = "Text prompt: {prompt}\n"
    type_line: str = "Prompt type: {type}\n"
    elements_head: str = "Elements:\n"
    element_line: str = "{label}\n"
    total_question: str = "How well does the image match the text prompt? {hint}"
    element_question: str = "Does the image show {label}? {hint}"
    structure: bool = True

    def prefix(self, prompt: object, elements: Sequence[Element], prompt_type: str | None) -> str:
        """The text of the shared prefix, which follows the image.

        Raises:
            PromptError: code ``prompt_empty`` when the prompt is no text or has no visible
                character (a zero-width space is none); ``prompt_type_invalid`` when the type would
                be asked and is unknown.
        """
        if not isinstance(prompt, str) or not any(
            c.isprintable() and not c.isspace() for c in prompt
        ):
            raise PromptError(
                "prompt_empty",
                f"the prompt is empty (got {prompt!r:.80}); give the text the image was made from",
            )
        parts = [self.prompt_line.format(prompt=prompt)]
        if self.structure:
            if (known := known_type(prompt_type)) is not None:
                parts.append(self.type_line.format(type=known))
            if elements:
                parts.append(self.elements_head)
                parts += [self._fill(self.element_line, e) for e in elements]
        return "".join(parts)

    def questions(
        self,
        elements: Sequence[Element],
        total_levels: LevelVocabulary = TOTAL_LEVELS,
        element_levels: LevelVocabulary = ELEMENT_LEVELS,
    ) -> list[str]:
        """The text of each branch: the total question first, then one for each element."""
        total = self.total_question.format(hint=total_levels.answer_hint())
        hint = element_levels.answer_hint()
        return [total, *(self._fill(self.element_question, e, hint) for e in elements)]

    @staticmethod
    def _fill(pattern: str, element: Element, hint: str = "") -> str:
        return pattern.format(
            text=element.text, type=element.type, label=element.label(), hint=hint
        )

    def fingerprint(self) -> str:
        """Stable hash of the wording: scores of different templates must not be mixed."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def question_settings(config: ScoringConfig) -> dict[str, Any]:
    """What decides how members are asked; written beside trained adapters, compared on loading."""
    template = PromptTemplate(structure=config.structure)
    return {
        "total_levels": config.total_levels,
        "element_levels": config.element_levels,
        "structure": config.structure,
        "template": template.fingerprint(),
    }
