"""Noun phrases of a parsed prompt, read word by word: name, colour, number, owner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tokenfocus_ray.elements.lexicon import (
    COLORS,
    INVISIBLE,
    MANY,
    MATERIALS,
    NAMES,
    NO_THINGS,
    SHADES,
    TIMES,
    noun_type,
    words,
)
from tokenfocus_ray.elements.things import STANDS_IN, Thing

_OF_VERBS = frozenset(("nsubj", "nsubjpass", "pobj", "dobj", "appos", "conj", "ROOT"))
#: What is one, though it looks like several.
_PLURALS = words("glasses sunglasses pants jeans shorts scissors goggles binoculars headphones")
_IN_NAME = ("compound", "amod", "nmod", "nsubj")
_NOT_COUNTED = re.compile(
    r"1[0-9]{3}s?|20[0-9]{2}s?|[0-9]+(?:st|nd|rd|th|s|d|mm|k|px)|[0-9]+[/:.][0-9]+"
)
#: What stands before a number for its own sake.
_ABOUT = words(
    "no more less fewer than at least most about around almost nearly exactly only over under up to"
)
_QUANTIFIERS = frozenset(("all", "every", "each", "both"))


def noun_phrases(doc: Any) -> Iterator[tuple[Any, int, Any]]:
    """Last word and first of each noun phrase, and what it does where the parser took that in."""
    found: dict[int, tuple[int, Any]] = {}
    inside: set[int] = set()
    for chunk in doc.noun_chunks:
        inside |= set(range(chunk.start, chunk.root.i + 1))
        start, root = chunk.start, chunk.root
        for verb in chunk[1:]:
            before = doc[verb.i - 1]
            if verb.i > root.i or not verb.lower_.endswith("ing") or not _may_do(before, verb):
                continue
            found[before.i] = (start, verb)
            start = verb.i + 1
        before = doc[root.i - 1] if root.i else root
        if start < before.i and _is_singular(doc[start]) and _is_verb_of(root, before):
            found[before.i] = (start, root)
            start = root.i + 1
        if start <= root.i:
            found[root.i] = (start, None)
        for token in chunk:
            if token.dep_ == "poss" and token.pos_ in ("NOUN", "PROPN"):
                found[token.i] = (_left(token), None)
    for token in doc:
        stands_in = token.lower_ in STANDS_IN and token.dep_ in _OF_VERBS
        if token.i in inside:
            continue
        is_noun = token.pos_ in ("NOUN", "PROPN") or _is_one(doc, token)
        of_another = token.dep_ == "compound" and token.head.pos_ in ("NOUN", "PROPN")
        if stands_in or (is_noun and not of_another):
            root = token.head if _is_whole_name(token) else token
            found[root.i] = (_left(token), None)
    for first in doc[:-1]:  # known names are one, whatever the parser makes of them
        if (first.i in found or first.i + 1 in found) and _is_known(first, doc[first.i + 1]):
            starts = [found.pop(i)[0] for i in (first.i, first.i + 1) if i in found]
            found[first.i + 1] = (min([*starts, _left(first)]), None)
    yield from ((doc[i], *found[i]) for i in sorted(found))


def _is_known(first: Any, last: Any) -> bool:
    return any(f"{first.lower_} {word}" in NAMES for word in (last.lower_, last.lemma_.lower()))


def _is_one(doc: Any, token: Any) -> bool:
    """Whether a verb or an adjective is one of the living, by the article before it."""
    living = noun_type(token.lower_, token.lower_) in ("human", "animal")
    return living and token.i > 0 and doc[token.i - 1].lower_ in ("a", "an", "the")


def _is_singular(token: Any) -> bool:
    return token.lower_ in ("a", "an", "another", "one", "each", "every")


def _is_verb_of(word: Any, noun: Any) -> bool:
    """Whether what looks like a plural is what one does: "a cat pounces"."""
    is_thing = noun_type(word.lower_, word.lemma_.lower()) != "object" or word.lower_ in _PLURALS
    counts = noun.lower_ in ("dozen", "hundred", "thousand")
    return word.tag_ == "NNS" and noun.tag_ == "NN" and not is_thing and not counts


def _is_whole_name(token: Any) -> bool:
    """Whether a noun and the word behind it, which the parser took for a verb, are one name."""
    head = token.head
    return head.i == token.i + 1 and f"{token.lower_} {head.lower_}" in NAMES


def _may_do(noun: Any, verb: Any) -> bool:
    """Whether two words of a phrase are someone and what they do: "a detective examining"."""
    if noun.pos_ not in ("NOUN", "PROPN"):
        return False
    kind = noun_type(noun.lower_, noun.lemma_.lower())
    is_verb = verb.tag_ == "VBG" and verb.pos_ == "VERB"
    return kind in ("human", "animal") or noun.tag_ == "NNS" or is_verb


def _left(token: Any) -> int:
    own = [c.i for c in token.lefts if c.dep_ in ("det", "amod", "compound", "nummod", "nmod")]
    return int(min([*own, token.i]))


def read_thing(doc: Any, root: Any, start: int) -> Thing | None:
    """The thing that a noun phrase names; None where it is a pronoun.

    Args:
        doc: Parsed.
        root: Last word of the phrase.
        start: Number of its first.
    """
    lemma = root.lemma_.lower()
    if root.pos_ == "PRON" and root.lower_ not in STANDS_IN:
        return None
    if not any(c.isalpha() for c in root.text):
        return None
    thing = Thing(root, start, "", "object")
    names = [root]
    if root.i and _is_known(doc[root.i - 1], root):
        names.append(doc[root.i - 1])
    owner, made_of = "", list[Any]()
    for token in reversed(doc[start : root.i]):
        of_name = token.head in names or token.head in made_of
        if token in names:
            continue
        if token.dep_ == "poss" or (token.dep_ == "case" and token.head.dep_ == "poss"):
            if token.dep_ == "poss" and token.pos_ in ("NOUN", "PROPN"):
                owner = f"{token.text}'s "
        elif token.dep_ == "det" or token.pos_ == "DET" or token.tag_ == "PDT":
            thing.absent |= token.lower_ in ("no", "neither")
            if token.lower_ in _QUANTIFIERS:
                thing.every = token.lower_
        elif token.lower_ in MANY or token.lower_ in ("dozen", "couple"):
            half = token.i > 1 and doc[token.i - 2 : token.i].text.lower() == "half a"
            many = (
                f"{doc[token.i - 1].lower_} " if token.i and doc[token.i - 1].tag_ == "CD" else ""
            )
            thing.count = "half a dozen" if half else many + token.lower_
        elif (token.pos_ == "NUM" or token.like_num) and of_name:
            _number(doc, thing, token, start)
        elif of_name and token.dep_ in _IN_NAME and token.pos_ in ("NOUN", "PROPN"):
            if "-" in token.text or _is_attribute(token, names):
                shade = doc[token.i - 1].lower_ if token.i > start else ""
                text = f"{shade} {token.lower_}" if shade in SHADES else token.lower_
                thing.like.append((text, token.i))
                made_of.append(token)
            else:
                names.append(token)
        elif token.lower_ in ("more", "fewer", "less") and of_name:
            thing.more = token.lower_
        elif of_name and _describes(token):
            text = _with_own(doc, token, start)
            if _names_it(text, names):
                names.append(token)
            elif text.lower() not in INVISIBLE:
                thing.like += _each(doc, token, text)
    thing.like += [
        (t.lower_, t.i)
        for t in root.rights
        if t.dep_ == "amod" and t.pos_ == "ADJ" and t.lower_ not in INVISIBLE
        if t.i == root.i + 1 and not any(c.dep_ == "prep" for c in t.children)
    ]
    thing.like.sort(key=lambda pair: pair[1])
    _join_shades(thing.like)
    words = [_cased(t) for t in sorted(names, key=lambda t: t.i)]
    first, last = min(t.i for t in names), root.i
    if last - first + 1 > len(names):  # t-shirt, and other pieces between
        between = doc[first : last + 1].text
        words = [between if "-" in between else " ".join(words)]
    thing.name = owner + " ".join(words)
    thing.type = noun_type(" ".join(words).lower(), lemma)
    thing.is_time = lemma in TIMES
    thing.seen = not (lemma in NO_THINGS or root.lower_ in NO_THINGS) or len(names) > 1
    if any(t.dep_ == "neg" for t in root.children) or _not_a(doc, start):
        thing.absent = True
    return thing


def _cased(token: Any) -> str:
    """Names keep their capitals; what begins a sentence does not."""
    is_name = token.pos_ == "PROPN" and not token.is_sent_start
    return str(token.text if is_name or token.text.isupper() else token.lower_)


def _not_a(doc: Any, start: int) -> bool:
    """Whether "not a single", "not any" stands before."""
    words = [t.lower_ for t in doc[max(0, start - 1) : start + 1]]
    return words[:1] == ["not"] and doc[start].lower_ in ("a", "an", "any")


def _number(doc: Any, thing: Thing, token: Any, start: int) -> None:
    is_mixed = token.text[0].isdigit() and any(c.isalpha() for c in token.text)
    if token.tag_ != "CD" or (is_mixed and not _NOT_COUNTED.fullmatch(token.lower_)):
        return  # "first", "1girl"
    if _NOT_COUNTED.fullmatch(token.lower_):
        thing.like.append((token.text, token.i))
        return
    if thing.count is not None and thing.count.endswith("dozen"):
        return  # which took it along
    behind = [thing.count] if thing.count in ("hundred", "thousand") else []
    first, words_before, before = min(start, token.left_edge.i), list[str](), token.i - 1
    while before >= first and (doc[before].lower_ in _ABOUT or doc[before].tag_ == "CD"):
        words_before.insert(0, doc[before].text)
        before -= 1
    thing.count = " ".join([*words_before, token.text, *behind]).lower()


def _is_attribute(token: Any, names: list[Any]) -> bool:
    """Whether a noun before another is its colour or what it is made of."""
    pair = f"{token.lower_} {names[-1].lower_}"
    return pair not in NAMES and token.lower_ in COLORS | MATERIALS


def _describes(token: Any) -> bool:
    if token.pos_ == "ADJ" and token.dep_ == "compound":
        return True
    return token.dep_ in ("amod", "nmod", "advmod", "acomp", "npadvmod", "conj") and (
        token.pos_ in ("ADJ", "VERB", "ADV", "NOUN", "PROPN") and token.tag_ not in ("RBS", "WRB")
    )


def _names_it(text: str, names: list[Any]) -> bool:
    return f"{text.lower()} {' '.join(t.lower_ for t in reversed(names))}" in NAMES


def _with_own(doc: Any, token: Any, start: int) -> str:
    """An adjective with what stands before it for its own sake: "freshly baked", "neon green"."""
    left = max(token.left_edge.i, start)
    while left < token.i and (
        doc[left].pos_ in ("DET", "PUNCT", "CCONJ", "NUM") or doc[left].lower_ in MANY
    ):
        left += 1
    return str(doc[left : token.i + 1].text).replace(" - ", "-").lower()


def _each(doc: Any, token: Any, text: str) -> list[tuple[str, int]]:
    """Adjectives that are joined; colours stay together, since one thing has them all."""
    joined = [t for t in token.conjuncts if t.i > token.i and t.i < token.head.i]
    if not joined:
        return [(text, token.i)]
    if all(t.lower_ in COLORS for t in (token, *joined)):
        return [(str(doc[token.i : joined[-1].i + 1].text).lower(), token.i)]
    return [(text, token.i), *((t.lower_, t.i) for t in joined if t.lower_ not in INVISIBLE)]


def _join_shades(like: list[tuple[str, int]]) -> None:
    """Makes one colour of "neon yellow", also where the parser has two adjectives."""
    for at in range(len(like) - 2, -1, -1):
        (text, i), (color, j) = like[at], like[at + 1]
        if text in SHADES and j == i + 1 and color.split(" ")[0] in COLORS:
            like[at : at + 2] = [(color if color.startswith(text) else f"{text} {color}", j)]
