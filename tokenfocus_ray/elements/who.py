"""Who does something, to what, and where: words of a parse -> the things that they are of."""

from __future__ import annotations

from typing import Any

from tokenfocus_ray.elements.phrases import Marker
from tokenfocus_ray.elements.things import Thing

#: Types of things that do something.
ALIVE = frozenset(("human", "animal"))
_RELATIVE = frozenset(("who", "which", "that", "whom"))


class Who:
    """The things around the verbs and prepositions of one prompt.

    Args:
        doc: Parsed.
        things: Of it.

    Attributes:
        of: Number of a word -> the thing that it is of.
    """

    def __init__(self, doc: Any, things: list[Thing]) -> None:
        self._doc, self._things = doc, things
        self.of: dict[int, Thing] = {}
        for thing in things:
            for i in range(thing.start, thing.root.i + 1):
                self.of.setdefault(i, thing)
            self.of[thing.root.i] = thing
            if thing.doing is not None:
                self.of[thing.doing.i] = thing

    def subjects(self, verb: Any, depth: int = 0) -> list[Thing]:
        """Who does it."""
        if depth > 4:
            return []
        for child in reversed(list(verb.children)):
            if child.dep_ in ("nsubj", "nsubjpass", "csubj"):
                if child.lower_ in _RELATIVE and verb.dep_ == "relcl":
                    break
                if child.lower_ in ("it", "they", "he", "she", "who", "which", "that"):
                    earlier = [t for t in self._things if t.root.i < child.i and t.seen]
                    return self._matching(child.lower_, earlier)
                if child.i in self.of:
                    joined = [
                        c
                        for c in child.conjuncts
                        if c.i in self.of and c.i > child.i and c.i < verb.i
                    ]
                    return _unique([self.of[child.i], *(self.of[c.i] for c in joined)])
                return []
        head = verb.head
        if verb.dep_ in ("acl", "relcl") and head.i in self.of:
            return self._doers(verb, self.of[head.i])
        if verb.dep_ in ("conj", "advcl", "xcomp", "ccomp", "dep") and head is not verb:
            if head.tag_.startswith("VB"):
                return self.subjects(head, depth + 1)
            if head.i in self.of:
                return [self.of[head.i]]
        if verb.tag_ in ("VBG", "VBN") and verb.dep_ in ("ROOT", "pcomp", "appos"):
            near = [t for t in self._things if t.root.i == verb.i - 1]
            return near
        return []

    def direct(self, verb: Any) -> list[Thing]:
        """To what it is done."""
        found = [c for c in verb.children if c.dep_ in ("dobj", "obj") and c.i in self.of]
        things = [self.of[c.i] for c in found]
        for token in found:
            things += [
                self.of[c.i]
                for c in token.conjuncts
                if c.i > token.i and c.i in self.of and not self._acts(c)
            ]
        return [t for t in _unique(things) if t.name]

    def objects(self, marker: Marker) -> list[Thing]:
        """What stands behind a preposition."""
        last = self._doc[marker.end - 1]
        found = [c for c in last.children if c.dep_ in ("pobj", "pcomp") and c.i in self.of]
        if not found and marker.words > 1:
            found = [self._doc[i] for i in range(marker.end, min(marker.end + 4, len(self._doc)))
                     if i in self.of and self.of[i].root.i >= marker.end][:1]  # fmt: skip
        things = [self.of[t.i] for t in found]
        for token in found:
            things += [
                self.of[c.i] for c in token.conjuncts
                if c.i > token.i and c.i in self.of and self.of[token.i].seen
                and not self._parted(token, c)
            ]  # fmt: skip
        return _unique(things)

    def around(self, head: Any, before: int) -> list[Thing]:
        """What a preposition says something of."""
        if head.i in self.of and self.of[head.i].root.i < before:
            return [self.of[head.i]]
        if head.tag_.startswith("VB") and (found := self.subjects(head)):
            return found
        earlier = [t for t in self._things if t.root.i < before and t.seen and not t.absent]
        same = [t for t in earlier if self._doc[t.root.i].sent == self._doc[before].sent]
        return (same or earlier)[-1:]

    def _doers(self, verb: Any, thing: Thing) -> list[Thing]:
        """Who does what a participle behind a noun says.

        The parser takes the nearest noun; a boy, not the shirt that he wears, is who poses.
        """
        if verb.tag_ == "VBG" and verb.dep_ == "acl" and thing.type not in ALIVE:
            sentence = self._doc[thing.root.i].sent.start
            earlier = [t for t in self._things if sentence <= t.root.i < thing.root.i]
            alive = [t for t in earlier if t.type in ALIVE and t.seen and not t.absent]
            if alive and verb.lemma_ not in ("hang", "lie", "rest", "flow", "rise", "fall"):
                return alive[-1:]
        root = thing.root
        follows = verb.dep_ == "acl" and verb.i == root.i + 1 and root.i - root.head.i <= 4
        if root.dep_ == "conj" and follows and root.head.i in self.of:
            other = self.of[root.head.i]
            alike = (other.type in ALIVE) == (thing.type in ALIVE)
            if alike or root.head.dep_ not in ("dobj", "pobj"):
                return _unique([other, thing])
        return [thing]

    def _matching(self, pronoun: str, earlier: list[Thing]) -> list[Thing]:
        human = pronoun in ("he", "she", "who")
        fits = [t for t in earlier if not human or t.type == "human"]
        if pronoun == "they":
            fits = [t for t in fits if t.root.tag_ in ("NNS", "NNPS") or t.count] or fits
        return fits[-1:] if pronoun in _RELATIVE else fits[:1]

    def _acts(self, noun: Any) -> bool:
        """Whether it does something itself: "a hat and a dog wearing glasses"."""
        return any(c.dep_ == "acl" and c.tag_ == "VBG" for c in noun.children)

    def _parted(self, one: Any, other: Any) -> bool:
        """Whether a comma without "and" stands between: a new clause rather than a list."""
        between = self._doc[one.i + 1 : other.i]
        return any(t.text == ";" for t in between) or any(
            t.lower_ in ("but", "while") for t in between
        )


def _unique(things: list[Thing]) -> list[Thing]:
    return list({id(t): t for t in things}.values())
