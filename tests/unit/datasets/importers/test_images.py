"""Images of a benchmark's prompts, found by their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support import layouts
from tests.support.imports import imported
from tokenfocus_ray.datasets.importers.images import join_images, matcher, split_pattern
from tokenfocus_ray.datasets.importers.prompts import Prompt, prompt_table
from tokenfocus_ray.errors import ConfigError, ManifestError
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE

PROMPTS = [("w_5", "a cube"), ("w_5_2", "two cubes"), ("v", "a bench")]


def table(prompts: Any = PROMPTS) -> pa.Table:
    return prompt_table([Prompt(name, text) for name, text in prompts])


def put(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return str(folder)


def joined(folder: str, pattern: str = "", prompts: Any = PROMPTS) -> tuple[list[Any], list[str]]:
    """Prompt and image of each row, and what was said."""
    lines: list[str] = []
    images = f"{folder}/{pattern}" if pattern else folder
    rows = join_images(table(prompts), images, lines.append).to_pylist()
    found = [(r["prompt_id"], (r["image_uri"] or "").removeprefix(f"{folder}/")) for r in rows]
    return found, [line.replace(folder, "F") for line in lines]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{id}.png", ("w_5.png", "w_5_2.png", "v.png")),
        ("{id}.*", ("w_5.jpg", "w_5_2.png", "v.webp")),
        ("{index}.png", ("00000.png", "00001.png", "2.png")),
        (
            "{index:05d}/samples/*.png",
            ("00000/samples/a.png", "00001/samples/b.png", "2/samples/c.png"),
        ),
        ("{id}/{id}.png", ("w_5/w_5.png", "w_5_2/w_5_2.png", "v/v.png")),
        ("", ("w_5.png", "w_5_2.jpg", "v.webp")),
        ("", ("w_5/a b.png", "w_5_2/0.jpg", "v/x.webp")),
    ],
)
def test_one_image_a_prompt(tmp_path: Path, pattern: str, names: tuple[str, ...]) -> None:
    found, lines = joined(put(tmp_path, *names), pattern)
    assert found == [(prompt[0], name) for prompt, name in zip(PROMPTS, names, strict=True)]
    assert lines == []


def test_several_images_a_prompt_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = ("w_5_10.png", "w_5_9.png", "v_0.png", "v_1.txt", "x_1.png")
    found, lines = joined(put(tmp_path, *names), "{id}_{n}.png")
    assert found == [("w_5", "w_5_9.png"), ("w_5", "w_5_10.png"), ("w_5_2", ""), ("v", "v_0.png")]
    assert lines == ["F/{id}_{n}.png: images of no prompt by {id}_{n}.png: 1, such as 'x_1.png'"]


def test_a_prompt_without_an_image_keeps_its_row(tmp_path: Path) -> None:
    folder = put(tmp_path, "a/v.png", "b/v.png")
    made = join_images(table(), f"{folder}/{{generator}}/{{id}}.png", print)
    assert made["generator"].to_pylist() == [None, None, "a", "b"]
    assert made[ERROR_CODE].to_pylist() == ["image_missing", "image_missing", None, None]
    assert made[ERROR_MESSAGE][0].as_py() == (
        f"{folder}/{{generator}}/{{id}}.png has no image of it by {{generator}}/{{id}}.png"
    )
    assert len(set(made["sample_id"].to_pylist())) == 4


def test_paths_by_prompt_or_id(tmp_path: Path) -> None:
    paths = {"a cube": ["x/1.png", "/y/2.png"], "v": "z.png", "another": "n.png"}
    (tmp_path / "paths.json").write_text(json.dumps(paths))
    lines: list[str] = []
    made = join_images(table(), str(tmp_path / "paths.json"), lines.append)
    assert made["image_uri"].to_pylist() == [
        f"{tmp_path}/x/1.png", "/y/2.png", None, f"{tmp_path}/z.png",
    ]  # fmt: skip
    assert made["image_n"].to_pylist() == ["0", "1", None, None]
    assert lines == [
        f"{tmp_path}/paths.json: images of no prompt by the prompts and ids in it: 1, such as "
        f"'n.png'"
    ]


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        (
            "{idx}.png",
            ConfigError,
            "--images {idx}.png: no such field {idx}. Did you mean 'id'? Known: generator, id, "
            "index, n.",
        ),
        (
            "{n}.png",
            ConfigError,
            "--images {n}.png: nothing in it says which prompt an image is of; use {id} or {index}",
        ),
        (
            "{id}/x.png",
            ManifestError,
            "F/{id}/x.png: none of 2 images is of any of 3 prompts by {id}/x.png; the first is "
            "'v.png'. Give the pattern of their names, such as FOLDER/{id}.png, "
            "FOLDER/{id}/{n}.png or FOLDER/{index}.png",
        ),
        (
            "",
            ConfigError,
            "--images F: images there are named by {id}.* and by {id}/{n}.*; name one: --images "
            "F/{id}.*",
        ),
        ("none/{id}.png", ManifestError, "image folder 'F/none' is not a directory"),
    ],
)
def test_refusals(tmp_path: Path, pattern: str, error: type[Exception], message: str) -> None:
    folder = put(tmp_path, "v.png", "w_5/1.png")
    with pytest.raises(error) as caught:
        joined(folder, pattern)
    assert str(caught.value).replace(folder, "F") == message


def test_prompts_that_a_pattern_does_not_tell_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        joined(put(tmp_path, "0.png"), "{id}.png", [("0", "a"), ("0", "b")])
    assert str(caught.value) == (
        "--images {id}.png: it does not tell prompts 0 and 1 apart, both are '0'; put {index} or "
        "another column into it"
    )


def test_another_column_tells_prompts_apart(tmp_path: Path) -> None:
    """As OneIG-Bench wants its images to be saved."""
    put(tmp_path / "images", "anime/m/000.webp", "human/m/000.webp")
    pattern = f"{tmp_path}/images/{{category}}/{{generator}}/{{id}}.webp"
    found = imported("oneig", layouts.oneig(tmp_path / "o"), tmp_path, images=pattern).to_pylist()
    assert [row["image_uri"] and row["image_uri"][-17:] for row in found] == [
        "/anime/m/000.webp", "/human/m/000.webp", None,
    ]  # fmt: skip
    assert [row["generator"] for row in found] == ["m", "m", None]


def test_patterns() -> None:
    assert split_pattern("/{id}.png") == ("/", "{id}.png")
    assert split_pattern("{id}.png") == (".", "{id}.png")
    assert split_pattern("a/b{id}.png") == ("a", "b{id}.png")
    assert matcher("{id}-{n}.p+g", []).fullmatch("a-1-2.p+g").groupdict() == {"id": "a-1", "n": "2"}  # type: ignore[union-attr]
