"""The chat markup that questions are asked in, beside what a checkpoint makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Any question; only what stands around it is compared.
_QUESTION = "How well?"
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class ChatMarkup:
    """The family's chat format around image, text and answer; special tokens are recognised.

    Attributes:
        before_image: From the start of the sequence to the image tokens.
        image_token: Stands at the image's place, once for each image token.
        after_image: Right after the image tokens.
        before_answer: From the end of a question to the first answer token.
        after_answer: What ends the turn.
        processor_wraps: Whether the family's processor, not its chat template, writes the special
            tokens next to the image.
    """

    before_image: str
    image_token: str
    after_image: str
    before_answer: str
    after_answer: str = "<|im_end|>"
    processor_wraps: bool = False

    @property
    def specials(self) -> list[str]:
        """Every special token, once, in the order of their use."""
        pieces = (self.before_image, self.image_token, self.after_image, self.before_answer)
        return [*dict.fromkeys(s for piece in pieces for s in _specials(piece))]

    def turn(self, question: str) -> str:
        """A whole question, with one token for the image."""
        image = self.before_image + self.image_token + self.after_image
        return image + question + self.before_answer


def _specials(text: str) -> list[str]:
    return re.findall(r"<[^<>\s]+>", text)


def token_fault(markup: ChatMarkup, tokenizer: Any, image_token_id: int | None) -> str:
    """Why a tokenizer does not read the markup as the family's does; empty where it does.

    Args:
        markup: The family's.
        tokenizer: The checkpoint's.
        image_token_id: What ``config.json`` says of the image token.
    """

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    known: dict[str, int] = {}
    for token in markup.specials:
        pieces = ids(token)
        if len(pieces) != 1 or pieces[0] == tokenizer.unk_token_id:
            return (
                f"its tokenizer makes {pieces} of {token!r}, which must be one token of its own: "
                f"take the tokenizer of the checkpoint that this one was made from"
            )
        known[token] = pieces[0]
    for piece in (markup.before_image, markup.after_image, markup.before_answer):
        wanted = [known[token] for token in _specials(piece)]
        found = [i for i in ids(piece) if i in known.values()]
        if found != wanted:
            return (
                f"its tokenizer finds the tokens {found} in {piece!r}, where {wanted} stand: take "
                f"the tokenizer of the checkpoint that this one was made from"
            )
    if known[markup.image_token] != image_token_id:
        return (
            f"config.json says image_token_id = {image_token_id}, but its tokenizer has "
            f"{markup.image_token!r} as {known[markup.image_token]}: take both from one checkpoint"
        )
    return ""


def template_difference(markup: ChatMarkup, tokenizer: Any, template: str | None) -> str:
    """How a checkpoint's chat template asks otherwise than we do; empty where it does not.

    Args:
        markup: The family's.
        tokenizer: The checkpoint's; renders the template.
        template: The processor's; None is the tokenizer's own, if it has any.
    """
    if template is None and not tokenizer.chat_template:
        return ""
    ours = markup.turn(_QUESTION)
    found: list[str] = []
    try:
        for content in _contents(markup):
            found.append(_rendered(markup, tokenizer, template, content))
            if found[-1] == ours:
                return ""
            if markup.image_token in found[-1] and _QUESTION in found[-1]:
                break
    except Exception as error:  # a template is a program, and may raise anything
        if not any(_QUESTION in text for text in found):
            return f"cannot be rendered with an image and a question ({_short(str(error))})"
    theirs, here = _apart(next((f for f in reversed(found) if _QUESTION in f), found[0]), ours)
    return f"writes {_short(theirs)} where {_short(here)} is written here"


def _contents(markup: ChatMarkup) -> Iterator[Any]:
    """A user's turn as templates of the family take it, and as those for text alone do."""
    yield [{"type": "image"}, {"type": "text", "text": _QUESTION}]
    turn = markup.before_image.rpartition("user\n")[2] + markup.image_token + markup.after_image
    yield turn + _QUESTION


def _rendered(markup: ChatMarkup, tokenizer: Any, template: str | None, content: Any) -> str:
    try:
        text = str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
            )
        )
    except TypeError:
        if isinstance(content, str):
            raise
        return ""  # one for text alone: it adds a list to a text
    if markup.processor_wraps:
        start, end = _specials(markup.before_image)[-1], _specials(markup.after_image)[0]
        wrapped = f"{start}{markup.image_token}{end}"
        if wrapped not in text:
            text = text.replace(markup.image_token, wrapped)
    first = tokenizer.bos_token
    if first and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]:
        text = text.removeprefix(first)  # stands before every text anyway
    return text


def _apart(one: str, other: str) -> tuple[str, str]:
    """What is left of two texts without their common beginning and end, in whole words."""
    pieces = [re.findall(r"<[^<>\s]+>|\w+|\W", text) for text in (one, other)]
    start = _common(*pieces)
    rests = [piece[start:] for piece in pieces]
    end = _common(*(rest[::-1] for rest in rests))
    first, second = ("".join(rest[: len(rest) - end]) for rest in rests)
    return first, second


def _common(one: list[str], other: list[str]) -> int:
    """How many pieces two lists begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...") if text else "nothing"
