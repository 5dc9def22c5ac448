"""JSON of records: what is none says what and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenfocus_ray.datasets.importers.base import Request
from tokenfocus_ray.datasets.importers.records import read_records, text_of
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{}", "holds a dict; give TIFA's file"),
        ("a.json", "[1]", "record 0 is 1; a record must be an object with named fields"),
        ("a.jsonl", "[1]\n", "record 0 is [1]; a record must be an object with named fields"),
        (
            "a.jsonl",
            "{\n",
            "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char "
            "1)); give TIFA's file",
        ),
    ],
)
def test_no_records(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ManifestError) as caught:
        read_records(Request(str(path), Store.of(tmp_path)), "TIFA's file")
    assert str(caught.value).removeprefix(f"{path}: ") == message


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        read_records(Request(str(tmp_path / "a.json"), Store.of(tmp_path)), "a file")
    assert str(caught.value) == f"'{tmp_path}/a.json' does not exist; check the path"


def test_text_of_a_record() -> None:
    assert text_of({"a": 7}, "a", "m") == "7"
    assert text_of({}, "a", "m", empty=True) == ""
    for wrong in ({"a": True}, {"a": ["x"]}, {"a": " "}, {}):
        with pytest.raises(ManifestError) as caught:
            text_of(wrong, "a", "m: record 3")
        assert str(caught.value) == f"m: record 3: a is {wrong.get('a')!r}; give a text"
