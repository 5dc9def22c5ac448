from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.reports import rows, write
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.errors import ImageDecodeError
from tokenfocus_ray.report.cards import (
    MOST_BYTES,
    cut,
    detail_columns,
    details,
    thumbnail,
)


def made(found: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    scored = ScoredTable.open(write(found, folder / "scores.parquet"))
    names = [name for name in detail_columns(scored) if name is not None]
    return details(pq.read_table(folder / "scores.parquet", columns=names), scored, 0.5)


def test_details(tmp_path: Path) -> None:
    own = rows(2)
    own[0] |= {"score": 3.25, "member_scores": [3.0, 3.5], "element_scores": [0.5, 0.25, 1.0]}
    own[0]["member_element_scores"] = [[0.25, 0.0, 1.0], [0.75, 0.5, 1.0]]
    card = made(own, tmp_path)[0]
    assert card["elements"][:1] == [
        {
            "text": "a object 0",
            "type": "object",
            "score": 0.5,
            "present": True,
            "members": [0.25, 0.75],
        }
    ]
    rest = {key: value for key, value in card.items() if key != "elements"}
    assert rest == {
        "id": "s00000", "prompt": "prompt 0 of a cat", "generator": "aurora", "seed": None,
        "image": "/nowhere/0.png", "score": 3.25, "low": None, "high": None,
        "members": [3.0, 3.5], "more": 0, "problem": None,
    }  # fmt: skip


def test_what_is_present_is_told_of_scores_as_they_are(tmp_path: Path) -> None:
    """Not of those that are shown, which are rounded; scores of 32 bits are the decimal ones."""
    own = rows(1)
    own[0] |= {"score": 3.1, "element_scores": [0.49996, 0.5, float("nan")]}
    (card,) = made(own, tmp_path)
    assert card["score"] == 3.1
    assert [(one["score"], one["present"]) for one in card["elements"]] == [
        (0.5, False), (0.5, True), (None, None),
    ]  # fmt: skip


def test_texts_without_end_are_cut_and_say_so(tmp_path: Path) -> None:
    own = rows(1)
    own[0]["prompt"] = "<" * 5_000
    own[0]["elements"] = [{"text": f"{i} <b>" * 90, "type": "x"} for i in range(500)]
    own[0]["element_scores"], own[0]["member_element_scores"] = [0.5] * 500, [[0.5] * 500] * 2
    (card,) = made(own, tmp_path)
    text = json.dumps(card)
    assert len(text) + 5 * sum(text.count(c) for c in "<>&") <= MOST_BYTES
    assert card["prompt"] == "<" * 800 + "… (5,000 characters)"
    assert len(card["elements"]) + card["more"] == 500


def test_cut_keeps_what_json_can_hold() -> None:
    assert cut("a\udc80", 9) == "a\\udc80"


@pytest.mark.parametrize("size", [(1200, 700), (30, 900), (8, 8)])
def test_thumbnails_are_small(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(noise).save(sink, "PNG")
    found = thumbnail(sink.getvalue(), 9_000)
    data = base64.b64decode(found["src"].removeprefix("data:image/webp;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (found["width"], found["height"])
        assert max(image.size) <= 320
        assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.2)
    assert len(data) <= 9_000


def test_no_thumbnail() -> None:
    error = ImageDecodeError("image_missing", "it is gone; put it back")
    assert thumbnail(error, 9) == {"error": "image_missing", "message": "it is gone; put it back"}
    found = thumbnail(b"no image at all", 9_000)
    assert found["error"] == "image_corrupt"
    sink = io.BytesIO()
    Image.new("RGB", (300, 300)).save(sink, "PNG")
    assert thumbnail(sink.getvalue(), 20) == {
        "error": "too_large", "message": "no small version of it has 20 bytes or fewer",
    }  # fmt: skip
