"""Folders: nothing that can be scored is left out, nothing comes twice, the rest is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokenfocus_ray.datasets.names import IMAGE_ENDINGS
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.units import read_unit
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store


def put(folder: Path, name: str, content: str = "") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def score(folder: Path, images: str | None = None) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Path, prompt and folder of each row, and what is said."""
    said: list[str] = []
    keep = Store.of(folder.parent / "kept")
    source = plan_source([str(folder)], images, {}, keep, say=said.append)
    for name, data in source.inputs.items():
        keep.write_bytes(name, data)
    c = source.columns
    rows = []
    for unit in source.units:
        for table in read_unit(source.schema, unit, 100):
            rows += [(r[c.image_uri or ""], r[c.prompt], unit.base) for r in table.to_pylist()]
    assert {base for *_, base in rows} <= {images or str(folder)}
    return [row[:2] for row in rows], said


@pytest.mark.parametrize("ending", IMAGE_ENDINGS)
def test_every_image_ending_is_found_in_a_folder(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "data"
    put(folder, f"a.{ending}")
    put(folder, f"B.{ending.upper()}")
    put(folder, "a.txt", "a pig")
    put(folder, "B.TXT", "a cow")
    assert score(folder) == ([(f"B.{ending.upper()}", "a cow"), (f"a.{ending}", "a pig")], [])


def test_names_with_a_leading_underscore_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for name in ("_a.png", "_sub/b.png"):
        put(folder, name)
        put(folder, name.replace(".png", ".txt"), name)
    assert score(folder) == ([("_a.png", "_a.png"), ("_sub/b.png", "_sub/b.png")], [])


def test_what_is_passed_over_is_counted_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for name in ("a.png", "a.txt", "b.png", "._a.png", ".DS_Store", "__MACOSX/._a.png",
                 "readme.txt", "license.txt", "notes.md", "LIST", "old.parquet"):  # fmt: skip
        put(folder, name, "text")
    (folder / "gone.png").symlink_to("nowhere.png")
    rows, said = score(folder)
    assert rows == [("a.png", "text"), ("b.png", None)]
    assert said == [
        f"{folder}: 2 images; passed over: 3 hidden, 2 .txt, 1 broken links or special files, "
        f"1 without an ending, 1 .md, 1 .parquet"
    ]


def test_links_are_followed_once(tmp_path: Path) -> None:
    """A link to the folder itself made forty times the rows."""
    folder = tmp_path / "data"
    for name in ("a/1.png", "b/2.png"):
        put(folder, name)
        put(folder, name.replace(".png", ".txt"), name)
    put(tmp_path / "elsewhere", "3.png")
    put(tmp_path / "elsewhere", "3.txt", "3")
    (folder / "here").symlink_to(".")
    (folder / "a" / "up").symlink_to("..")
    (folder / "AA").symlink_to("a")
    (folder / "other").symlink_to(tmp_path / "elsewhere")
    (folder / "other2").symlink_to(tmp_path / "elsewhere")
    rows, said = score(folder)
    assert rows == [("a/1.png", "a/1.png"), ("b/2.png", "b/2.png"), ("other/3.png", "3")]
    assert said == [f"{folder}: 3 images; passed over: 4 linked folders that are read already"]


def test_links_to_files_are_files(tmp_path: Path) -> None:
    """As Hugging Face's cache has them: every name is a link to a blob."""
    folder = tmp_path / "data"
    put(tmp_path / "blobs", "1f")
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).symlink_to("../blobs/1f")
        put(folder, name.replace(".png", ".txt"), name)
    assert score(folder) == ([("a.png", "a.png"), ("b.png", "b.png")], [])


def test_tables_with_a_leading_underscore_are_no_data(tmp_path: Path) -> None:
    """As Spark and Hive have it: ``_metadata``, ``_temporary``, this package's ``__job``."""
    folder = tmp_path / "data"
    for name, prompt in (("0.parquet", "a"), ("_temporary/1.parquet", "b"), ("_2.parquet", "c")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"image_uri": ["x.png"], "prompt": [prompt]}), folder / name)
    put(folder, "_SUCCESS")
    put(folder, "x.png")
    assert score(folder) == (
        [("x.png", "a")],
        [f"{folder}: 1 manifest; passed over: 2 _*.parquet"],
    )


def test_shards_with_a_leading_underscore_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    put(folder, "_0.tar")
    put(folder, "0.parquet")
    said: list[str] = []
    source = plan_source([str(folder)], None, {}, Store.of(tmp_path / "kept"), say=said.append)
    assert [unit.uri for unit in source.units] == [str(folder / "_0.tar")]
    assert said == [f"{folder}: 1 tar shard; passed over: 1 .parquet"]


def metadata(folder: Path, form: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    if form == "parquet":
        pq.write_table(table, folder / "metadata.parquet")
    elif form == "csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        put(folder, "metadata.csv", "\n".join(lines))
    else:
        put(folder, "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_metadata_in_subfolders_is_one_manifest_with_paths_from_the_top(
    tmp_path: Path, form: str
) -> None:
    """Rows of one name in two folders can be told apart, and so have ids of their own."""
    folder = tmp_path / "data"
    for split in ("test", "train/a"):
        names = {"1.png": f"{split} 1", "sub/2.png": "2"}
        entries = [{"file_name": name, "text": text} for name, text in names.items()]
        metadata(folder / split, form, entries)
        put(folder, f"{split}/1.png")
    rows, said = score(folder)
    assert rows == [
        ("test/1.png", "test 1"),
        ("test/sub/2.png", "2"),
        ("train/a/1.png", "train/a 1"),
        ("train/a/sub/2.png", "2"),
    ]
    assert said == []


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("split", ["", "train"])
def test_one_metadata_file_starts_from_where_it_lies(tmp_path: Path, form: str, split: str) -> None:
    folder = tmp_path / "data"
    given = ["1.png", "/2.png", "s3://bucket/3.png"]
    metadata(folder / split, form, [{"file_name": name, "text": "t"} for name in given])
    top = f"{split}/" if split else ""
    assert [row[0] for row in score(folder)[0]] == [f"{top}1.png", *given[1:]]
    elsewhere = str(tmp_path)
    assert [row[0] for row in score(folder, elsewhere)[0]] == given


def test_metadata_of_two_forms_is_not_one_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    metadata(folder / "a", "csv", [{"file_name": "1.png", "text": "t"}])
    metadata(folder / "b", "jsonl", [{"file_name": "1.png", "text": "t"}])
    with pytest.raises(ManifestError) as caught:
        score(folder)
    assert str(caught.value).endswith(
        "; it holds several manifests, name one: ['a/metadata.csv', 'b/metadata.jsonl']"
    )


@pytest.mark.parametrize("in_folder", [True, False])
@pytest.mark.parametrize("name", ["M.CSV", "M.JSONL", "M.Parquet", "M.TSV"])
def test_endings_of_manifests_may_be_capitals(tmp_path: Path, name: str, in_folder: bool) -> None:
    """Before, those that a folder found were read as another form."""
    folder = tmp_path / "data"
    row = {"image_uri": "1.png", "prompt": "a pig"}
    form = name.lower().rpartition(".")[2]
    folder.mkdir()
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), folder / name)
    elif form == "jsonl":
        put(folder, name, json.dumps(row))
    else:
        sep = "," if form == "csv" else "\t"
        put(folder, name, sep.join(row) + "\n" + sep.join(row.values()))
    given = folder if in_folder else folder / name
    keep = Store.of(tmp_path / "kept")
    source = plan_source([str(given)], None, {}, keep)
    for kept, data in source.inputs.items():
        keep.write_bytes(kept, data)
    (table,) = read_unit(source.schema, source.units[0], 10)
    assert table.to_pylist() == [row]


def test_shards_in_capitals_are_shards(tmp_path: Path) -> None:
    for name in ("0.TAR", "1.tar"):
        put(tmp_path / "data", name)
    source = plan_source([str(tmp_path / "data")], None, {}, Store.of(tmp_path / "kept"))
    assert [Path(unit.uri).name for unit in source.units] == ["0.TAR", "1.tar"]
