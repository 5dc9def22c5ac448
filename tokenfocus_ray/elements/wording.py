"""What a language model is asked about a prompt, and how its answer is read."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tokenfocus_ray.elements.decomposed import MAX_TEXT, TYPES
from tokenfocus_ray.schema import Element

#: Most elements that a model is let list.
MAX_LISTED = 24
_EXAMPLE = "Two black cats sit on a wooden table next to a vase, and there is no dog."
_ANSWER = (
    ("cats", "animal"), ("two cats", "counting"), ("black cats", "color"),
    ("cats sitting", "activity"), ("cats on table", "spatial"), ("table", "object"),
    ("wooden table", "material"), ("cats next to vase", "spatial"), ("vase", "object"),
    ("no dog", "other"),
)  # fmt: skip
_INSTRUCTION = (
    "List the elements of a text-to-image prompt: every claim that a picture of it must fulfil, so "
    "that each can be checked by itself. An element has a short text that is understood without "
    "the prompt, in the prompt's own words, and a type out of: {types}. List things, their number, "
    "colour, material, shape and other attributes, actions, positions and relations, text that is "
    "to be written, and what must not be there; in the order of the prompt, none twice, nothing "
    "that the prompt does not say. Answer with JSON only.\n\n"
    "Prompt: {example}\n{answer}\n\nPrompt: {prompt}"
)


def question(prompt: str) -> str:
    """What a model is asked.

    Args:
        prompt: To be decomposed.
    """
    answer = _as_json([Element(text, kind) for text, kind in _ANSWER])
    return _INSTRUCTION.format(
        types=", ".join(TYPES), example=_EXAMPLE, answer=answer, prompt=" ".join(prompt.split())
    )


def wording() -> str:
    """A hash that changes with the question and with how its answer is read."""
    about = [question(""), MAX_LISTED, MAX_TEXT]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def answer_schema() -> dict[str, Any]:
    """The JSON schema of an answer."""
    element = {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "type": {"type": "string", "enum": list(TYPES)},
        },
        "required": ["text", "type"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"elements": {"type": "array", "items": element}},
        "required": ["elements"],
        "additionalProperties": False,
    }


def read_answer(answer: str) -> list[Element]:
    r"""The elements of an answer.

    >>> read_answer('```json\n{"elements": [{"text": "a cat", "type": "animal"}]}\n```')
    [Element(text='a cat', type='animal')]

    Raises:
        ValueError: it is no such JSON; with what is wrong.
    """
    text = answer.strip()
    if text.startswith("```"):
        text = text.strip("`").removeprefix("json").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the answer is no JSON ({error}): {answer[:80]!r}") from None
    items = value.get("elements") if isinstance(value, dict) else None
    if not isinstance(items, list):
        raise ValueError(f"the answer has no list of elements: {answer[:80]!r}")
    return [_element(item) for item in items]


def _element(item: Any) -> Element:
    if not isinstance(item, dict) or not all(
        isinstance(item.get(k), str) for k in ("text", "type")
    ):
        raise ValueError(f"an element of the answer has no text and type: {item!r:.80}")
    text, kind = " ".join(item["text"].split()), item["type"].strip().lower()
    if not any(c.isalnum() for c in text) or len(text) > MAX_TEXT:
        raise ValueError(f"an element's text is empty or too long: {item['text']!r:.80}")
    if kind not in TYPES:
        raise ValueError(
            f"an element is of the type {kind!r:.40}; wanted one of {', '.join(TYPES)}"
        )
    return Element(text, kind)


def _as_json(elements: list[Element]) -> str:
    rows = [{"text": e.text, "type": e.type} for e in elements]
    return json.dumps({"elements": rows}, separators=(",", ":"))
