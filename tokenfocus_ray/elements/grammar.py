"""Which tokens may come next, so that what a model writes is an answer of our schema, whole.

An answer is fixed text with gaps: in some a few texts are possible, in one any. Each state is
thus a handful of texts that may follow; a token fits if it is the beginning of one of them. No
library for grammars of any kind is needed for one that is as small as this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tokenfocus_ray.elements.decomposed import TYPES
from tokenfocus_ray.elements.wording import MAX_LISTED

#: Most tokens of an element's text.
MAX_TEXT_TOKENS = 16
_EMPTY, _FIRST = '{"elements":[]}', '{"elements":[{"text":"'
_BETWEEN, _NEXT, _END = '","type":"', '"},{"text":"', '"}]}'


def most_tokens(most: int) -> int:
    """Most tokens of an answer of so many elements: fixed texts letter by letter."""
    each = MAX_TEXT_TOKENS + len(_BETWEEN) + len(_NEXT) + max(map(len, TYPES))
    return len(_FIRST) + most * each + 1


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens that may stand in an answer.

    Attributes:
        texts: What each token writes, by its id; None: not in an answer.
        end: Ids of which each ends an answer.
        by_text: The other way around.
        free: Ids that may stand in an element's text.
        solid: Those of them that write more than spaces.
    """

    texts: Sequence[str | None]
    end: tuple[int, ...]
    by_text: dict[str, list[int]] = field(init=False)
    free: frozenset[int] = field(init=False)
    solid: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        """Sorts the tokens."""
        by_text: dict[str, list[int]] = {}
        for token, text in enumerate(self.texts):
            if text:
                by_text.setdefault(text, []).append(token)
        free = frozenset(i for i, t in enumerate(self.texts) if t and _is_free(t))
        solid = frozenset(i for i in free if any(c.isalnum() for c in self.texts[i] or ""))
        object.__setattr__(self, "by_text", by_text)
        object.__setattr__(self, "free", free)
        object.__setattr__(self, "solid", solid)

    def beginnings(self, texts: Iterable[str]) -> set[int]:
        """Tokens that write the beginning of one of the texts."""
        return {
            token
            for text in texts
            for end in range(1, len(text) + 1)
            for token in self.by_text.get(text[:end], ())
        }


def _is_free(text: str) -> bool:
    return all(c.isprintable() and c not in '"\\\ufffd' for c in text)


class Walk:
    """The way through one answer.

    Args:
        vocabulary: Of the model.
        most: Elements that may be listed.

    Attributes:
        listed: Elements that are begun.
        is_done: Whether the answer is whole.
    """

    def __init__(self, vocabulary: Vocabulary, most: int = MAX_LISTED) -> None:
        self._vocabulary, self._most = vocabulary, most
        self._may: tuple[str, ...] = (_FIRST, _EMPTY)
        self._said = ""
        self._written = 0
        self._is_solid = False
        self.listed = 0
        self.is_done = False

    def allowed(self) -> frozenset[int] | set[int]:
        """Tokens that may come next."""
        if self.is_done:
            return set(self._vocabulary.end)
        if self._may:
            return self._vocabulary.beginnings(t[len(self._said) :] for t in self._may)
        closing = self._vocabulary.beginnings([_BETWEEN])
        if not self._is_solid:
            return self._vocabulary.solid
        return closing if self._written >= MAX_TEXT_TOKENS else closing | self._vocabulary.free

    def step(self, token: int) -> None:
        """Takes a token that was allowed."""
        text = self._vocabulary.texts[token]
        if self.is_done or text is None:
            return
        if not self._may:
            if not text.startswith('"'):
                self._written += 1
                self._is_solid |= token in self._vocabulary.solid
                return
            self._may, self._said = (_BETWEEN,), ""
        self._said += text
        self._may = tuple(t for t in self._may if t.startswith(self._said))
        if self._said in self._may:
            self._complete(self._said)

    def _complete(self, said: str) -> None:
        self._said = ""
        if said.endswith("]}"):
            self.is_done = True
        elif said == _BETWEEN:
            tails = (_END,) if self.listed >= self._most else (_NEXT, _END)
            self._may = tuple(kind + tail for kind in TYPES for tail in tails)
        else:
            self._may, self._written, self._is_solid = (), 0, False
            self.listed += 1
