"""Phrases that say where, of several words or one: found by their words, not by the parser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenfocus_ray.elements.lexicon import words

_SPATIAL = {
    "to the left of": "left of", "to the right of": "right of", "on the left of": "left of",
    "on the right of": "right of", "on the left side of": "on left side of",
    "on the right side of": "on right side of", "to the left side of": "left of",
    "to the right side of": "right of", "at the left of": "left of", "at the right of": "right of",
    "in front of": "in front of", "on top of": "on top of", "on the top of": "on top of",
    "a top on": "on", "a top of": "on top of", "at the top of": "at top of",
    "at the bottom of": "at bottom of", "on the bottom of": "at bottom of",
    "next to": "next to", "close to": "close to", "near to": "near", "adjacent to": "next to",
    "beside of": "beside", "in the middle of": "in middle of", "in the center of": "in center of",
    "in the centre of": "in center of", "at the center of": "in center of",
    "in the midst of": "in middle of", "on the side of": "on side of",
    "at the side of": "on side of", "by the side of": "on side of", "on the edge of": "on edge of",
    "at the edge of": "on edge of", "along the edge of": "on edge of",
    "on the back of": "on back of",
    "in the back of": "in back of", "in back of": "behind", "in the corner of": "in corner of",
    "at the foot of": "at foot of", "at the end of": "at end of", "inside of": "inside",
    "outside of": "outside", "surrounded by": "surrounded by", "surrounded with": "surrounded by",
    "out of": "out of", "from behind": "behind", "in between": "between", "up against": "against",
    "away from": "away from", "on board of": "on board of", "on either side of": "on both sides of",
    "on both sides of": "on both sides of", "on each side of": "on both sides of",
    "in the style of": "", "instead of": "", "because of": "", "such as": "", "as well as": "",
    "made of": "made of", "made out of": "made of", "made from": "made of", "made up of": "made of",
    "composed of": "made of", "full of": "full of", "filled with": "filled with",
    "covered in": "covered in", "covered with": "covered with", "covered by": "covered by",
    "shaped like": "shaped like", "in the shape of": "in shape of",
}  # fmt: skip
_BY_WORDS = sorted(
    ((tuple(text.split()), name) for text, name in _SPATIAL.items()), key=lambda p: -len(p[0])
)
#: Single prepositions of a place; others say how something moves, or with what.
PLACES = words(
    """in on at under beneath below above over underneath beside behind inside within outside near
    by between among amongst amid atop upon against around across along underwater alongside
    opposite beyond off onto aboard past throughout"""
)
MOVES = words("""into through toward towards from down up onto across along over past around off""")
_MATERIAL = frozenset(("made of",))
_STATES = frozenset(("full of", "filled with", "covered in", "covered with", "covered by",
                     "shaped like", "in shape of"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Marker:
    """A preposition, or a phrase that is one.

    Attributes:
        start: First word.
        end: Behind its last.
        name: How elements write it; empty where it says nothing of the picture.
    """

    start: int
    end: int
    name: str

    @property
    def words(self) -> int:
        """Number of words."""
        return self.end - self.start

    @property
    def type(self) -> str:
        """Type of an element with it."""
        if self.name in _MATERIAL:
            return "material"
        return "attribute" if self.name in _STATES or self.words == 1 else "spatial"


def find_markers(doc: Any) -> list[Marker]:
    """Phrases of several words, and all other prepositions, in their order."""
    words = [t.lower_ for t in doc]
    found: list[Marker] = []
    at = 0
    while at < len(words):
        for phrase, name in _BY_WORDS:
            if tuple(words[at : at + len(phrase)]) == phrase:
                found.append(Marker(at, at + len(phrase), name))
                at += len(phrase)
                break
        else:
            token = doc[at]
            if token.dep_ in ("prep", "agent", "dative") or (
                token.pos_ == "ADP" and any(c.dep_ == "pobj" for c in token.children)
            ):
                found.append(Marker(at, at + 1, words[at]))
            at += 1
    return found
