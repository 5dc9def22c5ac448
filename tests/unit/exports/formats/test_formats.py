"""Records of each format, by their documented keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tokenfocus_ray.exports.formats import (
    FORMATS,
    hpdv3,
    imagereward,
    kohya,
    label_studio,
    ms_swift,
    unified_reward,
)
from tokenfocus_ray.exports.formats.base import chosen_first

PAIR: Mapping[str, Any] = {
    "prompt": "a red dog",
    "margin": 0.75,
    "confidence": 0.9,
    "votes_for": 3,
    "votes_against": 1,
    "n_images": 4,
    "chosen_id": "c",
    "rejected_id": "r",
    "chosen_image": "/data/c.png",
    "rejected_image": "/data/r.png",
    "chosen_generator": "sdxl",
    "rejected_generator": None,
    "chosen_seed": 7,
    "rejected_seed": 8,
    "chosen_score": 4.0,
    "rejected_score": 3.25,
}


def seed_with(first: bool) -> int:
    """A seed at which the preferred image does, or does not, stand first."""
    return next(seed for seed in range(99) if chosen_first(PAIR, seed) == first)


def test_names() -> None:
    assert list(FORMATS) == [
        "diffusion-dpo", "trl", "unified-reward", "ms-swift", "hpdv3", "kohya", "imagereward",
        "reward", "label-studio",
    ]  # fmt: skip


def test_the_place_says_nothing() -> None:
    """Half of the preferred images stand first, whatever the ids."""
    pairs = [{"chosen_id": f"{i:05d}", "rejected_id": f"{i + 1:05d}"} for i in range(4_000)]
    for seed in (0, 1):
        first = [chosen_first(pair, seed) for pair in pairs]
        assert abs(sum(first) - 2_000) < 150
        assert first == [chosen_first(pair, seed) for pair in pairs]
    assert sum(chosen_first(p, 0) != chosen_first(p, 1) for p in pairs) > 1_800


def test_hpdv3() -> None:
    assert hpdv3.record(PAIR, 0) == {
        "prompt": "a red dog",
        "choice_dist": [3, 1],
        "confidence": 0.9,
        "path1": "/data/c.png",
        "path2": "/data/r.png",
        "model1": "sdxl",
        "model2": None,
        "seed1": 7,
        "seed2": 8,
        "score1": 4.0,
        "score2": 3.25,
    }


def test_ms_swift() -> None:
    record = ms_swift.record(PAIR, 0)
    assert record["messages"] == [
        {
            "role": "user",
            "content": "<image>Does this image show the following? Answer yes or no.\na red dog",
        },
        {"role": "assistant", "content": "Yes"},
    ]
    assert (record["images"], record["rejected_images"]) == (["/data/c.png"], ["/data/r.png"])
    assert record["margin"] == 0.75
    assert (record["chosen_seed"], record["rejected_seed"]) == (7, 8)
    assert (record["chosen_generator"], record["rejected_generator"]) == ("sdxl", None)


@pytest.mark.parametrize("first", [True, False])
def test_unified_reward(first: bool) -> None:
    record = unified_reward.record(PAIR, seed_with(first))
    paths = ["/data/c.png", "/data/r.png"]
    answers = ["Image 1", "Image 2"]
    assert record["id"] == "c:r"
    assert record["image"] == (paths if first else paths[::-1])
    assert [record["chosen"], record["rejected"]] == (answers if first else answers[::-1])
    assert record["prompt"] == (
        "<image>\n<image>\nWhich of the two images follows this prompt better?\na red dog"
    )
    assert (record["caption"], record["label_0"]) == ("a red dog", 1)
    assert [record["jpg_0"], record["jpg_1"]] == paths


def test_imagereward() -> None:
    ranking = {
        "prompt": "p", "ids": ["b", "a"], "images": ["b.png", "a.png"], "scores": [4.0, 2.0],
        "generators": ["x", None], "seeds": [1, 2], "rows": [5, 3], "n_images": 2,
    }  # fmt: skip
    assert imagereward.record(ranking, 0) == {
        "id": "b",
        "prompt": "p",
        "generations": ["b.png", "a.png"],
        "ranking": [1, 2],
        "rewards": [4.0, 2.0],
        "generators": ["x", None],
        "seeds": [1, 2],
    }


@pytest.mark.parametrize(
    ("data", "ending"),
    [(b"\x89PNG..", ".png"), (b"\xff\xd8..", ".jpg"), (b"RIFF....WEBP", ".webp")],
)
def test_kohya(data: bytes, ending: str) -> None:
    files = kohya.files(PAIR, 0, data, b"GIF89a")
    names = sorted(files)
    stem = names[0].removeprefix("1_pairs/").removesuffix(".json")
    assert names == [
        f"1_pairs/{stem}.json",
        *sorted(f"1_pairs/{side}/{stem}{end}" for side in "lw" for end in (".caption", ending)),
    ]
    assert files[f"1_pairs/w/{stem}{ending}"] == data
    assert files[f"1_pairs/l/{stem}{ending}"] == b"GIF89a"
    assert files[f"1_pairs/w/{stem}.caption"] == files[f"1_pairs/l/{stem}.caption"] == b"a red dog"
    about = json.loads(files[f"1_pairs/{stem}.json"])
    assert (about["margin"], about["chosen_seed"], about["rejected_seed"]) == (0.75, 7, 8)


ROW: Mapping[str, Any] = {
    "id": "c", "prompt": "a red dog", "image": "/data/my images/c.png", "score": 3.1,
    "members": [1.2, 4.6], "disagreement": 2.4, "generator": "sdxl", "seed": None,
}  # fmt: skip


def test_label_studio() -> None:
    task = label_studio.task(ROW, ["q/m0", "r/m0"], (1.0, 5.0))
    assert task["data"] == {
        "image": "/data/local-files/?d=data/my%20images/c.png",
        "prompt": "a red dog",
        "sample_id": "c",
        "score": 3.1,
        "disagreement": 2.4,
        "generator": "sdxl",
    }
    to = {"id": "alignment", "from_name": "alignment", "to_name": "image", "type": "rating"}
    assert task["predictions"] == [
        {"model_version": "q/m0", "score": 1.2, "result": [{**to, "value": {"rating": 1}}]},
        {"model_version": "r/m0", "score": 4.6, "result": [{**to, "value": {"rating": 5}}]},
    ]
    assert label_studio.config((1.0, 5.0)) == (
        "<View>\n"
        '  <Text name="prompt" value="$prompt" />\n'
        '  <Image name="image" value="$image" />\n'
        '  <Rating name="alignment" toName="image" maxRating="5" />\n'
        "</View>\n"
    )


@pytest.mark.parametrize(
    ("scale", "bounds"),
    [((0.0, 1.0), ' min="0" max="1"'), ((1.0, 15.0), ' min="1" max="15"'), (None, "")],
)
def test_label_studio_without_stars(scale: tuple[float, float] | None, bounds: str) -> None:
    task = label_studio.task({**ROW, "image": "s3://b/c.png"}, ["a", "b"], scale)
    assert task["data"]["image"] == "s3://b/c.png"
    result = task["predictions"][0]["result"][0]
    assert (result["type"], result["value"]) == ("number", {"number": 1.2})
    assert f'<Number name="alignment" toName="image"{bounds} />' in label_studio.config(scale)
