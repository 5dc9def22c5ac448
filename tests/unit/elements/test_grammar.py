"""Whatever a model prefers, what it may write is an answer of the schema."""

from __future__ import annotations

import json
import random
import string

import pytest

from tokenfocus_ray.elements.decomposed import TYPES
from tokenfocus_ray.elements.grammar import MAX_TEXT_TOKENS, Vocabulary, Walk, most_tokens
from tokenfocus_ray.elements.wording import read_answer

#: Letters, pieces across the borders of fixed texts, and what no answer has.
TEXTS: list[str | None] = [
    *string.printable, '","', '":"', '{"', '"},{"', '"}]}', '"}', "color", " red", " cat", "ob",
    "ject", '{"elements":[', '{"text":"', 'type":"', " a\"b", None, "\ufffd", "",
]  # fmt: skip
END = len(TEXTS)
VOCABULARY = Vocabulary([*TEXTS, None], (END,))


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("seed", range(40))
def test_random_walks_are_answers(most: int, seed: int) -> None:
    chance, walk, written = random.Random(seed), Walk(VOCABULARY, most), list[int]()
    while not walk.is_done:
        token = chance.choice(sorted(walk.allowed()))
        walk.step(token)
        written.append(token)
    assert walk.allowed() == {END}
    assert len(written) <= most_tokens(most)
    answer = "".join(VOCABULARY.texts[token] or "" for token in written)
    elements = read_answer(answer)
    assert len(elements) == len(json.loads(answer)["elements"]) == walk.listed <= most
    assert {element.type for element in elements} <= {*TYPES}


def test_a_text_ends() -> None:
    """Of a model that would write on for ever."""
    walk, letter = Walk(VOCABULARY), TEXTS.index("x")
    for token in ('{"elements":[', '{"text":"'):
        walk.step(TEXTS.index(token))
    assert walk.allowed() == VOCABULARY.solid  # no text of spaces
    for _ in range(MAX_TEXT_TOKENS):
        assert letter in walk.allowed()
        walk.step(letter)
    assert walk.allowed() == {TEXTS.index('"'), TEXTS.index('","')}
