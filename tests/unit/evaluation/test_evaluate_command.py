from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokenfocus_ray.cli.evaluate import evaluate
from tokenfocus_ray.errors import ManifestError, OutputError
from tokenfocus_ray.schema import sample_id

PROMPT = "a red pig"
PATHS = [f"{generator}/{i}.png" for i in range(4) for generator in ("one", "two")]
TOTALS = [[1, 1], [2, 1], [2, 3], [3, 3], [3, 4], [4, 4], [4, 5], [5, 5]]
SCORES = [1.0, 1.75, 2.25, 3.5, 3.0, 3.75, 4.25, 4.5]


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    folder = tmp_path / "scores"
    (folder / "_temporary").mkdir(parents=True)
    for name in ("_metadata.parquet", "_temporary/1.parquet", ".hidden.parquet", "run.json"):
        (folder / name).write_text("no Parquet")
    rows = [
        {
            "sample_id": sample_id(path, PROMPT),
            "status": "ok",
            "error_code": None,
            "score": score,
            "element_scores": [0.9, 0.1],
            "image": b"\x00",
        }
        for path, score in zip(PATHS, SCORES, strict=True)
    ]
    failed = {"sample_id": "u", "status": "unscored", "error_code": "image_missing"}
    pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet")
    pq.write_table(pa.Table.from_pylist([failed]), folder / "part-1.parquet")
    return folder


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    records = [
        {
            "prompt": PROMPT,
            "img_path": path,
            "total_score": totals,
            "element_score": {"pig (animal)": [1, 1], "red (color)": [1, 0]},
        }
        for path, totals in zip(PATHS, TOTALS, strict=True)
    ]
    path = tmp_path / "train_list.json"
    path.write_text(json.dumps(records))
    return path


def test_json_labels(scores: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = scores.parent / "report.json"
    report = evaluate(str(scores), str(labels), str(out))
    assert (report.n_rows, report.n_scored, report.n_labelled) == (9, 8, 8)
    assert report.srcc == pytest.approx(1 - 6 * 2 / (8 * 63), abs=1e-10)
    assert list(report.by_generator) == ["one", "two"]
    assert json.loads(out.read_text()) == report.to_dict()
    printed = capsys.readouterr().out
    assert "8 of 9 rows scored" in printed
    assert f"{report.final_official:.4f}" in printed
    for text in ("SRCC", "animal", "color", "two", "- 1 rows unscored", "image_missing: 1"):
        assert text in printed


def test_parquet_labels_give_the_same_report(scores: Path, labels: Path) -> None:
    from tokenfocus_ray.datasets import read_evalmuse

    manifest = labels.with_suffix(".parquet")
    pq.write_table(read_evalmuse(str(labels), "/data/images"), manifest)
    assert evaluate(str(scores), str(manifest)) == evaluate(str(scores), str(labels))


def test_missing_columns_name_all_that_were_found(tmp_path: Path, labels: Path) -> None:
    path = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"id": ["a"], "rating": [1.0]}), path)
    with pytest.raises(ManifestError) as error:
        evaluate(str(path), str(labels))
    assert str(error.value) == (
        f"{path}: missing columns sample_id, status, score; wanted sample_id, status, score; "
        "found id, rating"
    )


def test_paths_without_parquet(tmp_path: Path, labels: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ManifestError) as error:
            evaluate(str(path), str(labels))
        assert str(error.value) == f"{path}: no Parquet file there; check the path"
    with pytest.raises(ManifestError, match=r"train_list.json: cannot be read as Parquet \("):
        evaluate(str(labels), str(labels))


def test_report_that_cannot_be_written(scores: Path, labels: Path) -> None:
    out = scores / "missing" / "report.json"
    with pytest.raises(OutputError) as error:
        evaluate(str(scores), str(labels), str(out))
    assert str(error.value) == (
        f"cannot write {out}: [Errno 2] No such file or directory: '{out}'; choose a writable path"
    )
