"""What a folder is to all others, on a disk and in a store that fsspec reaches."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.stores import gs_bucket  # noqa: F401
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.storage import TEMPORARY, Store
from tokenfocus_ray.tables.parquet import read_parquet, to_parquet


@pytest.fixture(params=["disk", "fsspec"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "disk":
        return Store.of(tmp_path / "a" / "b")
    return Store.of(f"{request.getfixturevalue('gs_bucket')}/a/b")


def message(error: type[Exception], function: Any, *args: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


def test_bytes(store: Store) -> None:
    assert not store.exists()
    assert not store.exists("x/y.bin")
    store.write_bytes("x/y.bin", b"abc")
    assert store.exists("x")
    assert store.exists("x/y.bin")
    assert store.is_folder()
    assert not store.child("x/y.bin").is_folder()
    assert store.read_bytes("x/y.bin") == b"abc"
    store.write_bytes("x/y.bin", b"")
    assert store.child("x", "y.bin").read_bytes() == b""


@pytest.mark.parametrize(
    "name", ["a b/\u00fc?#%20+&.json", "x=1/y=2", "." + "n" * 200, "packed.gz"]
)
def test_names_that_need_care(store: Store, name: str) -> None:
    store.write_bytes(name, b"abc")
    assert store.read_bytes(name) == b"abc"
    folder, _, last = name.rpartition("/")
    assert store.names(folder) == [last]


def test_json(store: Store) -> None:
    value = {"b": [1, 2.5, None], "a": "\u00fc\ud800"}
    store.write_json("x.json", value)
    assert store.read_json("x.json") == value
    text = store.read_bytes("x.json").decode()
    assert text == json.dumps(value, indent=2) + "\n"
    assert message(ValueError, store.write_json, "x.json", float("nan")).startswith("Out of range")
    assert store.read_json("x.json") == value


def test_no_json(store: Store) -> None:
    store.write_bytes("x.json", b"{")
    assert message(OutputError, store.read_json, "x.json") == (
        f"{store.uri + '/x.json'!r} is no JSON (Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)); delete it or write it again"
    )


def test_missing_files_stay_file_not_found(store: Store) -> None:
    for read in (store.read_bytes, store.read_json):
        with pytest.raises(FileNotFoundError):
            read("x")


def test_names(store: Store) -> None:
    assert store.names() == []
    for name in ("b", "a/1", "a/2", ".hidden", f"{TEMPORARY}0"):
        store.write_bytes(name, b"")
    assert store.names() == [".hidden", "a", "b"]
    assert store.names("a") == ["1", "2"]
    assert store.names("none") == []


def test_delete(store: Store) -> None:
    for name in ("a", "b/1", "b/c/2", "d"):
        store.write_bytes(name, b"")
    for name in ("a", "b", "none", "none/none"):
        store.delete(name)
    assert store.names() == ["d"]
    assert not store.exists("b")
    store.delete("")
    assert not store.exists()


def test_a_whole_bucket_keeps_its_place(gs_bucket: str) -> None:  # noqa: F811
    bucket = Store.of(gs_bucket)
    bucket.write_bytes("a", b"")
    bucket.write_bytes("b/c", b"")
    bucket.check_writable()
    assert bucket.names() == ["a", "b"]
    bucket.delete("")
    assert bucket.exists()
    assert bucket.names() == []


def test_check_writable_leaves_nothing(store: Store) -> None:
    store.check_writable()
    assert store.names() == []


def test_it_pickles(store: Store) -> None:
    store.write_bytes("x", b"abc")
    back = pickle.loads(pickle.dumps(store))
    assert back == store
    assert back.read_bytes("x") == b"abc"


def test_it_lies_in_folders_above(store: Store, tmp_path: Path) -> None:
    above = Store.of(store.uri.rpartition("/")[0])
    assert store.lies_in(above)
    assert store.lies_in(store)
    assert not above.lies_in(store)
    assert not store.lies_in(Store.of("s3://a"))
    assert not Store.of(f"s3://{store.root.lstrip('/')}").lies_in(above)


def test_what_was_written_anew_is_told(gs_bucket: str) -> None:  # noqa: F811
    store = Store.of(gs_bucket)
    store.write_bytes("x", b"abc")
    first = store.child("x").version()
    assert first
    assert store.child("x").version() == first
    store.write_bytes("x", b"abd")
    assert store.child("x").version() != first


def test_parquet(store: Store) -> None:
    table = pa.table({"sample_id": ["a", "b"], "x": pa.array(np.arange(2))})
    store.write_bytes("t/0.parquet", to_parquet(table))
    store.write_bytes("t/1.parquet", to_parquet(table))
    store.write_bytes("t/__job/2.parquet", b"no data")
    assert read_parquet(f"{store.uri}/t", None, ()).num_rows == 4
    at = store.child("t/0.parquet")
    assert pq.read_table(at.root, filesystem=at.filesystem).equals(table)
