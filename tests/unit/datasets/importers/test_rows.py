"""Any table becomes rows with the columns that scoring looks for, and keeps its others."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
import pytest

from tokenfocus_ray.datasets.importers.rows import absolute, spoiled, to_manifest
from tokenfocus_ray.datasets.manifest import Columns, find_columns
from tokenfocus_ray.schema import sample_id
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE


def made(rows: list[dict[str, Any]], base: str = "/data", **mapping: str) -> pa.Table:
    table = pa.Table.from_pylist(rows)
    generator = mapping.pop("generator", None)
    columns = find_columns(table.column_names, mapping, "m")
    names = (f"row {i}" for i in itertools.count())
    return to_manifest(table, columns, base, generator=generator, names=names)


def test_paths_become_absolute_and_ids_do_not_depend_on_them() -> None:
    rows = [{"caption": "a pig", "file_name": "a.png"}, {"caption": "b", "file_name": "s3://b/c"}]
    found = made(rows).to_pylist()
    assert [row["image_uri"] for row in found] == ["/data/a.png", "s3://b/c"]
    assert found[0]["sample_id"] == sample_id("a.png", "a pig")
    assert made(rows, base="/other")["sample_id"].to_pylist() == [r["sample_id"] for r in found]
    assert list(found[0]) == ["sample_id", "prompt", "image_uri", ERROR_CODE, ERROR_MESSAGE]


def test_bytes_win_over_the_name_they_had() -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a", "image": {"bytes": b"x", "path": "1.png"}},
        {"prompt": "b", "image": {"bytes": None, "path": "2.png"}},
        {"prompt": "c", "image": None},
        {"prompt": "c", "image": None},
    ]
    found = made(rows)
    assert found["image"].to_pylist() == [b"x", None, None, None]
    assert found["image_uri"].to_pylist() == [None, "/data/2.png", None, None]
    assert found["image_file"].to_pylist() == ["1.png", None, None, None]
    ids = [sample_id(b"x", "a"), sample_id("2.png", "b"), sample_id("row 2", "c")]
    assert found["sample_id"].to_pylist() == [*ids, sample_id("row 3", "c")]


def test_what_travels_on_takes_no_name_that_scoring_looks_for() -> None:
    rows = [
        {"q": "a", "prompt": "other", "path": "a.png", "webp": b"thumb", "generator": 1, "m": 2}
    ]
    found = made(rows, prompt="q", image_uri="path", generator="m").to_pylist()[0]
    assert found["prompt"] == "a"
    assert (found["generator"], found["input_generator"]) == ("2", 1)
    assert (found["input_prompt"], found["input_webp"]) == ("other", b"thumb")
    assert "webp" not in found


@pytest.mark.parametrize(
    ("elements", "parsed", "code"),
    [
        (["pig (animal)"], [{"text": "pig", "type": "animal"}], None),
        ('[{"text": "pig"}]', [{"text": "pig", "type": ""}], None),
        (None, None, None),
        ("[", None, "elements_invalid"),
        ([""], None, "elements_invalid"),
    ],
)
def test_elements(elements: Any, parsed: Any, code: str | None) -> None:
    found = made([{"prompt": "a", "path": "a.png", "elements": elements}]).to_pylist()[0]
    assert (found["elements"], found[ERROR_CODE]) == (parsed, code)


def test_the_first_reason_stays() -> None:
    table = pa.table(
        {"prompt": ["a", "b", "c"], "path": ["x", "y", "z"], "elements": ["[", "[", ""]}
    )
    table = spoiled(table, [("image_missing", "gone"), None, None])
    table = spoiled(table, [("image_corrupt", "later"), None, ("image_corrupt", "here")])
    found = to_manifest(table, Columns("prompt", None, "path", None, "elements", None), "/")
    assert found[ERROR_CODE].to_pylist() == ["image_missing", "elements_invalid", "image_corrupt"]
    assert found[ERROR_MESSAGE].to_pylist()[::2] == ["gone", "here"]


def test_given_ids_and_prompt_types() -> None:
    rows = [{"prompt": "a", "path": "a.png", "sample_id": 7, "prompt_type": "real"}]
    found = made(rows).to_pylist()[0]
    assert (found["sample_id"], found["prompt_type"]) == ("7", "real")


def test_absolute() -> None:
    assert absolute("a.png", "gs://b/c/") == "gs://b/c/a.png"
    assert absolute("file:///a.png", "/data") == "file:///a.png"
    assert absolute(None, "/data") is None
