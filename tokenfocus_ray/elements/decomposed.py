"""What a prompt was decomposed into, or why it was not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tokenfocus_ray.schema import Element

#: ``given``: the row brought elements, which stay; ``made``: all that was found; ``cut``: more was
#: found, or more stands in the prompt, than is taken; ``none``: there is nothing; ``failed``: the
#: model gave no usable answer.
Status = Literal["given", "made", "cut", "none", "failed"]
STATUSES: tuple[Status, ...] = ("given", "made", "cut", "none", "failed")
#: EvalMuse's types of elements.
TYPES = (
    "object", "animal", "human", "food", "location", "activity", "color", "counting", "material",
    "shape", "spatial", "attribute", "other",
)  # fmt: skip
#: Most elements of a prompt, and characters of one.
MAX_ELEMENTS, MAX_TEXT = 48, 200


@dataclass(frozen=True, slots=True)
class Decomposed:
    """The elements of a prompt.

    Attributes:
        elements: In the order of the prompt, none twice.
        status: See :data:`Status`.
        reason: Why it is not ``made`` or ``given``; else None.
    """

    elements: tuple[Element, ...]
    status: Status
    reason: str | None = None


def decomposed(found: Iterable[Element], reason: str | None = None) -> Decomposed:
    """Elements without duplicates, and no more than the limit, which is said.

    >>> decomposed([Element("cat", "animal"), Element("Cat", "animal")]).elements
    (Element(text='cat', type='animal'),)

    Args:
        found: In the order of the prompt.
        reason: Why there may be more in the prompt than was looked at.
    """
    unique: dict[tuple[str, str], Element] = {}
    for element in found:
        unique.setdefault((element.text.casefold(), element.type), element)
    elements = tuple(unique.values())
    if len(elements) > MAX_ELEMENTS:
        reason = f"{len(elements)} elements were found; the first {MAX_ELEMENTS} are kept"
        elements = elements[:MAX_ELEMENTS]
    if not elements:
        return nothing(reason or "nothing was found that an image could show")
    return Decomposed(elements, "made" if reason is None else "cut", reason)


def nothing(reason: str) -> Decomposed:
    """A prompt without elements."""
    return Decomposed((), "none", reason)


def failed(reason: str) -> Decomposed:
    """A prompt for which no usable answer came."""
    return Decomposed((), "failed", reason)
