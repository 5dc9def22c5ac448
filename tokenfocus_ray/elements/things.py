"""A thing that a prompt names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: What stands for a thing that was named before.
STANDS_IN = frozenset(("one", "ones", "other", "others", "another"))


@dataclass(slots=True)
class Thing:
    """Something that is named in the prompt.

    Attributes:
        root: Its last word.
        start: First word of the phrase that names it.
        name: As the prompt names it, without what it is like.
        type: One of ``TYPES``.
        like: What it is like, with the place in the prompt.
        count: How many, in the prompt's words.
        group: How they stand together: ``group``, ``pair``.
        every: ``all``, ``each`` or ``every``, where the prompt says it.
        absent: Whether the prompt says that there is none.
        seen: Whether it is a thing of its own, not a word for one that was named, a time or a place
            in the picture.
        is_time: Whether it is a time of day or year.
        doing: A word in -ing behind it, which the parser took for its last.
        more: "more" or "fewer", where it is compared in number.
    """

    root: Any
    start: int
    name: str
    type: str
    like: list[tuple[str, int]] = field(default_factory=list)
    count: str | None = None
    group: str | None = None
    every: str | None = None
    absent: bool = False
    seen: bool = True
    is_time: bool = False
    doing: Any = None
    more: str | None = None

    def called(self, like: str) -> str:
        """Its name with what it is like; behind its owner's.

        >>> Thing(None, 0, "woman's hat", "object").called("red")
        "woman's red hat"
        """
        owner, apart, own = self.name.rpartition("'s ")
        return f"{owner}{apart}{like} {own}"
