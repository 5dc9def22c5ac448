from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tokenfocus_ray.datasets.manifest import (
    CONVENTIONS,
    Columns,
    find_columns,
    passthrough,
    read_small,
)
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.schema import SCORE_SCHEMA, parse_elements

ROLES = "Known: elements, image, image_uri, prompt, prompt_type, sample_id."


def message_of(names: list[str], mapping: dict[str, str] | None = None) -> str:
    with pytest.raises(ManifestError) as caught:
        find_columns(names, mapping or {}, "m.parquet")
    return str(caught.value)


def columns(**given: str) -> Columns:
    return Columns(**{**dict.fromkeys(CONVENTIONS), **given})


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


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "prompt,image_path,seed\na pig,a.png,7\na sun,b.png,8\n")
    assert read_small(path).to_pylist() == [
        {"prompt": "a pig", "image_path": "a.png", "seed": 7},
        {"prompt": "a sun", "image_path": "b.png", "seed": 8},
    ]


def test_tsv(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tsv", "prompt\timage_path\na pig, big\ta.png\n")
    assert read_small(path).to_pylist() == [{"prompt": "a pig, big", "image_path": "a.png"}]


PROMPTS = [
    'a "quoted" pig, and a comma',
    "two\nlines\r\nor three",
    "  spaces at the ends  ",
    "null",
    "NA",
    "1984",
    "true",
    "",
    "\U0001f437 \u05e9\u05dc\u05d5\u05dd",
    "back\\slash \\n {x} <|im_end|>",
    "'single'",
]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_any_prompt_comes_back_from_csv(suffix: str, delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / f"m{suffix}"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("prompt", "image_path"), *((p, "a.png") for p in PROMPTS)])
    assert read_small(path)["prompt"].to_pylist() == PROMPTS


def test_any_prompt_comes_back_from_jsonl(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": p, "image_uri": "a.png"}) for p in PROMPTS]
    path = write(tmp_path / "m.jsonl", "\n".join(lines))
    assert read_small(path)["prompt"].to_pylist() == PROMPTS


def test_line_breaks_in_a_csv_of_several_blocks(tmp_path: Path) -> None:
    """Files are parsed in blocks of a megabyte: one must not end inside a prompt."""
    prompt = "a line\n" * 2000
    path = write(tmp_path / "m.csv", "prompt,image_path\n" + f'"{prompt}",a.png\n' * 200)
    assert read_small(path)["prompt"].to_pylist() == [prompt] * 200


def test_csv_with_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "prompt,image_path\na pig,a.png\n", "utf-8-sig")
    assert read_small(path).column_names == ["prompt", "image_path"]


def test_csv_with_carriage_returns(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "prompt,image_path\r\na pig,a.png\r\n")
    assert read_small(path).to_pylist() == [{"prompt": "a pig", "image_path": "a.png"}]


def test_csv_without_rows_has_its_columns(tmp_path: Path) -> None:
    table = read_small(write(tmp_path / "m.csv", "prompt,image_path\n"))
    assert (table.column_names, table.num_rows) == (["prompt", "image_path"], 0)


def test_jsonl(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a pig", "elements": [{"text": "pig", "type": "animal"}], "seed": 7},
        {"prompt": "a sun", "elements": None, "extra": "only here"},
        {"prompt": None, "elements": []},
    ]
    path = write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_small(path).to_pylist() == [
        {"seed": None, "extra": None, **rows[0]},
        {"seed": None, **rows[1]},
        {"seed": None, "extra": None, **rows[2]},
    ]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (
            "m.csv",
            "prompt,image_path\na,b,c\n",
            "cannot be read as csv: CSV parse error: Expected 2 columns, got 3: a,b,c",
        ),
        ("m.csv", "", "cannot be read as csv: Empty CSV file"),
        ("m.tsv", "", "cannot be read as tsv: Empty CSV file"),
        ("m.jsonl", "", "cannot be read as jsonl: it has no rows"),
        (
            "m.jsonl",
            '{"prompt": "a"}\n{"prompt":\n',
            "cannot be read as jsonl: line 2, character 12: Expecting value",
        ),
        (
            "m.jsonl",
            '{"elements": ["a"]}\n{"elements": [{"text": "b"}]}\n',
            "cannot be read as jsonl: column 'elements': cannot mix struct and non-struct, "
            "non-null values",
        ),
    ],
    ids=["ragged", "empty csv", "empty tsv", "empty jsonl", "cut jsonl", "mixed elements"],
)
def test_file_that_cannot_be_parsed(name: str, text: str, problem: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(ManifestError) as caught:
        read_small(path)
    assert str(caught.value) == f"{path}: {problem}"


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_file_that_is_not_there(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(ManifestError) as caught:
        read_small(path)
    assert str(caught.value).startswith(f"{path}: cannot be read as {path.suffix[1:]}: ")


@pytest.mark.parametrize("prompt", ["1984", "007", "null", "NA", "2024-01-01", "true", "1e5"])
def test_csv_of_prompts_that_look_like_something_else(prompt: str, tmp_path: Path) -> None:
    """Where all prompts of a file are such, "007" becomes 7 and "null" an empty prompt."""
    path = write(tmp_path / "m.csv", f"prompt,image_path\n{prompt},a.png\n")
    assert read_small(path)["prompt"].to_pylist() == [prompt]


def test_csv_ids_keep_their_zeros(tmp_path: Path) -> None:
    """img2dataset's keys are such numbers; scores could not be joined to them any more."""
    path = write(tmp_path / "m.csv", "sample_id,prompt,image_path\n000000012,a pig,a.png\n")
    assert read_small(path)["sample_id"].to_pylist() == ["000000012"]


def test_csv_that_is_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "prompt,image_path\ncaf\u00e9,a.png\n", "latin-1")
    with pytest.raises(ManifestError):
        read_small(path)


def test_jsonl_of_prompts_that_look_like_dates(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", '{"prompt": "2024-01-01", "image_uri": "a.png"}\n')
    assert read_small(path)["prompt"].to_pylist() == ["2024-01-01"]


def test_jsonl_with_evalmuse_labels_as_keys(tmp_path: Path) -> None:
    """Every row would be asked about the elements of all rows."""
    rows = [{"elements": {"pig (animal)": [1, 0]}}, {"elements": {"sun (object)": [1, 1]}}]
    path = write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, rows)))
    cells = read_small(path)["elements"].to_pylist()
    found = [[element.label() for element in parse_elements(cell) or []] for cell in cells]
    assert found == [["pig (animal)"], ["sun (object)"]]
