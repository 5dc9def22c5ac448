from __future__ import annotations

import math

import numpy as np

from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.errors import ImageDecodeError, PromptError
from tokenfocus_ray.schema import Element
from tokenfocus_ray.scoring.request import Request, read_elements, unscored

IMAGE = PreparedImage(np.zeros((1, 112, 112, 3), np.uint8), 16, (4, 4), width=640, height=480)
EMPTY = PromptError("prompt_empty", "give a prompt")


def test_elements_are_read() -> None:
    assert read_elements(["pig (animal)"]) == [Element("pig", "animal")]


def test_no_elements_are_an_empty_list() -> None:
    assert read_elements(None) == ()


def test_elements_that_cannot_be_read_become_an_error_not_an_exception() -> None:
    error = read_elements(7)
    assert isinstance(error, PromptError)
    assert (error.code, error.message) == (
        "elements_invalid",
        "elements must be a list, got int: 7",
    )


def test_unscored_row_has_the_reason() -> None:
    row = unscored(Request("id", "", IMAGE), EMPTY)
    assert (row.sample_id, row.status) == ("id", "unscored")
    assert (row.error_code, row.error_message) == ("prompt_empty", "give a prompt")
    assert math.isnan(row.score)


def test_unscored_row_is_aligned_with_its_elements() -> None:
    row = unscored(Request("id", "", IMAGE, [Element("a"), Element("b")]), EMPTY)
    assert len(row.element_scores) == 2
    assert all(math.isnan(score) for score in row.element_scores)


def test_unscored_row_keeps_the_size_of_a_sound_image() -> None:
    row = unscored(Request("id", "", IMAGE), EMPTY)
    assert (row.width, row.height, row.n_visual_tokens) == (640, 480, 16)


def test_unscored_row_of_a_bad_image_has_no_size() -> None:
    error = ImageDecodeError("image_corrupt", "damaged")
    row = unscored(Request("id", "a pig", error), error)
    assert (row.width, row.height, row.n_visual_tokens) == (0, 0, 0)


def test_elements_that_cannot_be_read_count_as_none() -> None:
    assert Request("id", "a pig", IMAGE, PromptError("elements_invalid", "x")).n_elements == 0
