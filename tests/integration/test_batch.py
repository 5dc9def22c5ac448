"""The batch job on real Ray: every source gives the same scores, every row leaves exactly once."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tokenfocus_ray import AlignmentScorer
from tokenfocus_ray.config import JobConfig, ScoringConfig
from tokenfocus_ray.distributed.score.job import RunSummary, score_manifest
from tokenfocus_ray.errors import AdapterError, ConfigError, LevelError, ManifestError, OutputError
from tokenfocus_ray.schema import SCORE_SCHEMA

CONFIG = ScoringConfig(backbone="tiny-qwen2_5_vl")


def run(manifest: Path, out: Path, **options: Any) -> tuple[RunSummary, pd.DataFrame]:
    summary = score_manifest(str(manifest), str(out), CONFIG, **options)
    return summary, pd.read_parquet(out).sort_values("sample_id", ignore_index=True)


@pytest.fixture(scope="module")
def test_split(benchmark_folder: Path) -> pd.DataFrame:
    return pd.read_parquet(benchmark_folder / "test.parquet")


@pytest.fixture(scope="module")
def reference(benchmark_folder: Path, test_split: pd.DataFrame) -> pd.DataFrame:
    """Scores of the same split in process, without Ray Data."""
    scorer = AlignmentScorer.from_pretrained("tiny-qwen2_5_vl")
    rows = scorer.score(
        [benchmark_folder / uri for uri in test_split["image_uri"]],
        list(test_split["prompt"]),
        [list(elements) for elements in test_split["elements"]],
        list(test_split["prompt_type"]),
    )
    frame = pd.DataFrame({"score": [r.score for r in rows]})
    frame["element_scores"] = [r.element_scores for r in rows]
    frame["sample_id"] = test_split["sample_id"]
    return frame.sort_values("sample_id", ignore_index=True)


def assert_same_scores(frame: pd.DataFrame, reference: pd.DataFrame) -> None:
    assert list(frame["sample_id"]) == list(reference["sample_id"])
    np.testing.assert_allclose(frame["score"], reference["score"], atol=1e-5, rtol=0)
    for mine, theirs in zip(frame["element_scores"], reference["element_scores"], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5, rtol=0)


def test_parquet_manifest(
    benchmark_folder: Path, test_split: pd.DataFrame, reference: pd.DataFrame, tmp_path: Path
) -> None:
    """Batch and in-process scores agree, columns pass through, metadata says what was used."""
    summary, frame = run(benchmark_folder / "test.parquet", tmp_path / "out")
    assert (summary.rows, summary.scored, summary.unscored) == (len(test_split), len(frame), {})
    assert_same_scores(frame, reference)
    ordered = test_split.sort_values("sample_id", ignore_index=True)
    for name in ("prompt", "image_uri", "generator", "true_alignment"):
        assert list(frame[name]) == list(ordered[name])
    for name in ("total_scores", "elements"):
        assert [list(v) for v in frame[name]] == [list(v) for v in ordered[name]]

    part = next((tmp_path / "out").glob("*.parquet"))
    schema = pq.read_schema(part)
    for field in SCORE_SCHEMA:
        assert schema.field(field.name).type == field.type, field.name
    metadata = {k.decode(): v.decode() for k, v in schema.metadata.items()}
    assert metadata["tokenfocus.backbone"] == "tiny-qwen2_5_vl"
    assert metadata["tokenfocus.members"] == "base"
    assert ScoringConfig.parse(json.loads(metadata["tokenfocus.config"])) == CONFIG

    count = duckdb.execute(f"select count(*) from '{tmp_path}/out/*.parquet' where status = 'ok'")
    assert count.fetchall() == [(len(frame),)]
    import datasets

    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].num_rows == len(frame)


def test_evalmuse_json(benchmark_folder: Path, reference: pd.DataFrame, tmp_path: Path) -> None:
    _, frame = run(
        benchmark_folder / "test_list.json",
        tmp_path / "out",
        images=str(benchmark_folder / "images"),
    )
    assert_same_scores(frame, reference)


def test_bytes_in_parquet_with_several_workers(
    benchmark_folder: Path, test_split: pd.DataFrame, reference: pd.DataFrame, tmp_path: Path
) -> None:
    """Hugging Face image structs, over several files, two scoring actors."""
    folder = tmp_path / "manifest"
    folder.mkdir()
    elements = pq.read_table(benchmark_folder / "test.parquet")["elements"]
    columns: dict[str, Any] = {
        "id": pa.array(test_split["sample_id"]),
        "caption": pa.array(test_split["prompt"]),
        "image": [
            {"bytes": (benchmark_folder / uri).read_bytes(), "path": uri}
            for uri in test_split["image_uri"]
        ],
        "elements": elements,
        "prompt_type": pa.array(test_split["prompt_type"]),
        "status": pa.array(["success"] * len(test_split)),
    }
    table = pa.table(columns)
    half = table.num_rows // 2
    pq.write_table(table.slice(0, half), folder / "0.parquet")
    pq.write_table(table.slice(half), folder / "1.parquet")
    _, frame = run(folder, tmp_path / "out", mapping={"sample_id": "id"}, job=JobConfig(workers=2))
    assert_same_scores(frame, reference)
    assert "image" not in frame.columns, "image bytes must not be written again"
    assert set(frame["input_status"]) == {"success"}


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_every_bad_row_leaves_with_a_reason(tmp_path: Path) -> None:
    """A csv of awkward and broken samples: one row out for each row in, the rest scored."""
    good = Image.new("RGB", (40, 30), "red")
    files = {
        "good.png": _encoded(good, "PNG"),
        "cut.jpg": _encoded(good.resize((200, 200)), "JPEG")[:700],
        "empty.png": b"",
        "text.jpg": b"this is no image",
        "cmyk.jpg": _encoded(good.convert("CMYK"), "JPEG"),
        "palette.png": _encoded(good.convert("P"), "PNG"),
        "rgba.png": _encoded(good.convert("RGBA"), "PNG"),
        "gray16.png": _encoded(Image.fromarray(np.full((9, 9), 40000, np.uint16)), "PNG"),
        "moving.gif": _encoded(good, "GIF", save_all=True, append_images=[good.rotate(90)]),
        "dot.png": _encoded(good.resize((1, 1)), "PNG"),
        "thread.png": _encoded(good.resize((20000, 2)), "PNG"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    broken = {
        "cut.jpg": "image_corrupt",
        "empty.png": "image_corrupt",
        "text.jpg": "image_corrupt",
        "thread.png": "image_aspect_ratio",
        "folder.png": "image_not_a_file",
        "absent.png": "image_missing",
    }
    rows = [{"file": name, "prompt": "one red circle"} for name in [*files, *broken]]
    rows = [dict(t) for t in {tuple(r.items()): None for r in rows}]
    prompts = {
        "": "prompt_empty",
        "word " * 3000: "prompt_too_long",
        "🦊 über\n\u0632\u0631\u0627\u0641\u0629": None,
        'commas, "quotes" and <|im_end|>': None,
    }
    rows += [{"file": "good.png", "prompt": prompt} for prompt in prompts]
    elements = {
        '["circle (object)", "circle (object)"]': None,
        '["circle", " "]': "elements_invalid",
        "not json": "elements_invalid",
    }
    rows += [
        {"file": "good.png", "prompt": f"circle {i}", "elements": e} for i, e in enumerate(elements)
    ]
    frame = pd.DataFrame(rows).assign(row=range(len(rows)))
    frame.to_csv(tmp_path / "manifest.csv", index=False)

    summary = score_manifest(
        str(tmp_path / "manifest.csv"), str(tmp_path / "out"), CONFIG, mapping={"image_uri": "file"}
    )
    out = pd.read_parquet(tmp_path / "out").astype({"row": int}).set_index("row").sort_index()
    assert list(out.index) == list(range(len(rows)))
    expected = [
        broken.get(r["file"]) or prompts.get(r["prompt"]) or elements.get(r.get("elements", ""))
        for r in rows
    ]
    assert [None if pd.isna(c) else c for c in out["error_code"]] == expected
    for code, status, score, message in zip(
        expected, out["status"], out["score"], out["error_message"], strict=True
    ):
        assert (status == "ok") == (code is None)
        assert math.isnan(score) == (code is not None)
        assert (message is None or pd.isna(message)) == (code is None)
    assert sum(summary.unscored.values()) == sum(code is not None for code in expected)
    twice = out["element_scores"].iloc[len(rows) - 3]
    assert len(twice) == 2
    assert twice[0] == pytest.approx(twice[1], abs=1e-6)


def test_errors_before_any_work(benchmark_folder: Path, tmp_path: Path) -> None:
    """What the user can put right stops the job at the start, and says so."""
    manifest, out = str(benchmark_folder / "test.parquet"), str(tmp_path / "out")
    with pytest.raises(ManifestError) as caught:
        score_manifest("nowhere.parquet", out, CONFIG)
    assert str(caught.value) == "manifest 'nowhere.parquet' does not exist"

    pd.DataFrame({"a": [1], "b": [2]}).to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(ManifestError, match=r"found columns \['a', 'b'\]; wanted a prompt"):
        score_manifest(str(tmp_path / "odd.csv"), out, CONFIG)

    config = ScoringConfig(backbone="tiny-internvl", total_levels={"bad": 1, "splendid": 5})
    with pytest.raises(LevelError, match="level word 'splendid' is not one token"):
        score_manifest(manifest, out, config)

    config = ScoringConfig(backbone="tiny-internvl", adapters={"a": str(tmp_path)})
    with pytest.raises(AdapterError, match=r"'adapter_config\.json' is missing"):
        score_manifest(manifest, out, config)

    with pytest.raises(ConfigError, match=r"workers: 100 need 51\.75 logical CPUs"):
        score_manifest(manifest, out, CONFIG, job=JobConfig(workers=100))

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match=r"holds 'mine\.txt', which no scoring job wrote"):
        score_manifest(manifest, str(tmp_path / "full"), CONFIG)
    assert (tmp_path / "full" / "mine.txt").read_text() == "precious"
    assert not Path(out).exists(), "a refused job leaves nothing behind"
