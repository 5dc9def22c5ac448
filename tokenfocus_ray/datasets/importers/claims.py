"""A question and its expected answer -> the text of an element: what the image must show.

Elements are asked as "Does the image show ...?", so a question becomes a claim where a rule can be
sure of its subject; else the question itself is kept, with its answer where that is not "yes".
Nothing here parses: a wrong border between subject and predicate would change the meaning.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_NUMBERS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve",
)  # fmt: skip
#: What says only that it is about the image.
_SCENE = re.compile(
    r"\s+(?:present\s+)?(?:in|on) (?:the|this) (?:image|picture|photo|scene)$", re.IGNORECASE
)
_THERE = re.compile(r"(is|are|was|were) there (?:an?y )?(.+)", re.IGNORECASE)
_THIS = re.compile(r"(is|are) (this|it|they|he|she|these|those) (.+)", re.IGNORECASE)
_HAS = re.compile(r"(does|do) (.+?) (have|wear|contain) (.+)", re.IGNORECASE)
_HAS_WORDS = re.compile(r"\b(?:have|wear|contain)\b", re.IGNORECASE)
_BE = re.compile(r"(is|are) (.+)", re.IGNORECASE)
_MANY = re.compile(r"how many (.+?) (?:are|is)(?: there)?(?: (.+))?", re.IGNORECASE)
_COLOR = re.compile(r"what colou?r (is|are) (.+)", re.IGNORECASE)
_MADE = re.compile(r"what (is|are) (.+?) made (?:out )?of", re.IGNORECASE)
_DOING = re.compile(r"what (is|are) (the \S+|an? \S+) (\w+ing(?: \w+)?)", re.IGNORECASE)
_THIRD = {"have": "has", "wear": "wears", "contain": "contains"}
_PLACES = frozenset(
    re.findall(
        r"\w+",
        "about above across against along among around at before behind below beneath beside "
        "between beyond by down for from in inside into near next of off on onto outside over past "
        "through to toward towards under underneath up upon with within without",
    )
)
_ARTICLE = re.compile(r"^(?:an?|any|some) (?=\S)", re.IGNORECASE)
_ANY = {
    "anyone": ("someone", "no one"),
    "anybody": ("somebody", "nobody"),
    "anything": ("something", "nothing"),
}
_DETERMINED = re.compile(
    r"(?:the|this|that|these|those|only|exactly|at|more|less|fewer|several|many|multiple|all|both|"
    r"each|every|no|his|her|its|their|\d+|" + "|".join(_NUMBERS[1:]) + r")\b",
    re.IGNORECASE,
)


def claim(question: str, answer: str, known: Collection[str] = (), prompt: str = "") -> str:
    """What the image must show, if the answer to the question is the expected one.

    >>> claim("Are there any bicycles in the image?", "Yes")
    'bicycles'
    >>> claim("Is the rubix cube purple?", "yes", known=["rubix cube"])
    'the rubix cube is purple'
    >>> claim("Is the rubix cube purple?", "no", known=["rubix cube"])
    'the rubix cube is not purple'
    >>> claim("How many cats are in the picture?", "3")
    'three cats'
    >>> claim("who is on the beach?", "surfer")
    'the answer to "who is on the beach?" is "surfer"'

    Args:
        question: As the benchmark asks it.
        answer: The one that is expected.
        known: Things of the prompt, such as "rubix cube": subjects that can be told.
        prompt: The text prompt, where the singular of a plural is looked for.

    Returns:
        A claim; never empty for a question that is not.
    """
    question, answer = " ".join(question.split()), " ".join(answer.split())
    said = answer.rstrip(".").casefold()
    plain = question.rstrip("?. ")
    if said in ("yes", "no"):
        found = _yes_or_no(plain, said == "yes", known)
        if found is not None:
            return found
        return question if said == "yes" else f'the answer to "{question}" is no'
    found = _counted(plain, said, prompt) or _answered(plain, answer, known)
    return found or f'the answer to "{question}" is "{answer}"'


def things(questions: Iterable[str]) -> list[str]:
    """Things that questions say to be there, and their singulars, which are subjects of others.

    >>> things(["Is there a rubix cube?", "How many cats are in the image?", "Is it red?"])
    ['rubix cube', 'cats', 'cat']
    """
    found = dict[str, None]()
    for question in questions:
        plain = " ".join(question.split()).rstrip("?. ")
        there, many = _THERE.fullmatch(plain), _MANY.fullmatch(plain)
        text = there[2] if there else many[1] if many else ""
        text = _ARTICLE.sub("", _SCENE.sub("", text), count=1) if text else ""
        if text and len(text.split()) <= 3 and not _PLACES & {*text.casefold().split()}:
            found[text] = None
            for one in _singulars(text):
                found[one] = None
    return list(found)


def number_word(text: str) -> str | None:
    """A number as a word, where it is one.

    >>> number_word("3"), number_word("four"), number_word("40"), number_word("red")
    ('three', 'four', '40', None)
    """
    if text.isascii() and text.isdigit():
        return _NUMBERS[int(text)] if len(text) < 3 and int(text) < len(_NUMBERS) else text
    text = {"zero": "no", "none": "no"}.get(text, text)
    return text if text in _NUMBERS else None


def _yes_or_no(plain: str, is_so: bool, known: Collection[str]) -> str | None:
    if there := _THERE.fullmatch(plain):
        return _existence(there[1].lower(), _SCENE.sub("", there[2]), is_so)
    if this := _THIS.fullmatch(plain):
        return f"{this[2].lower()} {this[1].lower()} {'' if is_so else 'not '}{this[3]}"
    if plain.endswith(" there") and (be := _BE.fullmatch(plain.removesuffix(" there"))):
        return _existence(be[1].lower(), be[2], is_so)
    has = _HAS.fullmatch(plain)
    if has and len(_HAS_WORDS.findall(plain)) == 1 and has[2].casefold() not in _ANY:
        if not is_so:
            return f"{has[2]} {has[1].lower()} not {has[3].lower()} {has[4]}"
        verb = has[3].lower()
        return f"{has[2]} {_THIRD[verb] if has[1].lower() == 'does' else verb} {has[4]}"
    if (be := _BE.fullmatch(plain)) and (parts := _parts(be[2], known)):
        subject, predicate = parts
        return f"{subject} {be[1].lower()} {'' if is_so else 'not '}{predicate}"
    return None


def _existence(verb: str, thing: str, is_so: bool) -> str:
    first, _, rest = thing.partition(" ")
    if first.casefold() in _ANY:
        word = _ANY[first.casefold()][0 if is_so else 1]
        return f"{word} {rest}".strip()
    if is_so:
        return thing
    if _DETERMINED.match(thing):
        return f"it is not the case that there {verb} {thing}"
    return f"no {_ARTICLE.sub('', thing, count=1)}"


def _parts(text: str, known: Collection[str]) -> tuple[str, str] | None:
    """Subject and predicate of what follows the verb, where the border is sure."""
    lead = re.match(r"(?:the|an?) ", text, re.IGNORECASE)
    body = text[lead.end() :] if lead else text
    head = text[: len(text) - len(body)]
    words = body.split()
    if lead and len(words) == 2 and not words[0].endswith("'s"):
        return head + words[0], words[1]
    if lead and len(words) == 3 and words[0].endswith(("'s", "s'")):
        return head + " ".join(words[:2]), words[2]
    folded = body.casefold()
    for one in sorted(known, key=len, reverse=True):
        if one and folded.startswith(f"{one.casefold()} "):
            predicate = body[len(one) + 1 :]
            return (head + body[: len(one)], predicate) if _is_sure(predicate, known) else None
    return None


def _is_sure(predicate: str, known: Collection[str]) -> bool:
    """Whether it is no part of the subject: "in the car red" is one half of each."""
    words = predicate.casefold().split()
    if not _PLACES & {words[0]}:
        return True
    at = max(i for i, word in enumerate(words) if word in _PLACES)
    place = re.sub(r"^(?:the|an?) ", "", " ".join(words[at + 1 :]))
    return len(place.split()) <= 1 or place in {one.casefold() for one in known}


def _counted(plain: str, said: str, prompt: str) -> str | None:
    many, number = _MANY.fullmatch(plain), number_word(said)
    if many is None or number is None:
        return None
    thing, rest = many[1], _SCENE.sub("", f" {many[2] or ''}").strip()
    rest = "" if rest.casefold() in ("present", "visible", "shown") else rest
    if number == "one":
        words = set(re.findall(r"[\w'-]+", prompt.casefold()))
        one = next((s for s in _singulars(thing) if s.split()[-1].casefold() in words), None)
        return f"one {one}" if one and not rest else None
    return f"{number} {thing}" + (f" are {rest}" if rest else "")


def _singulars(thing: str) -> list[str]:
    """What the singular of the last word may be."""
    found = []
    for ending, other in (("ies", "y"), ("ves", "f"), ("es", ""), ("s", "")):
        if thing.casefold().endswith(ending) and not thing.casefold().endswith("ss"):
            found.append(thing[: -len(ending)] + other)
    irregular = {"people": "person", "men": "man", "women": "woman", "children": "child"}
    head, _, last = thing.rpartition(" ")
    if last.casefold() in irregular:
        found.append(f"{head} {irregular[last.casefold()]}".strip())
    return found


def _answered(plain: str, answer: str, known: Collection[str]) -> str | None:
    if color := _COLOR.fullmatch(plain):
        return f"{color[2]} {color[1].lower()} {answer}"
    if made := _MADE.fullmatch(plain):
        return f"{made[2]} {made[1].lower()} made of {answer}"
    if doing := _DOING.fullmatch(plain):
        return f"{doing[2]} {doing[1].lower()} {doing[3]} {answer}"
    return None
