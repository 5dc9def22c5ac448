"""Words as elements write them: what is done in -ing, what is so with its adverb."""

from __future__ import annotations

from typing import Any

_DOUBLED = frozenset("bdgmnprt")
_VOWELS = frozenset("aeiou")


def adjective(doc: Any, word: Any) -> str:
    """With what stands before it for its own sake: "brightly lit"."""
    left = word.i
    while (
        left > 0
        and doc[left - 1].head is word
        and doc[left - 1].dep_ in ("advmod", "npadvmod", "compound", "amod", "punct")
        and doc[left - 1].lower_ not in ("all", "also", "both", "only", ",", "-", "not")
    ):
        left -= 1
    return str(doc[left : word.i + 1].text).lower()


def verb_form(verb: Any) -> str:
    """What is done as an element says it: "cat sleeping", "tree covered"."""
    passive = verb.tag_ == "VBN" and (
        verb.dep_ in ("acl", "amod", "advcl", "ROOT", "conj", "ccomp", "relcl")
        and not any(c.lemma_ == "have" and c.dep_ == "aux" for c in verb.children)
    )
    form = verb.lower_ if passive or verb.tag_ == "VBG" else gerund(verb.lemma_.lower())
    particles = [c.lower_ for c in verb.children if c.dep_ == "prt"]
    return " ".join([form, *particles])


def gerund(lemma: str) -> str:
    """The form in -ing.

    >>> [gerund(v) for v in ("sit", "ride", "play", "lie", "see", "rain", "open")]
    ['sitting', 'riding', 'playing', 'lying', 'seeing', 'raining', 'opening']
    """
    if lemma.endswith("ie"):
        return lemma[:-2] + "ying"
    if lemma.endswith("e") and not lemma.endswith(("ee", "oe", "ye")):
        return lemma[:-1] + "ing"
    short = len(lemma) > 2 and lemma[-1] in _DOUBLED and lemma[-2] in _VOWELS
    one_syllable = sum(a in _VOWELS for a in lemma) == 1
    if short and one_syllable and lemma[-3] not in _VOWELS:
        return lemma + lemma[-1] + "ing"
    return lemma + "ing"
