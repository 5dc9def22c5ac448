from __future__ import annotations

from typing import Any

import pytest

from tokenfocus_ray.datasets.manifest import (
    CONVENTIONS,
    Columns,
    find_columns,
    passthrough,
)
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.schema import SCORE_SCHEMA

ROLES = "Known: elements, image, image_uri, prompt, prompt_type, sample_id."


def message_of(names: list[str], mapping: dict[str, str] | None = None) -> str:
    with pytest.raises(ManifestError) as caught:
        find_columns(names, mapping or {}, "m.parquet")
    return str(caught.value)


def columns(**given: str) -> Columns:
    fields: dict[str, Any] = dict.fromkeys(CONVENTIONS)
    return Columns(**(fields | given))


def test_all_columns_by_convention() -> None:
    names = ["seed", "elements", "prompt", "sample_id", "image", "image_uri", "prompt_type"]
    assert find_columns(names, {}, "m") == Columns(
        prompt="prompt",
        image="image",
        image_uri="image_uri",
        sample_id="sample_id",
        elements="elements",
        prompt_type="prompt_type",
    )


@pytest.mark.parametrize("name", CONVENTIONS["prompt"])
def test_names_of_the_prompt(name: str) -> None:
    assert find_columns([name, "image"], {}, "m").prompt == name


@pytest.mark.parametrize("name", CONVENTIONS["image"])
def test_names_of_the_image(name: str) -> None:
    assert find_columns(["prompt", name], {}, "m") == columns(prompt="prompt", image=name)


@pytest.mark.parametrize("name", CONVENTIONS["image_uri"])
def test_names_of_the_uri(name: str) -> None:
    assert find_columns(["prompt", name], {}, "m") == columns(prompt="prompt", image_uri=name)


def test_earlier_name_of_a_convention_wins() -> None:
    names = ["url", "text", "caption", "file_name", "prompt"]
    assert find_columns(names, {}, "m") == columns(prompt="prompt", image_uri="file_name")


def test_map_wins_over_convention() -> None:
    names = ["prompt", "long_prompt", "image", "jpg"]
    found = find_columns(names, {"prompt": "long_prompt", "image": "jpg"}, "m")
    assert found == columns(prompt="long_prompt", image="jpg")


def test_mapped_uri_wins_over_an_image_column() -> None:
    found = find_columns(["prompt", "image", "key"], {"image_uri": "key"}, "m")
    assert found == columns(prompt="prompt", image_uri="key")


def test_mapped_image_and_uri_are_both_kept() -> None:
    mapping = {"image_uri": "key", "image": "thumb"}
    found = find_columns(["prompt", "thumb", "key"], mapping, "m")
    assert found == columns(prompt="prompt", image="thumb", image_uri="key")


def test_map_of_a_role_that_does_not_exist() -> None:
    assert message_of(["prompt", "image"], {"promt": "prompt"}) == (
        f"--map promt=prompt: no such role. Did you mean 'prompt'? {ROLES}"
    )


def test_map_of_a_column_that_does_not_exist() -> None:
    assert message_of(["prompt", "image"], {"prompt": "promt"}) == (
        "--map prompt=promt: m.parquet has no column 'promt'. Did you mean 'prompt'? "
        "Known: image, prompt."
    )


WANTED = (
    "wanted a prompt (one of ['prompt', 'caption', 'text']) and an image (bytes in one of "
    "['image', 'jpg', 'png', 'webp', 'image_bytes'], or a path or URI in one of ['image_uri', "
    "'image_path', 'img_path', 'file_name', 'path', 'url']). Name them with --map, for example "
    "--map prompt="
)


@pytest.mark.parametrize(
    ("names", "example"),
    [(["question", "image"], "question"), (["prompt", "picture"], "prompt"), ([], "COLUMN")],
    ids=["no prompt", "no image", "nothing"],
)
def test_needed_column_is_missing(names: list[str], example: str) -> None:
    assert message_of(names) == f"m.parquet: found columns {names}; {WANTED}{example}"


def test_prompts_of_a_benchmark_have_no_images_yet() -> None:
    names = ["sample_id", "prompt", "elements"]
    assert message_of(names) == (
        f"m.parquet: found columns {names}, of which 'prompt' is the prompt and none is an image. "
        "Add bytes in one of ['image', 'jpg', 'png', 'webp', 'image_bytes'], or a path or URI in "
        "one of ['image_uri', 'image_path', 'img_path', 'file_name', 'path', 'url']; a benchmark's "
        "prompts are imported with yours by `tokenfocus data import ... --images FOLDER/{id}.png`"
    )


def test_names_are_case_sensitive() -> None:
    assert message_of(["Prompt", "image"]).startswith(
        "m.parquet: found columns ['Prompt', 'image']"
    )


def test_image_and_id_do_not_travel_on() -> None:
    """The id comes back as sample_id, the bytes would be a second copy of the data set."""
    names = ["uid", "prompt", "image", "seed"]
    found = find_columns(names, {"sample_id": "uid"}, "m")
    assert passthrough(names, found) == {"prompt": "prompt", "seed": "seed"}


def test_image_uri_travels_on() -> None:
    names = ["prompt", "image_uri"]
    assert list(passthrough(names, find_columns(names, {}, "m"))) == names


@pytest.mark.parametrize("name", [n for n in SCORE_SCHEMA.names if n != "sample_id"])
def test_column_with_the_name_of_a_score_column(name: str) -> None:
    names = ["prompt", "image", name]
    found = find_columns(names, {}, "m")
    assert passthrough(names, found) == {"prompt": "prompt", name: f"input_{name}"}


def test_sample_id_column_beside_a_mapped_one() -> None:
    names = ["uid", "sample_id", "prompt", "image"]
    found = find_columns(names, {"sample_id": "uid"}, "m")
    assert passthrough(names, found) == {"sample_id": "input_sample_id", "prompt": "prompt"}


def test_renamed_column_meets_one_of_its_new_name() -> None:
    """A table that was scored before has both."""
    names = ["prompt", "image", "score", "input_score"]
    kept = passthrough(names, find_columns(names, {}, "m"))
    assert len(set(kept.values())) == len(kept) == 3
