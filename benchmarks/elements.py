"""How well elements by rules follow labelled ones, and how fast they are found.

    TOKENFOCUS_RATINGS=FOLDER python benchmarks/elements.py

The folder holds geneval_human_elements.csv (GenEval, MIT), tifa160_elements.csv (propositions of
DSG over the prompts of TIFA160, Apache-2.0) and genai_bench_527.csv (GenAI-Bench, Apache-2.0);
without it, a folder `shared/data/human_ratings` above this file is looked for.

- quality: precision and recall of the rules and of a plain noun-chunk rule (each noun chunk a
  thing, its adjectives attributes, its number a count), on the same prompts with the same parser;
- pace: prompts a second of one process, both, in turns, the parser loaded.

Words are compared without their endings. A thing is its last word; an attribute is that and the
word before; a relation of DSG is the pair of its things, whichever way it is said. Prints a table
and, as its last line, one flat JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenfocus_ray.elements.lexicon import COLORS
from tokenfocus_ray.elements.rules import BATCH, decompose_by_rules, load_parser
from tokenfocus_ray.schema import Element

ROUNDS = 5
THINGS = ("object", "animal", "human", "food", "location")
LIKE = ("color", "material", "shape", "attribute")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLACED = (" left of ", " right of ", " above ", " below ")

#: What is compared: a kind, and the words without their endings.
Fact = tuple[str, ...]
Decompose = Callable[[Sequence[str]], Iterator[list[Element]]]


def by_rules(prompts: Sequence[str]) -> Iterator[list[Element]]:
    """Ours."""
    yield from (list(one.elements) for one in decompose_by_rules(prompts))


def by_chunks(prompts: Sequence[str]) -> Iterator[list[Element]]:
    """The peer."""
    for doc in load_parser().pipe(prompts, batch_size=BATCH):
        found: list[Element] = []
        for chunk in doc.noun_chunks:
            root = chunk.root
            if root.pos_ not in ("NOUN", "PROPN") or root.lemma_ in ("photo", "picture", "image"):
                continue
            name = " ".join(t.text for t in chunk if t == root or t.dep_ == "compound").lower()
            found.append(Element(name, "object"))
            for token in chunk:
                if token.dep_ == "nummod":
                    found.append(Element(f"{token.text} {name}", "counting"))
                elif token.dep_ == "amod":
                    kind = "color" if token.lower_ in COLORS else "attribute"
                    found.append(Element(f"{token.lower_} {name}", kind))
        yield found


def stem(word: str) -> str:
    """A word without its ending.

    >>> [stem(w) for w in ("knifes", "knives", "posing", "pose", "boxes", "berries", "4")]
    ['knif', 'knif', 'pos', 'pos', 'box', 'berr', '4']
    """
    word = word.lower().strip(".,'\"")
    word = str(NUMBERS.index(word)) if word in NUMBERS else word
    word = {"men": "man", "women": "woman", "feet": "foot", "teeth": "tooth"}.get(word, word)
    for ending, short in (("ves", "f"), ("ies", ""), ("ing", ""), ("ed", ""), ("es", ""), ("s", ""),
                          ("en", ""), ("y", ""), ("e", "")):  # fmt: skip
        if word.endswith(ending) and len(word) - len(ending) > (1 if ending == "s" else 2):
            word = word.removesuffix(ending) + short
            break
    doubled = len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl"
    return word[:-1] if doubled else word


def name(text: str) -> str:
    """All words without their endings."""
    return " ".join(stem(word) for word in text.split())


def head(text: str) -> str:
    """The last word of a name, of the part where it is "door of bus"."""
    return stem(re.split(r" of ", text)[0].split()[-1])


def geneval(folder: Path) -> dict[str, set[Fact]]:
    """Prompt -> facts of GenEval."""
    found: dict[str, set[Fact]] = defaultdict(set)
    kinds = {"object": "object", "counting": "count", "color": "color", "position": "position"}
    for row in rows(folder / "geneval_human_elements.csv"):
        found[row["prompt"]].add((kinds[row["element_type"]], name(row["element"])))
    return found


def geneval_facts(elements: Sequence[Element]) -> set[Fact]:
    """What elements say in GenEval's words."""
    found: set[Fact] = set()
    for element in elements:
        if element.type in THINGS:
            found.add(("object", name(element.text)))
        elif element.type == "counting":
            found.add(("count", name(element.text)))
        elif element.type == "color":
            found.add(("color", name(element.text)))
        elif element.type == "spatial":
            found.add(("position", name(element.text)))
    return found


_TUPLE = re.compile(r"(\w+) - ([\w ]+|-) \((.*)\)")


def dsg(folder: Path) -> dict[str, set[Fact]]:
    """Prompt -> facts of DSG."""
    found: dict[str, set[Fact]] = defaultdict(set)
    for row in rows(folder / "tifa160_elements.csv"):
        prompt = " ".join(row["prompt"].split())
        found[prompt] |= set()
        whole = _TUPLE.search(",".join(v for v in row.values() if isinstance(v, str)))
        parts = re.fullmatch(r"(\w+) - (.+?) \((.*)\)", row["tuple"].strip()) or whole
        if parts is None:
            continue
        kind, inside = parts[1], [p.strip() for p in parts[3].split(",")]
        if kind == "entity" and inside[0]:
            found[prompt].add(("thing", head(inside[0])))
        elif kind == "attribute" and len(inside) == 2:
            found[prompt].add(("attribute", head(inside[0]), stem(inside[1].split()[-1])))
        elif kind == "relation" and len(inside) == 3:
            a, b = sorted((head(inside[0]), head(inside[1])))
            found[prompt].add(("relation", a, b))
        elif kind == "other" and parts[2] == "count" and len(inside) == 2:
            found[prompt].add(("count", head(inside[0]), stem(inside[1].lstrip("=>< "))))
    return found


def dsg_facts(elements: Sequence[Element]) -> set[Fact]:
    """What elements say in DSG's words."""
    things = {e.text for e in elements if e.type in THINGS}
    found: set[Fact] = set()
    for element in elements:
        words = element.text.split()
        if element.type in THINGS:
            found.add(("thing", head(element.text)))
            continue
        inside = [t for t in things if re.search(rf"(?:^| ){re.escape(t)}(?: |$)", element.text)]
        ends = sorted({head(t) for t in inside})
        if element.type == "counting":
            if stem(words[0]).isdigit():  # DSG counts no groups
                found.add(("count", stem(words[-1]), stem(words[0])))
        elif len(ends) == 2 and element.type in ("spatial", "activity", "attribute"):
            found.add(("relation", ends[0], ends[1]))
        elif element.type in LIKE and len(inside) and element.text.endswith(tuple(things)):
            of = max((t for t in things if element.text.endswith(t)), key=len)
            before = element.text[: -len(of)].split()
            if before and not set(before) & {"of", "with"}:
                found.add(("attribute", head(of), stem(before[-1])))
        elif element.type in ("activity", "attribute") and element.text.startswith(tuple(things)):
            of = max((t for t in things if element.text.startswith(t)), key=len)
            rest = element.text[len(of) :].split()
            if len(rest) == 1:
                found.add(("attribute", head(of), stem(rest[0])))
    return found


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a csv file."""
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def judged(
    gold: dict[str, set[Fact]],
    decompose: Decompose,
    facts: Callable[[Sequence[Element]], set[Fact]],
) -> dict[str, float]:
    """Precision and recall of each kind, and the share of prompts without any difference."""
    prompts = list(gold)
    right: dict[str, int] = defaultdict(int)
    said: dict[str, int] = defaultdict(int)
    wanted: dict[str, int] = defaultdict(int)
    exact = 0
    for prompt, elements in zip(prompts, decompose(prompts), strict=True):
        mine = facts(elements)
        exact += mine == gold[prompt]
        for fact in mine:
            said[fact[0]] += 1
            right[fact[0]] += fact in gold[prompt]
        for fact in gold[prompt]:
            wanted[fact[0]] += 1
    found = {"exact": exact / len(prompts)}
    for kind in wanted:
        found[f"{kind}_precision"] = right[kind] / said[kind] if said[kind] else 0.0
        found[f"{kind}_recall"] = right[kind] / wanted[kind]
    return found


def pace(prompts: Sequence[str], ways: dict[str, Decompose]) -> dict[str, list[float]]:
    """Prompts a second of each way, in turns."""
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, decompose in ways.items():
            started = time.perf_counter()
            n = sum(1 for _ in decompose(prompts))
            rates[way].append(n / (time.perf_counter() - started))
    return rates


def ratings() -> Path:
    """The folder of labelled prompts."""
    given = os.environ.get("TOKENFOCUS_RATINGS")
    places = [Path(given)] if given else [p / "shared/data/human_ratings" for p in
                                          Path(__file__).resolve().parents]  # fmt: skip
    for place in places:
        if (place / "tifa160_elements.csv").exists():
            return place
    raise SystemExit("no labelled prompts here: name their folder in TOKENFOCUS_RATINGS")


def main() -> None:
    """Measures and prints."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    folder = ratings()
    ways: dict[str, Decompose] = {"rules": by_rules, "noun_chunks": by_chunks}
    out: dict[str, Any] = {}
    for data, gold, facts in (
        ("geneval", geneval(folder), geneval_facts),
        ("dsg", dsg(folder), dsg_facts),
    ):
        print(f"{data}: {len(gold)} prompts")
        for way, decompose in ways.items():
            found = judged(gold, decompose, facts)
            out |= {f"{data}_{way}_{key}": round(value, 4) for key, value in found.items()}
            print(f"  {way:12}", "  ".join(f"{k} {v:.3f}" for k, v in sorted(found.items())))
    prompts = list(dict.fromkeys(r["prompt"] for r in rows(folder / "genai_bench_527.csv")))
    rates = pace(prompts, ways)
    for way, each in rates.items():
        out[f"{way}_prompts_per_s"] = round(statistics.median(each), 1)
        print(
            f"{way}: {statistics.median(each):.0f} prompts/s ({min(each):.0f} .. {max(each):.0f})"
        )
    out["pace_ratio"] = round(out["rules_prompts_per_s"] / out["noun_chunks_prompts_per_s"], 3)
    print(json.dumps(out | {"prompts": len(prompts), "machine": platform.machine()}))


if __name__ == "__main__":
    main()
