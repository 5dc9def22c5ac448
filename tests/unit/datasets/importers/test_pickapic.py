"""Pairs become images, each once, with all that people said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import layouts
from tests.support.imports import imported
from tokenfocus_ray.errors import ConfigError, ManifestError
from tokenfocus_ray.schema import sample_id
from tokenfocus_ray.tables.text import ERROR_CODE

PAIRS: list[dict[str, Any]] = [
    {"caption": "a", "images": (1, 2), "label_0": 1.0},
    {"caption": "a", "images": (2, 3), "label_0": 0.5},
    {"caption": "a", "images": (3, 1), "label_0": None},
    {"caption": "b", "images": (4, 5), "label_0": 0.0},
    {"caption": "b", "images": (5, 4), "label_0": 0.0},
    {"caption": "b", "images": (1, 4), "label_0": 1.0},
]


def uid(number: int, prompt: str) -> str:
    return sample_id(f"uid-{number}", prompt)


def test_each_image_of_a_prompt_once(tmp_path: Path) -> None:
    lines: list[str] = []
    src = layouts.pickapic(tmp_path / "src", PAIRS)
    rows = imported("pickapic", src, tmp_path, lines=lines).to_pylist()
    images = [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "b"), (1, "b")]
    assert [row["sample_id"] for row in rows] == [uid(*one) for one in images]
    assert [row["prompt"] for row in rows] == [prompt for _, prompt in images]
    assert [row["image"] for row in rows] == [layouts.png(number) for number, _ in images]
    assert [row["generator"] for row in rows] == [f"model-{number % 2}" for number, _ in images]
    assert [row["image_url"] for row in rows[:1]] == ["https://example.org/1.png"]
    assert {row["num_example_per_prompt"] for row in rows} == {2}
    assert {row[ERROR_CODE] for row in rows} == {None}
    assert lines == ["6 pairs of 6 images, 5 with a preference"]


def test_preferences(tmp_path: Path) -> None:
    rows = imported("pickapic", layouts.pickapic(tmp_path / "src", PAIRS), tmp_path).to_pylist()
    told = [(r["human_wins"], r["human_comparisons"], r["human_preference"]) for r in rows]
    assert told == [
        (1.0, 1, 1.0), (0.5, 2, 0.25), (0.5, 1, 0.5), (1.0, 3, 1 / 3), (1.0, 2, 0.5), (1.0, 1, 1.0),
    ]  # fmt: skip
    assert rows[1]["comparisons"] == [
        {"other": uid(1, "a"), "preference": 0.0, "ranking_id": "100", "user_id": "7"},
        {"other": uid(3, "a"), "preference": 0.5, "ranking_id": "101", "user_id": "7"},
    ]
    # every preference stands twice, once on each side, and the two add up to 1
    both = {(row["sample_id"], one["other"], one["ranking_id"]): one["preference"]
            for row in rows for one in row["comparisons"]}  # fmt: skip
    assert len(both) == 10
    assert all(value + both[other, own, one] == 1 for (own, other, one), value in both.items())


def test_labels_that_are_none(tmp_path: Path) -> None:
    pairs = [
        {"caption": "a", "images": (1, 2), "label_0": 3.0},
        {"caption": "a", "images": (1, 1), "label_0": 1.0},
        {"caption": "a", "images": (1, 2), "label_0": 1.0, "label_1": 1.0},
        {"caption": "a", "images": (1, 3), "label_0": 1.0, "has_label": False},
    ]
    lines: list[str] = []
    src = layouts.pickapic(tmp_path / "src", pairs)
    rows = imported("pickapic", src, tmp_path, lines=lines).to_pylist()
    assert [row["human_comparisons"] for row in rows] == [0, 0, 0]
    assert [row["human_preference"] for row in rows] == [None, None, None]
    assert lines == [
        "4 pairs of 3 images, 0 with a preference",
        "pairs whose images are kept without their preference, since its labels do not add up to 1 "
        "or both images are one: 3; the first has ranking_id 100",
    ]


def test_without_uids_images_are_told_apart_by_their_bytes(tmp_path: Path) -> None:
    src = layouts.pickapic(tmp_path / "src", PAIRS[:3]) / "train-0.parquet"
    table = pq.read_table(src)
    keep = ["caption", "jpg_0", "jpg_1", "label_0"]
    pq.write_table(table.select(keep), src, row_group_size=2)
    rows = imported("pickapic", src, tmp_path).to_pylist()
    assert [row["sample_id"] for row in rows] == [sample_id(layouts.png(i), "a") for i in (1, 2, 3)]
    assert [row["human_comparisons"] for row in rows] == [1, 2, 1]
    assert "image_url" not in rows[0]
    some: Any = [None, *table["image_1_uid"].to_pylist()[1:]]
    at = table.column_names.index("image_1_uid")
    table = table.set_column(at, "image_1_uid", pa.array(some, pa.string()))
    pq.write_table(table, src, row_group_size=2)
    rows = imported("pickapic", src, tmp_path).to_pylist()
    ids = [uid(1, "a"), sample_id(layouts.png(2), "a"), uid(2, "a"), uid(3, "a")]
    assert [row["sample_id"] for row in rows] == ids


def test_without_images_their_urls_are_kept(tmp_path: Path) -> None:
    src = layouts.pickapic(tmp_path / "src", PAIRS[:1]) / "train-0.parquet"
    pq.write_table(pq.read_table(src).drop_columns(["jpg_0", "jpg_1"]), src)
    rows = imported("pickapic", src, tmp_path).to_pylist()
    assert [row["image_uri"] for row in rows] == [f"https://example.org/{i}.png" for i in (1, 2)]
    assert "image" not in rows[0]


def test_refusals(tmp_path: Path) -> None:
    src = layouts.hf_parquet(tmp_path / "h")
    with pytest.raises(ManifestError) as caught:
        imported("pickapic", src, tmp_path)
    assert str(caught.value) == (
        f"{src}: there is no column 'caption'; found image, text, model, seed: wanted Pick-a-Pic's "
        f"caption, jpg_0, jpg_1 and label_0"
    )
    with pytest.raises(ConfigError) as refused:
        imported("pickapic", src, tmp_path, prompt="text")
    assert (
        str(refused.value) == "--map prompt=text: pickapic takes none, since its columns are known"
    )
