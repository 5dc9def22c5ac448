"""Every form of input gives the same rows, cut the same way at each launch."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.stores import gs_bucket  # noqa: F401
from tokenfocus_ray.datasets import sources
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.units import Source, read_unit
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.parquet import to_parquet
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE, TextOptions

LATIN = TextOptions("latin-1")
ROWS = [{"prompt": f"prompt {i}", "image_uri": f"{i}.png"} for i in range(7)]


def plan(*uris: Path | str, mapping: dict[str, str] | None = None, keep: Path) -> Source:
    return plan_source([str(u) for u in uris], None, mapping or {}, Store.of(keep / "kept"))


def rows_of(source: Source, keep: Path, count: int = 3) -> list[dict[str, Any]]:
    """All rows; what is to be written first is written."""
    for name, data in source.inputs.items():
        Store.of(keep / "kept").write_bytes(name, data)
    tables = [t for u in source.units for t in read_unit(source.schema, u, count)]
    assert all(0 < t.num_rows <= count for t in tables)
    return [row for t in tables for row in t.to_pylist()]


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize("in_folder", [False, True])
def test_manifests(tmp_path: Path, suffix: str, in_folder: bool) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / f"m{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        sep = "," if suffix == ".csv" else "\t"
        path.write_text("\n".join([sep.join(ROWS[0]), *(sep.join(r.values()) for r in ROWS)]))
    (folder / "0.png").write_bytes(b"a picture that no text stands beside")
    source = plan(folder if in_folder else path, keep=tmp_path)
    assert rows_of(source, tmp_path) == ROWS
    assert source.n_rows == 7
    assert {unit.base for unit in source.units} == {str(folder)}


def test_folder_of_an_import_that_is_not_finished(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    (folder / "__job").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "part-000000-0000.parquet")
    (folder / "__job" / "import.json").write_text("{}")
    with pytest.raises(ManifestError) as caught:
        plan(folder, keep=tmp_path)
    assert str(caught.value) == (
        f"folder '{folder}': its import is not finished, so a part of the rows is there; launch "
        f"the same `tokenfocus data import` again"
    )
    (folder / "__job" / "done.json").write_text("{}")
    assert plan(folder, keep=tmp_path).n_rows == 7


def test_folder_of_captioned_images(tmp_path: Path) -> None:
    """As img2dataset's ``files`` leaves them, Parquet beside them; one has lost its caption."""
    folder = tmp_path / "data"
    (folder / "00000").mkdir(parents=True)
    for i in range(3):
        (folder / "00000" / f"{i}.jpg").write_bytes(b"")
        if i != 1:
            (folder / "00000" / f"{i}.txt").write_text(f"prompt {i}\n")
    (folder / "_old.png").write_bytes(b"")
    pq.write_table(pa.table({"url": ["http://x"], "caption": ["no"]}), folder / "00000.parquet")
    source = plan(folder, keep=tmp_path)
    assert rows_of(source, tmp_path) == [
        {"image_uri": "00000/0.jpg", "prompt": "prompt 0"},
        {"image_uri": "00000/1.jpg", "prompt": None},
        {"image_uri": "00000/2.jpg", "prompt": "prompt 2"},
        {"image_uri": "_old.png", "prompt": None},
    ]


def test_img2dataset_parquet(tmp_path: Path) -> None:
    table = pa.table({"jpg": [b"1", None], "caption": ["a", "b"], "status": ["success", "failed"]})
    pq.write_table(table, tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text("{}")
    source = plan(tmp_path, keep=tmp_path)
    assert (source.columns.image, source.columns.prompt) == ("jpg", "caption")
    assert source.has_bytes


def test_tar_shards(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    members = {}
    for i in range(4):
        members[f"a/{i}.jpg"] = b"picture %d" % i
        members[f"a/{i}.json"] = json.dumps({"elements": ["cat (animal)"], "seed": i}).encode()
        members[f"a/{i}.txt"] = f" prompt {i}\n".encode()
    write_tar(folder / "00000.tar", members)
    write_tar(folder / "00001.tar", {"b.webp": b"w", "b.json": b'{"caption": "c"}', "c.txt": b"t"})
    write_tar(folder / "00002.tar", {})
    pq.write_table(pa.table({"key": ["x"]}), folder / "00000.parquet")
    source = plan(folder, mapping={"sample_id": "seed"}, keep=tmp_path)
    assert source.n_rows is None
    assert [len(list(read_unit(source.schema, u, 3))) for u in source.units] == [2, 1, 0]
    rows = rows_of(source, tmp_path)
    assert [r["key"] for r in rows] == ["a/0", "a/1", "a/2", "a/3", "b", "c"]
    assert [r["prompt"] for r in rows] == [*(f"prompt {i}" for i in range(4)), "c", "t"]
    assert [r["image"] for r in rows] == [*(b"picture %d" % i for i in range(4)), b"w", None]
    assert [r["seed"] for r in rows] == ["0", "1", "2", "3", None, None]
    assert rows[0]["elements"] == '["cat (animal)"]'
    assert [r["shard"] for r in rows] == ["00000.tar"] * 4 + ["00001.tar"] * 2
    assert {r[ERROR_CODE] for r in rows} == {r[ERROR_MESSAGE] for r in rows} == {None}


@pytest.mark.parametrize(
    ("cut", "whole", "where"),
    [
        (0, 0, "from its start on: empty file"),
        (700, 0, "from key '0' on: unexpected end of data"),
        (2100, 1, "from key '1' on: unexpected end of data"),
        (3072, 2, "after key '1' on: unexpected end of data"),
        (3200, 2, "after key '1' on: unexpected end of data"),
    ],
)
def test_a_shard_that_is_cut_off_ends_in_a_row_that_says_so(
    tmp_path: Path, cut: int, whole: int, where: str
) -> None:
    path = write_tar(tmp_path / "0.tar", {f"{i}.jpg": b"x" * 900 for i in range(3)})
    path.write_bytes(path.read_bytes()[:cut])
    *good, last = rows_of(plan(path, keep=tmp_path), tmp_path)
    assert [r["image"] for r in good] == [b"x" * 900] * whole
    assert [r[ERROR_MESSAGE] for r in good] == [None] * whole
    assert (last["image"], last[ERROR_CODE], last[ERROR_MESSAGE]) == (
        None,
        "source_corrupt",
        f"shard {str(path)!r} cannot be read {where}; fetch it again, what follows in it was not "
        f"scored",
    )


def test_units_cover_every_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups smaller and larger than a unit, and pieces that fit neither."""
    monkeypatch.setattr(sources, "UNIT_ROWS", 10)
    path = tmp_path / "m.parquet"
    schema = pa.schema({"prompt": pa.string(), "image_uri": pa.string()})
    expected: list[dict[str, str]] = []
    with pq.ParquetWriter(path, schema) as writer:
        for size in (4, 3, 0, 25, 10, 1):
            rows = [{"prompt": f"{len(expected) + i}", "image_uri": "x"} for i in range(size)]
            expected += rows
            writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=100)
    source = plan(path, keep=tmp_path)
    assert [u.n_rows for u in source.units] == [7, 10, 10, 5, 10, 1]
    for count in (1, 3, 4, 100):
        assert rows_of(source, tmp_path, count) == expected


def test_units_are_found_from_any_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes of a cluster stand in others than the driver."""
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "m.parquet")
    monkeypatch.chdir(tmp_path)
    for given in ("m.parquet", "."):
        source = plan_source([given], ".", {}, Store.of("kept"))
        assert {(u.uri, u.base) for u in source.units} == {
            (str(tmp_path / "m.parquet"), str(tmp_path))
        }


def test_files_whose_columns_differ(tmp_path: Path) -> None:
    """A column that a file lacks is null there; types are widened; what cannot be is refused."""
    pq.write_table(pa.table({"prompt": ["a"], "path": ["x"], "n": [1]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"path": ["y"], "prompt": ["b"], "n": [1.5]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"path": ["z"], "prompt": ["c"]}), tmp_path / "2.parquet")
    source = plan(tmp_path, keep=tmp_path)
    assert rows_of(source, tmp_path) == [
        {"prompt": "a", "path": "x", "n": 1.0},
        {"prompt": "b", "path": "y", "n": 1.5},
        {"prompt": "c", "path": "z", "n": None},
    ]
    pq.write_table(pa.table({"path": ["z"], "prompt": [[1]]}), tmp_path / "3.parquet")
    with pytest.raises(ManifestError) as caught:
        plan(tmp_path, keep=tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/3.parquet: column 'prompt' is of type list<element: int64>, and of string in "
        f"{tmp_path}/0.parquet; cast one of them, or take the files one after another"
    )


def test_fingerprint_tells_another_input(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    first = plan(path, keep=tmp_path).fingerprint
    assert plan(path, keep=tmp_path).fingerprint == first
    pq.write_table(pa.Table.from_pylist([*ROWS[:-1], {**ROWS[-1], "prompt": "prompt!6"}]), path)
    assert plan(path, keep=tmp_path).fingerprint != first


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "gone.parquet", "manifest {path!r} does not exist"),
        (
            lambda p: _text(p / "m.xml", "<a/>"),
            "manifest {path!r}: cannot tell its format from '.xml'; wanted " + sources.FORMS,
        ),
        (lambda p: _text(p / "e" / "x.md", "").parent, "folder {path!r}: wanted " + sources.FORMS),
        (
            lambda p: _text(_text(p / "t" / "a.csv", "x").parent / "b.jsonl", "{}").parent,
            "folder {path!r}: wanted " + sources.FORMS + "; it holds several manifests, name one: "
            "['a.csv', 'b.jsonl']",
        ),
        (lambda p: _text(p / "m.csv", "prompt,path\n"), "manifest {path!r} has no rows"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, make: Any, message: str) -> None:
    path = make(tmp_path)
    with pytest.raises(ManifestError) as caught:
        plan(path, keep=tmp_path)
    assert str(caught.value) == message.format(path=str(path))


def test_shards_and_parquet_in_one_job(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "m.parquet")
    write_tar(tmp_path / "0.tar", {"a.jpg": b"a"})
    with pytest.raises(ManifestError, match=r"m\.parquet, .*0\.tar: tar shards and Parquet cannot"):
        plan(tmp_path / "m.parquet", tmp_path / "0.tar", keep=tmp_path)


def _text(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_map_names_the_image_of_a_shard_by_its_ending(tmp_path: Path) -> None:
    """Where a key has several; another name is a field of its JSON, as before."""
    members = {"a.0.png": b"0", "a.1.png": b"1", "a.json": b'{"seed": 7, "caption": "c"}'}
    write_tar(tmp_path / "s.tar", members)
    source = plan(tmp_path, mapping={"image": "1.png", "sample_id": "seed"}, keep=tmp_path)
    assert (source.columns.image, source.columns.sample_id) == ("1.png", "seed")
    (row,) = rows_of(source, tmp_path)
    assert "image" not in row
    assert (row["1.png"], row["seed"], row["prompt"], row[ERROR_CODE]) == (b"1", "7", "c", None)


def test_captions_of_other_encodings_mark_their_row_or_are_named(tmp_path: Path) -> None:
    """Before, they were scored with replacement characters."""
    captions = {
        "0": "café".encode(),
        "1": "café".encode("utf-8-sig"),
        "2": "café\n".encode("utf-16"),
        "3": "café".encode("latin-1"),
    }
    folder = tmp_path / "data"
    folder.mkdir()
    for name, data in captions.items():
        (folder / f"{name}.jpg").write_bytes(b"")
        (folder / f"{name}.txt").write_bytes(data)
    rows = rows_of(plan(folder, keep=tmp_path), tmp_path)
    assert [r["prompt"] for r in rows] == ["café", "café", "café", None]
    assert [r[ERROR_CODE] for r in rows] == [None, None, None, "text_invalid"]
    assert rows[3][ERROR_MESSAGE].startswith("3.txt is not utf-8: byte 3 is 0xe9 (")
    (folder / "0.txt").write_bytes(b"caf\xe9")
    source = plan_source([str(folder)], None, {}, Store.of(tmp_path / "kept"), LATIN)
    assert [r["prompt"] for r in rows_of(source, tmp_path)] == ["café"] * 4
    assert source.encoding == "latin-1"


def test_text_in_tar_shards_of_other_encodings(tmp_path: Path) -> None:
    """Before, captions became mojibake, and a KEY.json with a mark was not read."""
    known = {"caption": "a café", "elements": ["pig (animal)"]}
    path = write_tar(
        tmp_path / "0.tar",
        {
            "0.jpg": b"0",
            "0.json": json.dumps(known, ensure_ascii=False).encode("utf-8-sig"),
            "1.jpg": b"1",
            "1.txt": "café".encode("latin-1"),
            "1.json": json.dumps({"note": "café"}, ensure_ascii=False).encode(),
            "2.jpg": b"2",
            "2.txt": "café".encode("utf-16"),
            "3.jpg": b"3",
            "3.json": b'{"caption": ["a", "b"]}',
            "4.jpg": b"4",
            "4.json": b'{"caption": ["a pig"]}',
        },
    )
    rows = rows_of(plan(path, keep=tmp_path), tmp_path)
    assert [r["prompt"] for r in rows] == ["a café", None, "café", None, "a pig"]
    assert [r["elements"] for r in rows] == ['["pig (animal)"]', None, None, None, None]
    assert [r[ERROR_CODE] for r in rows] == [None, "text_invalid", None, "type_invalid", None]
    assert rows[1][ERROR_MESSAGE].startswith("1.txt is not utf-8: byte 3 is 0xe9 (")
    assert rows[3][ERROR_MESSAGE] == ("3.json: caption is ['a', 'b'] (a list of 2); give one text")
    source = plan_source([str(path)], None, {}, Store.of(tmp_path / "kept"), LATIN)
    (unit,) = source.units
    (table,) = read_unit(source.schema, unit, 9, source.encoding)
    assert table["prompt"].to_pylist() == ["a café", "café", "café", None, "a pig"]
    assert json.loads(table["json"][1].as_py()) == {"note": "café"}


def test_evalmuse_of_another_encoding(tmp_path: Path) -> None:
    records = [
        {"prompt": prompt, "img_path": "a/0.png", "element_score": {"pig (animal)": None}}
        for prompt in ("café", "\ud83d pig")
    ]
    path = tmp_path / "m.json"
    path.write_bytes(json.dumps(records).encode("utf-8-sig"))
    rows = rows_of(plan(path, keep=tmp_path), tmp_path)
    assert [r["prompt"] for r in rows] == ["café", "\\ud83d pig"]
    assert [r[ERROR_CODE] for r in rows] == [None, "text_invalid"]
    path.write_bytes(json.dumps(records[:1], ensure_ascii=False).encode("latin-1"))
    with pytest.raises(ManifestError, match=r"m\.json: line 1 is not utf-8: byte 16 is 0xe9"):
        plan(path, keep=tmp_path)
    source = plan_source([str(path)], None, {}, Store.of(tmp_path / "kept"), LATIN)
    (row,) = rows_of(source, tmp_path)
    assert row["prompt"] == "café"
    path.write_text("[" * 100_000)
    with pytest.raises(ManifestError, match="not JSON"):
        plan(path, keep=tmp_path)


def test_manifests_in_a_store_of_fsspec(gs_bucket: str) -> None:  # noqa: F811
    """A csv file, Parquet, a folder of it and one of captioned images, each with its base."""
    store = Store.of(gs_bucket)
    table = pa.table({"prompt": ["a cow", "a dog"], "image_uri": ["a.png", "b.png"]})
    store.write_bytes("m/m.csv", b"prompt,image_uri\na cow,a.png\na dog,b.png\n")
    store.write_bytes("p/m.parquet", to_parquet(table))
    for name, data in (("a.png", b""), ("a.txt", b"a cow"), ("b.png", b""), ("b.txt", b"a dog")):
        store.write_bytes(f"c/{name}", data)
    seen = {}
    for name in ("m/m.csv", "p/m.parquet", "p", "c"):
        source = plan_source([f"{gs_bucket}/{name}"], None, {}, store.child("run", name))
        (unit,) = source.units
        for data in source.inputs.values():
            Store.of(unit.uri).write_bytes("", data)
        rows = [row for part in read_unit(source.schema, unit, 8) for row in part.to_pylist()]
        assert [row["prompt"] for row in rows] == ["a cow", "a dog"]
        seen[name] = unit.base
        assert set(source.fingerprint) & {"etags", "bytes"}
    assert seen == {n: f"{gs_bucket}/{n[0]}" for n in seen}
