"""A prompt before it is parsed: what is no English, what is quoted, what is said of the medium."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from tokenfocus_ray.elements.lexicon import words

#: Most characters that are parsed: the parser's memory grows with them.
MAX_CHARACTERS = 10_000
#: Of the letters, so many are Latin in an English prompt with a few names.
_LEAST_LATIN = 0.7
_FOREIGN = words(
    """ein eine einer einem einen der die das und mit auf im ist neben unter vor einem von zwei un
    une le la les des du et avec dans sur est deux trois aux chat el los las y con sobre en una
    unos dos tres junto de del il lo gli di che con sul sulla nel nella due della um uma os as
    com em dois sobre da do no na een het op met van naast zwart en ett och med på är"""
)
#: Of these, some are English words or names too, so that one alone says nothing.
_ENGLISH = words(
    """a an the of in on at with and to from by is are next under over behind for no two three one
    without that its his her their into near"""
)
_SHARED = words("""a no on as an die do in is me as de""")
_URL = re.compile(r"(?:https?://|www\.)\S+")
_OPTIONS = re.compile(r"(?:^|\s)--\w+(?:\s+[\w.:/]+)?|<\w+:[^<>]*>")
_WEIGHT = re.compile(r"[\[({]+([^\[\](){}:]+)(?::\s*-?[\d.]+)?[\])}]+")
_QUOTED = re.compile(
    r'"([^"]{1,200})"|“([^”]{1,200})”|«([^»]{1,200})»|(?<!\w)\'([^\']{1,200})\'(?!\w)'
)
_WRITES = re.compile(
    r"\b(?:text|words?|letters?|phrase|message|sign|title|label|logo|caption|slogan|quote|"
    r"says?|saying|reads?|reading|writes?|writing|written|spells?|spelling|spelled|titled|"
    r"inscribed|inscription|labell?ed|printed|lettering|name|banner|poster)\b[^.;]{0,40}$",
    re.IGNORECASE,
)
_NOUNS = (
    r"photo|photograph|picture|image|shot|view|painting|watercolou?r|drawing|sketch|illustration|"
    r"rendering|render|cartoon|artwork|portrait|snapshot|closeup|close-up|close up|depiction|"
    r"print|mural|sculpture|poster|screenshot"
)
_MEDIUM = re.compile(
    rf"^\s*(?P<what>(?:an?|the|this|one)?\s*(?:[\w'-]+\s+(?:and\s+)?){{0,3}}?(?:{_NOUNS}))\s+"
    rf"(?:of|showing|depicting)\s+",
    re.IGNORECASE,
)
#: Any picture is one of these.
_PLAIN = frozenset(("photo", "picture", "image", "view", "shot", "depiction", "photograph",
                    "snapshot"))  # fmt: skip
_STYLES = re.compile(
    r"\b((?:(?:oil|acrylic|watercolou?r|digital|matte|fresco|impressionist)\s+painting)|"
    r"digital art|"
    r"pixel art|concept art|line art|pop art|3d render(?:ing)?|(?:charcoal|pencil|ink)\s+"
    r"(?:sketch|drawing)|watercolou?r|comic book style|anime style|cartoon style|low poly|"
    r"isometric|"
    r"(?:detailed |black and white )(?:sketch|photograph|photo|drawing|painting)|"
    r"(?:in the style of|in style of) [A-Z][\w'-]+(?:\s[A-Z][\w'-]+)*)",
    re.IGNORECASE,
)
#: Wishes about quality, which no picture can be asked about.
_QUALITY = re.compile(
    r"\b(?:trending on \w+|artstation(?: hq)?|(?:highly|ultra|hyper|super|insanely|extremely) "
    r"?-?(?:detailed|realistic|quality)|masterpiece|best quality|high quality|high resolution|"
    r"sharp focus|(?:4|8|16)k(?: uhd| hd| resolution)?|uhd|hdr|octane render|unreal engine(?: \d)?|"
    r"award[- ]winning|photorealistic|hyperrealistic|intricate details?|dslr|"
    r"f/\d[\d.]*|\d+mm(?: lens)?)\b",
    re.IGNORECASE,
)
_SIDE_TO = re.compile(r"\bis (left|right) to\b", re.IGNORECASE)
_SIDES = re.compile(r"(?<!the )(?<!its )(?<!his )(?<!her )\b(left|right) of\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt for the parser.

    Attributes:
        text: What is parsed; empty where there is nothing to parse.
        written: Texts that the picture is to show.
        styles: What is said of the medium: ``oil painting``.
        cut: Whether the prompt is longer than what is parsed.
        problem: Why there is nothing to parse.
    """

    text: str
    written: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    cut: bool = False
    problem: str | None = None


def prepare(prompt: str) -> Prepared:
    r"""Parts what is parsed from what is known without.

    >>> one = prepare('An oil painting of a sign that says "OPEN", 4k')
    >>> one.text, one.written, one.styles
    ('a sign that says', ('OPEN',), ('oil painting',))
    >>> prepare("\u732b\u3068\u72ac").problem
    'the rules know English only, and 0 % of its letters are Latin'
    """
    if problem := _problem(prompt):
        return Prepared("", problem=problem)
    cut = len(prompt) > MAX_CHARACTERS
    start = prompt[:MAX_CHARACTERS]
    start = (start.rpartition(" ")[0] or start) if cut else start
    text = _OPTIONS.sub(" ", _URL.sub(" ", start))
    text = text.replace("\u2019", "'").replace("\u2018", "'")
    text = "".join(
        c if unicodedata.category(c)[0] not in "CS" or c in "+$%&" else " " for c in text
    )
    text, written = _without_texts(text)
    text = _WEIGHT.sub(r" \1 ", text)
    text, styles = _without_styles(text)
    text = _SIDES.sub(r"to the \1 of", _SIDE_TO.sub(r"is to the \1 of", text))
    if sum(c.isupper() for c in text) > 0.8 * sum(c.isalpha() for c in text) and " " in text:
        text = text.lower()  # the parser takes capitals for names
    text = re.sub(r"\s*,(?:\s*,)+", ",", " ".join(text.split())).strip(" ,;:")
    text = text.removesuffix(" .") if not written else text
    return Prepared(text if any(c.isalpha() for c in text) else "", written, styles, cut)


def _problem(prompt: str) -> str | None:
    letters = [c for c in prompt if c.isalpha()]
    if not prompt.strip():
        return "the prompt is empty"
    if not letters:
        return "the prompt has no letters"
    latin = sum(unicodedata.name(c, "").startswith("LATIN") for c in letters) / len(letters)
    if latin < _LEAST_LATIN:
        return f"the rules know English only, and {latin:.0%} of its letters are Latin".replace(
            "%", " %"
        )
    words = re.findall(r"[^\W\d_]+", prompt.lower())
    foreign = [w for w in words if w in _FOREIGN and w not in _SHARED]
    english = [w for w in words if w in _ENGLISH and w not in _SHARED]
    if len(set(foreign)) > 1 and len(foreign) > 2 * len(english):
        shown = ", ".join(repr(w) for w in dict.fromkeys(foreign))
        return f"the rules know English only, and its words seem to be of another language: {shown}"
    return None


def _without_texts(text: str) -> tuple[str, tuple[str, ...]]:
    """The prompt without texts that the picture is to show; other quotes lose their marks."""
    written: list[str] = []
    pieces, at = list[str](), 0
    for match in _QUOTED.finditer(text):
        inside = next(g for g in match.groups() if g is not None).strip()
        pieces.append(text[at : match.start()])
        at = match.end()
        if inside and _WRITES.search("".join(pieces)):
            written.append(" ".join(inside.split()))
        else:
            pieces.append(f" {inside} ")
    return "".join([*pieces, text[at:]]), tuple(written)


def _without_styles(text: str) -> tuple[str, tuple[str, ...]]:
    styles: list[str] = []
    if match := _MEDIUM.match(text):
        what = re.sub(r"^(?:an?|the|this|one)\s+", "", match["what"].strip(), flags=re.IGNORECASE)
        if what.lower() not in _PLAIN:
            styles.append(what)
        text = text[match.end() :]
    for found in _STYLES.finditer(text):
        styles.append(" ".join(found[1].split()))
    text = _QUALITY.sub(" ", _STYLES.sub(" ", text))
    return text, tuple(dict.fromkeys(styles))
