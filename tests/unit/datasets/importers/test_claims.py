"""A question becomes a claim where its subject is sure, and stays a question elsewhere."""

from __future__ import annotations

import pytest

from tokenfocus_ray.datasets.importers.claims import claim, number_word, things

KNOWN = ["rubix cube", "man", "car", "Times Square", "cats", "grass"]


@pytest.mark.parametrize(
    ("question", "yes", "no"),
    [
        ("Is there a rubix cube?", "a rubix cube", "no rubix cube"),
        ("Are there any cats in the image?", "cats", "no cats"),
        ("Are there Egyptian signs?", "Egyptian signs", "no Egyptian signs"),
        (
            "Are there two dogs?",
            "two dogs",
            "it is not the case that there are two dogs",
        ),
        (
            "Is there only one girl?",
            "only one girl",
            "it is not the case that there is only one girl",
        ),
        ("Is there anyone on the bus?", "someone on the bus", "no one on the bus"),
        ("Is Times Square there?", "Times Square", "no Times Square"),
        ("Is this a photo?", "this is a photo", "this is not a photo"),
        ("Are they indoors?", "they are indoors", "they are not indoors"),
        ("Is the rubix cube purple?", "the rubix cube is purple", "the rubix cube is not purple"),
        ("Is the uniform black?", "the uniform is black", "the uniform is not black"),
        (
            "Are the girl's eyes red?",
            "the girl's eyes are red",
            "the girl's eyes are not red",
        ),
        (
            "Are the cats sitting on the grass?",
            "the cats are sitting on the grass",
            "the cats are not sitting on the grass",
        ),
        ("Is the man in the car?", "the man is in the car", "the man is not in the car"),
        ("Does the man have a hat?", "the man has a hat", "the man does not have a hat"),
        ("Do the men wear hats?", "the men wear hats", "the men do not wear hats"),
    ],
)
def test_yes_and_no(question: str, yes: str, no: str) -> None:
    assert claim(question, "Yes", KNOWN) == yes
    assert claim(question, "no.", KNOWN) == no


@pytest.mark.parametrize(
    "question",
    [
        "Is the man in the car red?",  # the man, or the man in the car?
        "Is the pair of glasses under the monitor?",
        "Are only the girls' upper teeth visible?",
        "Does the costume come with boots?",
        "Does the man who has a hat have and wear gloves?",
        "Can you see the girls' teeth?",
    ],
)
def test_where_the_subject_is_not_sure_the_question_is_kept(question: str) -> None:
    assert claim(question, "yes", KNOWN) == question
    assert claim(question, "no", KNOWN) == f'the answer to "{question}" is no'


@pytest.mark.parametrize(
    ("question", "answer", "text"),
    [
        ("How many bicycles are in the image?", "four", "four bicycles"),
        ("how many cats are there in the picture?", "3", "three cats"),
        ("How many cats are there?", "0", "no cats"),
        ("How many cats are on the bed?", "2", "two cats are on the bed"),
        ("How many birds are visible?", "40", "40 birds"),
        ("How many backpacks are in the image?", "one", "one backpack"),
        ("How many sheeps are in the image?", "one", "one sheep"),
        (
            "How many geese are in the image?",
            "one",
            'the answer to "How many geese are in the image?" is "one"',
        ),
        (
            "How many cats are there?",
            "several",
            'the answer to "How many cats are there?" is "several"',
        ),
        ("what color is the sky?", "gray", "the sky is gray"),
        ("what is the table made of?", "wood", "the table is made of wood"),
        ("what is the man holding?", "an umbrella", "the man is holding an umbrella"),
        ("what is the cat sitting on?", "grass", "the cat is sitting on grass"),
        (
            "what type of place is this?",
            "beach",
            'the answer to "what type of place is this?" is "beach"',
        ),
    ],
)
def test_numbers_and_words(question: str, answer: str, text: str) -> None:
    assert claim(question, answer, prompt="a green backpack and a sheep") == text


def test_things_are_subjects_of_other_questions() -> None:
    asked = ["Is there a panda bear?", "How many ladies are in the image?", "Is it there?"]
    assert things(asked) == ["panda bear", "ladies", "lady", "ladi", "ladie"]
    assert things(["Is there hair on the man's head?", "Are there very many small dogs?"]) == []


def test_number_words() -> None:
    found = [number_word(text) for text in ("0", "12", "13", "zero", "none", "seven", "a")]
    assert found == ["no", "twelve", "13", "no", "no", "seven", None]
