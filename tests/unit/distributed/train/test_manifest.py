"""Labelled manifests are read as those to score are."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.distributed.train.manifest import read_manifest
from tokenfocus_ray.errors import ConfigError, ManifestError
from tokenfocus_ray.tables.text import ERROR_CODE
from tokenfocus_ray.training.samples import index_samples


def config(**values: Any) -> TrainConfig:
    return TrainConfig.parse({"data": "unused", "backbones": ["b"], **values})


CONFIG, LATIN = config(), config(encoding="latin-1")
ROWS: list[dict[str, Any]] = [
    {
        "sample_id": f"{i:03}",
        "image_uri": f"images/{i}.png",
        "prompt": f'a "pig", {"and a cow " * (i % 3)}',
        "prompt_type": "real" if i % 2 else None,
        "prompt_id": f"0{i // 2}",
        "elements": ["pig (animal)"] * (i % 3) or None,
        "total_scores": [3, 4 + i % 2, None] if i else None,
        "element_labels": [[1, 0.5]] * (i % 3) or ([[]] if i % 3 else None),
        "split_confidence": [0, 1, 0],
    }
    for i in range(7)
]


def write_text(folder: Path, rows: list[dict[str, Any]], delimiter: str) -> str:
    """Lists as JSON; what is not there, as nothing."""
    path = folder / f"m.{'tsv' if delimiter == chr(9) else 'csv'}"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        for row in rows:
            cells = {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()}
            writer.writerow(cells)
    return str(path)


def write_shards(folder: Path, rows: list[dict[str, Any]]) -> str:
    """Two shards with an image, a text and the rest as JSON for each row."""
    for number, some in enumerate((rows[:4], rows[4:])):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for row in some:
                files = {
                    "png": b"an image",
                    "txt": row["prompt"].encode(),
                    "json": json.dumps({k: v for k, v in row.items() if k != "prompt"}).encode(),
                }
                for ending, data in files.items():
                    info = tarfile.TarInfo(f"{row['sample_id']}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return str(folder)


def samples_of(uri: str, **values: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Samples and rows that are left out."""
    read = read_manifest(uri, config(**values))
    samples, skipped = index_samples(read.table, read.columns, CONFIG, "m")
    return samples.to_pylist(), skipped.to_pylist()


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "folder", "tar"])
def test_each_form_gives_the_samples_of_its_parquet_twin(tmp_path: Path, form: str) -> None:
    """What a csv file has as JSON text and a shard in ``KEY.json``, too."""
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "twin.parquet")
    samples, skipped = samples_of(str(tmp_path / "twin.parquet"))
    assert (len(samples), [row["code"] for row in skipped]) == (6, ["label_missing"])
    folder = tmp_path / "other"
    folder.mkdir()
    if form == "tar":
        mapping = {"sample_id": "key", "prompt_type": "prompt_type"}
        others = samples_of(write_shards(folder, ROWS), map=mapping)
        samples = [row | {"image_uri": None, "prompt": row["prompt"].strip()} for row in samples]
    elif form == "jsonl":
        (folder / "m.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
        others = samples_of(str(folder / "m.jsonl"))
    else:
        path = write_text(folder, ROWS, "\t" if form == "tsv" else ",")
        others = samples_of(str(folder) if form == "folder" else path)
    assert others == (samples, skipped)


def test_relative_images_start_where_those_to_score_do(tmp_path: Path) -> None:
    for name in ("metadata.csv", "train/metadata.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("file_name,text,total_scores\n0.png,a pig,4\n")
    read = read_manifest(str(tmp_path), CONFIG)
    assert read.base == str(tmp_path)
    assert read.table["file_name"].to_pylist() == ["0.png", "train/0.png"]
    assert read_manifest(str(tmp_path), config(images="/")).base == "/"
    assert read_manifest(str(tmp_path / "metadata.csv"), CONFIG).base == str(tmp_path)


def test_image_bytes_are_not_held(tmp_path: Path) -> None:
    """Neither are those of Parquet read at all."""
    write(tmp_path / "m.parquet", prompt=["a", "b"], image=[b"x" * 99, b"y"])
    for uri in (str(tmp_path / "m.parquet"), write_shards(tmp_path, ROWS)):
        read = read_manifest(uri, CONFIG)
        assert read.columns.image == "image"
        assert "image" not in read.table.column_names
    assert read.starts == (0, 4, 7)


def test_what_a_shard_passes_over_is_said(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, ROWS[:5])
    with tarfile.open(tmp_path / "1.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("README"))
    lines: list[str] = []
    read_manifest(folder, CONFIG, say=lines.append)
    assert lines == ["passed over in the tar shards: 1 without an ending"]


def test_shards_of_other_labels_are_another_run(tmp_path: Path) -> None:
    first = read_manifest(write_shards(tmp_path, ROWS), CONFIG).fingerprint
    assert read_manifest(str(tmp_path), CONFIG).fingerprint == first
    rows = [row | {"split_confidence": [1, 1, 0]} for row in ROWS]
    assert read_manifest(write_shards(tmp_path, rows), CONFIG).fingerprint != first


def test_the_fingerprint_is_that_of_runs_begun_before(tmp_path: Path) -> None:
    """Whatever reads a manifest: another fingerprint would refuse every run that was begun."""
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "m.parquet")
    assert read_manifest(str(tmp_path / "m.parquet"), CONFIG).fingerprint == "bc731a3b2ec8538e"
    records = [
        {
            "prompt_id": row["prompt_id"],
            "prompt": row["prompt"],
            "type": row["prompt_type"],
            "img_path": row["image_uri"],
            "total_score": [3, 4, 5],
            "element_score": "{'a pig (animal)': [1, 0, 1]}",
        }
        for row in ROWS
    ]
    (tmp_path / "m.json").write_text(json.dumps(records))
    assert read_manifest(str(tmp_path / "m.json"), CONFIG).fingerprint == "55432940eeaafa87"


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
    table = read_manifest(str(tmp_path), CONFIG).table
    assert table["n"].to_pylist() == [1.0, 0.5]
    assert table["element_labels"].to_pylist() == [None, [[1]]]


def test_types_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.parquet", prompt=["a"], sample_id=[7.0])
    with pytest.raises(ManifestError, match=r"column 'sample_id' \(sample_id\) is of type double"):
        read_manifest(path, CONFIG)
    write(Path(path), prompt=["a"])
    pq.write_table(pa.table({"total_scores": [[3]]}), tmp_path / "o.parquet")
    with pytest.raises(ManifestError, match=r"o\.parquet: there is no column 'prompt'"):
        read_manifest(str(tmp_path), CONFIG)


def test_bytes_are_decoded_or_marked(tmp_path: Path) -> None:
    path = write(tmp_path / "m.parquet", prompt=["café".encode(), b"caf\xe9"])
    table = read_manifest(path, CONFIG).table
    assert table["prompt"].to_pylist() == ["café", "caf\\xe9"]
    assert table[ERROR_CODE].to_pylist() == [None, "text_invalid"]
    assert read_manifest(path, LATIN).table[ERROR_CODE].null_count == 2
    (tmp_path / "m.jsonl").write_bytes('{"prompt": "café", "path": "x"}'.encode("latin-1"))
    manifest = read_manifest(str(tmp_path / "m.jsonl"), LATIN)
    assert manifest.table["prompt"].to_pylist() == ["café"]
    for name in (path, str(tmp_path / "m.jsonl")):
        with pytest.raises(ConfigError, match="encoding 'latin1x': there is no such encoding"):
            read_manifest(name, config(encoding="latin1x"))


def test_an_image_column_of_paths_is_one_of_paths(tmp_path: Path) -> None:
    path = write(tmp_path / "m.parquet", prompt=["a"], image=["0.png"])
    columns = read_manifest(path, CONFIG).columns
    assert (columns.image, columns.image_uri) == (None, "image")
