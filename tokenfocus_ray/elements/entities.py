"""The things of a parsed prompt, once groups, stand-ins and denials are taken together."""

from __future__ import annotations

from typing import Any

from tokenfocus_ray.elements.lexicon import GROUPS, PARTS_OF
from tokenfocus_ray.elements.nouns import noun_phrases, read_thing
from tokenfocus_ray.elements.phrases import Marker
from tokenfocus_ray.elements.things import STANDS_IN, Thing


def find_things(doc: Any, markers: list[Marker]) -> list[Thing]:
    """All things, in the order of the prompt.

    Args:
        doc: Parsed.
        markers: Phrases such as "in front of", whose nouns are no things.
    """
    taken = {i for marker in markers for i in range(marker.start, marker.end) if marker.words > 1}
    things: list[Thing] = []
    for root, start, doing in noun_phrases(doc):
        if root.i in taken:
            continue
        thing = read_thing(doc, root, max(start, _after(taken, start, root.i)))
        if thing is not None:
            thing.doing = doing
            things.append(thing)
    _spread_absence(things)
    _merge_groups(things)
    _stand_in(things)
    return things


def _after(taken: set[int], start: int, end: int) -> int:
    """First word behind a marker that the parser took into the phrase."""
    return max((i + 1 for i in range(start, end) if i in taken), default=start)


def _spread_absence(things: list[Thing]) -> None:
    """Where "no signs or markings" are, there is neither."""
    for thing in things:
        if thing.absent and any(c.lower_ in ("or", "nor") for c in thing.root.children):
            for other in things:
                other.absent |= other.root in thing.root.conjuncts and other.root.i > thing.root.i


def _merge_groups(things: list[Thing]) -> None:
    """A "group of children" is children; what is said of the group is said of them."""
    by_root = {thing.root.i: thing for thing in things}
    for thing in list(things):
        lemma = thing.root.lemma_.lower()
        is_part = lemma in PARTS_OF
        if lemma not in GROUPS and thing.root.lower_ not in GROUPS and not is_part:
            continue
        inner = _behind_of(thing.root, by_root)
        if inner is None:
            if lemma in ("dozen", "dozens"):
                thing.seen = False
            continue
        words = f"{thing.name} of"
        if thing.root.lower_ in ("lots", "lot", "plenty"):
            words = "many"
        like = " ".join(text for text, _ in thing.like)
        shown = " ".join(w for w in (thing.count or "", like, words) if w)
        inner.group = shown if inner.count is None else f"{shown} {inner.count}"
        inner.every = inner.every or thing.every
        inner.absent |= thing.absent
        thing.seen = False
        thing.name, thing.type, thing.like, thing.count = inner.name, inner.type, [], None


def _behind_of(root: Any, by_root: dict[int, Thing]) -> Thing | None:
    for child in root.children:
        if child.lower_ == "of":
            for inner in child.children:
                if inner.i in by_root:
                    return by_root[inner.i]
    return None


def _stand_in(things: list[Thing]) -> None:
    """Names "the red one" by what was named before it."""
    for at, thing in enumerate(things):
        if thing.root.lower_ not in STANDS_IN:
            continue
        thing.seen = False
        doc = thing.root.doc
        words = {t.lower_ for t in doc[thing.start : thing.root.i + 1]}
        before = [t for t in things[:at] if t.seen and not t.is_time and not t.absent]
        if not before or (thing.root.i and doc[thing.root.i - 1].lower_ == "each"):
            thing.name = ""  # "each other", or nothing that it could be of
            continue
        counted = [t for t in before if t.count or t.group]
        several = [t for t in before if t.root.tag_ in ("NNS", "NNPS")]
        if counted:
            of = counted[-1]
        else:
            of = before[0] if words & {"another", "other"} or not several else several[-1]
        *first, last = of.name.split(" ")
        one = of.root.lemma_ if of.root.tag_ == "NNS" and thing.root.lower_ != "ones" else last
        thing.name, thing.type, thing.count = " ".join([*first, one]), of.type, None
