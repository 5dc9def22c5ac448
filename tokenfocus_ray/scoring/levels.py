"""Level vocabularies: the words that a model may answer with, and what each is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from tokenfocus_ray.errors import LevelError


class Encoder(Protocol):
    """Text to token ids, without adding special tokens of its own."""

    def __call__(self, text: str, /) -> list[int]:
        """Ids of the text."""
        ...


@dataclass(frozen=True, slots=True)
class LevelVocabulary:
    """The predefined vocabulary S = {s_1..s_K} of one task and its values v_1..v_K.

    Attributes:
        words: [K] answers, as the model would write them right after the answer prefix.
        values: [K] what each is worth; the expected score lies between the smallest and the
            largest.
    """

    words: tuple[str, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.words) != len(self.values) or len(self.words) < 2:
            raise LevelError(
                f"a level vocabulary needs at least two words and one value for each, got "
                f"{len(self.words)} words {list(self.words)} and {len(self.values)} values "
                f"{list(self.values)}"
            )
        if len(set(self.words)) != len(self.words):
            raise LevelError(f"level words must differ, got {list(self.words)}")
        if len(set(self.values)) == 1:
            raise LevelError(
                f"level values must differ, or every answer is worth the same; got "
                f"{list(self.values)} for {list(self.words)}"
            )
        if not all(math.isfinite(v) for v in self.values):
            raise LevelError(f"level values must be finite, got {list(self.values)}")

    @classmethod
    def of(cls, levels: Mapping[str, float]) -> Self:
        """From word -> value, as configurations give it; the order of the words is kept."""
        return cls(tuple(levels), tuple(float(v) for v in levels.values()))

    def token_ids(self, encode: Encoder, context: str, where: str) -> tuple[int, ...]:
        """The one token of each word, as it appears after the answer prefix.

        Args:
            encode: The backbone's tokenizer, special tokens recognised.
            context: The text that stands right before the answer.
            where: Name of the backbone, for the message.

        Returns:
            [K] distinct token ids.

        Raises:
            LevelError: when a word is several tokens, merges with the context, or shares its token
                with another word.
        """
        before = encode(context)
        ids: list[int] = []
        for word in self.words:
            after = encode(context + word)
            pieces = after[len(before) :]
            if after[: len(before)] != before or len(pieces) != 1:
                raise LevelError(
                    f"level word {word!r} is not one token of {where}'s tokenizer after "
                    f"{context[-24:]!r}: it becomes {encode(word)}. Choose words that are single "
                    f"tokens, for example digits, letters, or Yes and No"
                )
            ids.append(pieces[0])
        if len(set(ids)) != len(ids):
            raise LevelError(f"level words {list(self.words)} share tokens in {where}: {ids}")
        return tuple(ids)

    def answer_hint(self) -> str:
        """The sentence that names the allowed answers.

        >>> LevelVocabulary(("No", "Yes"), (0, 1)).answer_hint()
        'Answer No or Yes.'
        """
        *head, last = self.words
        return f"Answer {', '.join(head)} or {last}."


#: Total score 1..5 (paper; our default words, since the paper leaves them open).
TOTAL_LEVELS = LevelVocabulary(("1", "2", "3", "4", "5"), (1.0, 2.0, 3.0, 4.0, 5.0))
#: Element score 0..1.
ELEMENT_LEVELS = LevelVocabulary(("No", "Yes"), (0.0, 1.0))
