"""Labelled manifests are read as those to score are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokenfocus_ray.distributed.train.manifest import read_manifest
from tokenfocus_ray.errors import ConfigError, ManifestError
from tokenfocus_ray.tables.text import ERROR_CODE


def write(path: Path, **columns: Any) -> str:
    n_rows = len(columns["prompt"])
    table: dict[str, Any] = {
        "total_scores": [[3]] * n_rows,
        "image_uri": ["x.png"] * n_rows,
    } | columns
    pq.write_table(pa.table(table), path)
    return str(path)


def test_columns_that_the_first_file_lacks_are_read(tmp_path: Path) -> None:
    """Before, the first file's schema was taken for all: labels of others fell away."""
    write(tmp_path / "0.parquet", prompt=["a"], n=[1])
    write(tmp_path / "1.parquet", prompt=["b"], n=[0.5], element_labels=[[[1]]])
    table = read_manifest(str(tmp_path), None, {}).table
    assert table["n"].to_pylist() == [1.0, 0.5]
    assert table["element_labels"].to_pylist() == [None, [[1]]]


def test_types_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.parquet", prompt=["a"], sample_id=[7.0])
    with pytest.raises(ManifestError, match=r"column 'sample_id' \(sample_id\) is of type double"):
        read_manifest(path, None, {})
    write(Path(path), prompt=["a"])
    pq.write_table(pa.table({"total_scores": [[3]]}), tmp_path / "o.parquet")
    with pytest.raises(ManifestError, match=r"o\.parquet: there is no column 'prompt'"):
        read_manifest(str(tmp_path), None, {})


def test_bytes_are_decoded_or_marked(tmp_path: Path) -> None:
    path = write(tmp_path / "m.parquet", prompt=["café".encode(), b"caf\xe9"])
    table = read_manifest(path, None, {}).table
    assert table["prompt"].to_pylist() == ["café", "caf\\xe9"]
    assert table[ERROR_CODE].to_pylist() == [None, "text_invalid"]
    assert read_manifest(path, None, {}, "latin-1").table[ERROR_CODE].null_count == 2
    (tmp_path / "m.jsonl").write_bytes('{"prompt": "café", "path": "x"}'.encode("latin-1"))
    manifest = read_manifest(str(tmp_path / "m.jsonl"), None, {}, "latin-1")
    assert manifest.table["prompt"].to_pylist() == ["café"]
    for name in (path, str(tmp_path / "m.jsonl")):
        with pytest.raises(ConfigError, match="encoding 'latin1x': there is no such encoding"):
            read_manifest(name, None, {}, "latin1x")


def test_an_image_column_of_paths_is_one_of_paths(tmp_path: Path) -> None:
    path = write(tmp_path / "m.parquet", prompt=["a"], image=["0.png"])
    columns = read_manifest(path, None, {}).columns
    assert (columns.image, columns.image_uri) == (None, "image")
