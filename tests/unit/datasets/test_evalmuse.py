from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tokenfocus_ray.datasets import EVALMUSE_SCHEMA, read_evalmuse, write_evalmuse
from tokenfocus_ray.errors import ManifestError, OutputError
from tokenfocus_ray.schema import sample_id

PROMPT = "attack of the pig giants, bright colors"
RECORD: dict[str, Any] = {
    "prompt_id": "00110",
    "prompt": PROMPT,
    "type": "synthetic",
    "img_path": "SDXL-Turbo/00110.png",
    "total_score": [4, 3, 3],
    "element_score": {"pig giants (animal)": [1, 1, 0], "bright colors(color)": [1, 0, 1]},
    "promt_meaningless": [0, 0, 0],
    "split_confidence": [0, 1, 0],
    "attribute_confidence": [1, 1, 1],
    "fidelity_label": ["ok", "blurred"],
}
TEST_RECORD: dict[str, Any] = {
    **RECORD,
    "total_score": None,
    "element_score": {"pig giants (animal)": None, "bright colors(color)": None},
    "promt_meaningless": None,
    "fidelity_label": None,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "train_list.json"


def write(file: Path, *records: Any) -> str:
    file.write_text(json.dumps(list(records)), encoding="utf-8")
    return str(file)


def test_one_record(file: Path) -> None:
    table = read_evalmuse(write(file, RECORD))
    assert table.schema == EVALMUSE_SCHEMA
    assert table.to_pylist() == [
        {
            "sample_id": sample_id("SDXL-Turbo/00110.png", PROMPT),
            "prompt": PROMPT,
            "image_uri": "SDXL-Turbo/00110.png",
            "elements": [
                {"text": "pig giants", "type": "animal"},
                {"text": "bright colors", "type": "color"},
            ],
            "prompt_type": "synthetic",
            "prompt_id": "00110",
            "img_path": "SDXL-Turbo/00110.png",
            "generator": "SDXL-Turbo",
            "total_scores": [4, 3, 3],
            "element_keys": ["pig giants (animal)", "bright colors(color)"],
            "element_labels": [[1, 1, 0], [1, 0, 1]],
            "promt_meaningless": [0, 0, 0],
            "split_confidence": [0, 1, 0],
            "attribute_confidence": [1, 1, 1],
            "fidelity_label": ["ok", "blurred"],
        }
    ]


def test_null_scores_become_empty_lists(file: Path) -> None:
    (row,) = read_evalmuse(write(file, TEST_RECORD)).to_pylist()
    assert row["total_scores"] == []
    assert row["element_labels"] == [[], []]
    assert row["promt_meaningless"] == row["fidelity_label"] == []
    bare = {"prompt": PROMPT, "img_path": "1.png"}
    (row,) = read_evalmuse(write(file, bare)).to_pylist()
    assert row["elements"] == row["element_labels"] == []
    assert row["generator"] is row["prompt_type"] is row["prompt_id"] is None


@pytest.mark.parametrize("printed", [str, json.dumps])
def test_printed_element_scores(file: Path, printed: Any) -> None:
    published = {**RECORD, "element_score": printed(RECORD["element_score"])}
    expected = read_evalmuse(write(file, RECORD))
    assert read_evalmuse(write(file, published)) == expected


@pytest.mark.parametrize("root", ["/data/images", "s3://bucket/images/"])
def test_ids_do_not_depend_on_where_the_images_lie(file: Path, root: str) -> None:
    absolute = {**RECORD, "img_path": "s3://elsewhere/1.png"}
    path = write(file, RECORD, absolute)
    table = read_evalmuse(path, root)
    assert table["sample_id"] == read_evalmuse(path)["sample_id"]
    assert table["image_uri"].to_pylist() == [
        root.rstrip("/") + "/SDXL-Turbo/00110.png",
        "s3://elsewhere/1.png",
    ]
    assert table["generator"].to_pylist() == ["SDXL-Turbo", None]


def test_there_and_back(file: Path, tmp_path: Path) -> None:
    table = read_evalmuse(write(file, RECORD, TEST_RECORD), "/data")
    again = tmp_path / "again.json"
    write_evalmuse(table, str(again))
    assert read_evalmuse(str(again), "/data") == table
    first, second = json.loads(again.read_text(encoding="utf-8"))
    assert first == RECORD
    assert second == {**TEST_RECORD, "promt_meaningless": [], "fidelity_label": []}


def test_a_plain_manifest_can_be_written(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    elements = [{"text": "pig", "type": "animal"}, {"text": "röd", "type": None}]
    write_evalmuse(
        pa.Table.from_pylist([{"prompt": "p", "image_uri": "a/1.png", "elements": elements}]),
        str(out),
    )
    (record,) = json.loads(out.read_text(encoding="utf-8"))
    assert record["img_path"] == "a/1.png"
    assert record["element_score"] == {"pig (animal)": None, "röd": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": ["a pig"]}, "prompt is ['a pig']; give a text"),
        ({"img_path": 7}, "img_path is 7; give a text"),
        ({"type": 3}, "type is 3; give a text"),
        (
            {"total_score": 3.666667},
            "total_score is 3.666667; give a list with one integer for each annotator, as in "
            "train_list.json, or null",
        ),
        (
            {"element_score": {"pig (animal)": [1, None]}},
            "element_score['pig (animal)'] is [1, None]; give a list with one integer for each "
            "annotator, as in train_list.json, or null",
        ),
        (
            {"element_score": "{'pig (animal)': ["},
            'element_score is "{\'pig (animal)\': ["; give an object such as {"pig giants '
            '(animal)": [1, 0, 1]}, or null',
        ),
        (
            {"element_score": "[" * 5000},
            f"element_score is {'[' * 5000!r:.80}; give an object such as "
            '{"pig giants (animal)": [1, 0, 1]}, or null',
        ),
        ({"fidelity_label": [1]}, "fidelity_label is [1]; give a list of texts, or null"),
    ],
)
def test_malformed_records(file: Path, change: dict[str, Any], message: str) -> None:
    path = write(file, RECORD, {**RECORD, **change})
    with pytest.raises(ManifestError) as error:
        read_evalmuse(path)
    assert str(error.value) == f"{path}: record 1: {message}"


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_a_record_that_lacks_something_is_a_row(file: Path, empty: str | None) -> None:
    """Others of the file can be scored: this row is told to lack prompt, image or element."""
    lacking = [{"prompt": empty}, {"img_path": empty}, {"type": empty}]
    records = [RECORD | one for one in lacking] + [RECORD | {"element_score": {" ": [1, 0, 1]}}]
    table = read_evalmuse(write(file, RECORD, *records), "s3://bucket/images")
    rows: list[dict[str, Any]] = table.to_pylist()
    assert rows[0]["image_uri"] == "s3://bucket/images/SDXL-Turbo/00110.png"
    assert (rows[1]["prompt"], rows[1]["image_uri"]) == (empty, rows[0]["image_uri"])
    assert (rows[2]["image_uri"], rows[2]["generator"]) == (empty, None)
    assert rows[3]["prompt_type"] == empty
    assert rows[4]["elements"] == [{"text": "", "type": ""}]
    assert len({row["sample_id"] for row in rows[:3]}) == 3


def test_malformed_files(file: Path) -> None:
    cases = {
        '["a"]': "record 0 is 'a'; a record must be an object with named fields",
        '{"prompt": "p"}': "holds a dict; an EvalMuse file is a list of records",
        "[{]": (
            "not JSON (Expecting property name enclosed in double quotes: line 1 column 3 "
            "(char 2)); give EvalMuse's train_list.json or test.json"
        ),
    }
    for text, message in cases.items():
        file.write_text(text)
        with pytest.raises(ManifestError) as error:
            read_evalmuse(str(file))
        assert str(error.value) == f"{file}: {message}"
    file.unlink()
    for path in (str(file), f"file://{file}"):
        with pytest.raises(ManifestError, match=r": cannot be read \(.*\); check the path$"):
            read_evalmuse(path)


def test_files_are_read_from_uris(file: Path) -> None:
    path = write(file, RECORD)
    assert read_evalmuse(f"file://{path}") == read_evalmuse(path)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    pig = {"text": "pig", "type": "animal"}
    row: dict[str, Any] = {"prompt": "p", "img_path": "1.png", "elements": [pig]}
    cases = [
        (
            {"prompt": "p"},
            "cannot write EvalMuse JSON: wanted columns prompt, and img_path or image_uri; found "
            "prompt",
        ),
        (
            {**row, "elements": [pig, pig]},
            "row 0: element 'pig (animal)' stands twice, but EvalMuse has one score for each "
            "label; drop one of them",
        ),
        (
            {**row, "element_labels": [[1], [0]]},
            "row 0: element_labels has 2 entries for 1 elements; give one list for each element",
        ),
    ]
    for bad, message in cases:
        with pytest.raises(ManifestError) as error:
            write_evalmuse(pa.Table.from_pylist([bad]), str(tmp_path / "out.json"))
        assert str(error.value) == message
    out = tmp_path / "missing" / "out.json"
    with pytest.raises(OutputError) as failure:
        write_evalmuse(pa.Table.from_pylist([row]), str(out))
    assert str(failure.value) == (
        f"cannot write {out}: [Errno 2] No such file or directory: '{out}'; choose a writable path"
    )
