"""What the things of a prompt do, and where they are: claims of a subject and an object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenfocus_ray.elements.forms import adjective, gerund, verb_form
from tokenfocus_ray.elements.lexicon import INVISIBLE, attribute_type, words
from tokenfocus_ray.elements.phrases import MOVES, PLACES, Marker
from tokenfocus_ray.elements.things import STANDS_IN, Thing
from tokenfocus_ray.elements.who import ALIVE, Who

#: Verbs that say that something is, or what a picture has in it.
_NO_ACTION = words(
    """be have contain include feature depict show see appear seem look say read become get remain
    stay do let make use need want like"""
)  # fmt: skip
#: Of these, some are what one does.
_BY_THE_LIVING = frozenset(("show", "look", "read", "use", "make"))
_SIDES = frozenset(("left", "right", "top", "bottom", "side", "middle", "center"))
_LINKS = words("""be become look appear seem remain stay turn feel get stand lie keep""")
_HAS = frozenset(("have", "contain", "include", "feature"))
#: Prepositions after which there is no claim about a picture.
_UNSEEN = frozenset(("like", "as", "than", "despite", "except", "about", "per", "via", "during",
                     "since", "until", "before", "after"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that the prompt says of a thing.

    Attributes:
        text: The claim in itself.
        type: One of ``TYPES``.
        at: Its place in the prompt.
    """

    text: str
    type: str
    at: int


class Relations:
    """Finds the claims of one prompt.

    Args:
        doc: Parsed.
        things: Of it.
        markers: Of it.
    """

    def __init__(self, doc: Any, things: list[Thing], markers: list[Marker]) -> None:
        self._doc, self._things, self._markers = doc, things, markers
        self._who = Who(doc, things)
        self._of = self._who.of
        self._verbs = {m.start for m in markers if m.words > 1 and doc[m.start].tag_ == "VBN"}

    def claims(self) -> Iterator[Claim]:
        """All claims; things that are said to be absent become so."""
        for marker in self._markers:
            if marker.words == 1 and marker.name == "without":
                yield from self._without(marker)
        for thing in self._things:
            yield from self._done(thing)
            yield from self._more(thing)
        for token in self._doc:
            if token.tag_.startswith("VB") and token.pos_ in ("VERB", "AUX"):
                yield from self._said_by(token)
        for marker in self._markers:
            if marker.name and marker.name != "without":
                yield from self._placed(marker)

    def _without(self, marker: Marker) -> Iterator[Claim]:
        head = self._doc[marker.start].head
        subjects = self._who.around(head, marker.start)
        for thing in self._who.objects(marker):
            thing.absent = True
            for subject in subjects[:1]:
                if subject is not thing and subject.name:
                    yield Claim(f"{subject.name} without {thing.name}", "other", marker.start)

    def _done(self, thing: Thing) -> Iterator[Claim]:
        """What a thing does by a word that the parser took for a part of its name."""
        verb = thing.doing
        if verb is None or thing.absent or not thing.name:
            return
        behind = next((t for t in self._things if t.start == verb.i + 1 and t.name), None)
        form = verb.lower_ if verb.lower_.endswith("ing") else gerund(verb.lemma_.lower())
        start = f"{thing.name} {form}"
        said = [f"{start} {behind.name}"] if behind else self._moved(verb, start, [])
        for text in said or [start]:
            yield Claim(text, "activity", verb.i)

    def _more(self, thing: Thing) -> Iterator[Claim]:
        """Claims such as "more cats than dogs"."""
        if thing.more is None:
            return
        than = next((t.i for t in self._doc[thing.root.i :] if t.lower_ == "than"), None)
        other = next((t for t in self._things if than is not None and t.root.i > than), None)
        if other is not None and other.name:
            yield Claim(f"{thing.more} {thing.name} than {other.name}", "counting", thing.root.i)

    def _said_by(self, verb: Any) -> Iterator[Claim]:
        own = self._of.get(verb.i)
        is_name = own is not None and (
            own.root.i == verb.i or verb.dep_ in ("amod", "compound") or own.doing is not None
        )
        if verb.i in self._verbs or is_name:
            return
        lemma = verb.lemma_.lower()
        subjects = self._who.subjects(verb)
        denied = _is_denied(verb)
        if denied and lemma == "be" and any(c.dep_ == "expl" for c in verb.children):
            for child in verb.children:  # "there isn't a cloud"
                if child.i in self._of and child.dep_ in ("attr", "nsubj", "dobj"):
                    self._of[child.i].absent = True
            return
        for subject in subjects[:1]:
            between = self._doc[subject.root.i + 1 : verb.i]
            denied |= any(t.lower_ in ("neither", "none", "nobody") for t in between)
        if lemma in _LINKS:
            yield from self._described(verb, subjects, denied)
        objects = self._who.direct(verb)
        if denied or any(s.absent for s in subjects):
            for thing in objects:
                thing.absent |= denied
        if lemma in _HAS:
            for subject in subjects:
                for thing in objects:
                    word = "without" if denied or thing.absent else "with"
                    kind = "other" if word == "without" else "attribute"
                    yield Claim(f"{subject.name} {word} {thing.name}", kind, verb.i)
            return
        shows = lemma in _BY_THE_LIVING and any(s.type in ALIVE for s in subjects)
        if (
            (lemma in _NO_ACTION and not shows)
            or verb.pos_ == "AUX"
            or verb.dep_ in ("aux", "auxpass")
        ):
            return
        form = verb_form(verb)
        for subject in subjects:
            if not subject.name or subject.absent:
                continue
            start = f"{subject.name} not {form}" if denied else f"{subject.name} {form}"
            is_state = form.split(" ")[0] == verb.lower_ and verb.tag_ == "VBN"
            kind = "other" if denied else "attribute" if is_state else "activity"
            said = [f"{start} {o.name}" for o in objects if o is not subject and o.name]
            said += self._moved(verb, start, objects)
            for text in said or [start]:
                yield Claim(text, kind, verb.i)

    def _moved(self, verb: Any, start: str, objects: list[Thing]) -> list[str]:
        """Claims such as "leaping over log", where the preposition is part of what is done."""
        found = []
        for marker in self._markers:
            if self._doc[marker.start].head.i != verb.i or marker.words > 1:
                continue
            if marker.name in _UNSEEN or marker.name == "without":
                continue
            is_place = marker.name in PLACES and marker.name not in MOVES
            if is_place and not (marker.name == "by" and verb.tag_ == "VBN"):
                continue
            direct = f" {objects[0].name}" if objects and objects[0].name else ""
            found += [
                f"{start}{direct} {marker.name} {o.name}"
                for o in self._who.objects(marker)
                if o.name and not o.is_time and not o.absent and (o.seen or marker.name in MOVES)
            ]
        return found if not objects else [f for f in found if " for " not in f]

    def _described(self, verb: Any, subjects: list[Thing], denied: bool) -> Iterator[Claim]:
        for child in verb.children:
            if child.dep_ not in ("acomp", "oprd") or child.pos_ not in ("ADJ", "VERB"):
                continue
            if child.tag_ in ("JJR", "RBR") or any(
                c.lower_ in ("more", "less", "than") for c in child.children
            ):
                yield from self._compared(verb, child, subjects)
                continue
            for word in (child, *(t for t in child.conjuncts if t.pos_ in ("ADJ", "VERB"))):
                text = adjective(self._doc, word)
                if text in INVISIBLE:
                    continue
                for thing in subjects:
                    if not thing.name:
                        continue
                    if denied:
                        yield Claim(f"{thing.name} that is not {text}", "other", word.i)
                    elif thing.every:
                        name = f"{thing.every} {thing.name}"
                        be = "is" if thing.every in ("every", "each") else "are"
                        yield Claim(f"{name} {be} {text}", attribute_type(text), word.i)
                    else:
                        yield Claim(thing.called(text), attribute_type(text), word.i)

    def _compared(self, verb: Any, word: Any, subjects: list[Thing]) -> Iterator[Claim]:
        than = next((t for t in word.subtree if t.lower_ == "than"), None)
        others = [] if than is None else [
            self._of[t.i] for t in than.subtree if t.i in self._of and t.i == self._of[t.i].root.i
        ]  # fmt: skip
        text = adjective(self._doc, word)
        for thing in subjects[:1]:
            for other in others[:1]:
                if thing.name and other.name and thing is not other:
                    yield Claim(f"{thing.name} {text} than {other.name}", "attribute", word.i)

    def _placed(self, marker: Marker) -> Iterator[Claim]:
        name = marker.name
        if name in _UNSEEN:
            return
        head = self._doc[marker.start].head
        if marker.words > 1 and head.i in range(marker.start, marker.end):
            head = self._doc[head.i].head
        objects = self._who.objects(marker)
        if any(o.is_time for o in objects):
            yield from _timed(name, objects, marker.start)
            return
        is_place = name in PLACES or marker.words > 1
        is_verb = head.pos_ in ("VERB", "AUX") and head.i not in self._of
        if is_verb and (
            not is_place
            or name == "by"
            or (name in MOVES and name not in ("across", "along", "past"))
        ):
            return  # said with the verb
        if not is_place and name not in ("with", "of"):
            return
        if name == "between" and len(objects) > 1:
            yield from self._between(objects, head, marker.start)
            return
        subjects = self._who.around(head, marker.start)
        beside = self._of.get(marker.start - 1)
        on_side = all(o.root.lower_ in _SIDES for o in objects)
        if objects and on_side and beside is not None and beside.seen:
            subjects = [beside]  # "a cup on the left and a plate on the right"
        kind = "spatial" if name in PLACES else marker.type
        for thing in objects:
            for subject in subjects:
                if not self._can_be(subject, thing, name):
                    continue
                if thing.absent or subject.absent:
                    if name == "with" and not subject.absent:
                        yield Claim(f"{subject.name} with no {thing.name}", "other", marker.start)
                    continue
                if is_verb and _is_denied(head):
                    yield Claim(f"{subject.name} not {name} {thing.name}", "other", marker.start)
                else:
                    yield Claim(f"{subject.name} {name} {thing.name}", kind, marker.start)

    def _between(self, objects: list[Thing], head: Any, at: int) -> Iterator[Claim]:
        names = " and ".join(o.name for o in objects if o.name)
        for subject in self._who.around(head, at):
            if subject.seen and subject.name and not subject.absent:
                yield Claim(f"{subject.name} between {names}", "spatial", at)

    def _can_be(self, subject: Thing, thing: Thing, name: str) -> bool:
        if subject is thing or not subject.name or not thing.name or subject.name == thing.name:
            return False
        if name == "of" and (not subject.seen or (thing.group is not None and not thing.seen)):
            return False
        return subject.seen or subject.root.lower_ in STANDS_IN


def _is_denied(verb: Any) -> bool:
    return any(c.dep_ == "neg" or c.lower_ in ("never", "not") for c in verb.children)


def _timed(name: str, objects: list[Thing], at: int) -> Iterator[Claim]:
    for thing in objects[:1]:
        like = " ".join(text for text, _ in thing.like)
        yield Claim(" ".join(w for w in (name, like, thing.name) if w), "other", at)
