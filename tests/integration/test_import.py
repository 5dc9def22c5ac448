"""Imports on Ray: local and on S3, killed or not, and then scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from typer.testing import CliRunner

from tests.support import layouts
from tests.support.imports import imported
from tokenfocus_ray.cli.app import app
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.distributed import import_groups
from tokenfocus_ray.distributed.importing import import_manifest
from tokenfocus_ray.distributed.score.job import score_manifest
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.storage import Store


def table_of(out: str) -> pa.Table:
    """The manifest, its parts in the order of their names."""
    store = Store.of(out)
    names = [name for name in store.names() if name.endswith(".parquet")]
    return pa.concat_tables(
        [pq.read_table(pa.BufferReader(store.read_bytes(name))) for name in names]
    )


def upload(folder: Path, uri: str) -> str:
    store = Store.of(uri)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.write_bytes(str(path.relative_to(folder)), path.read_bytes())
    return uri


def test_pairs_go_on_and_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups that are there stay as they are; the same again does nothing; all rows score."""
    monkeypatch.setitem(import_groups.GROUP_ROWS, True, 2)
    pairs = [
        {"caption": f"prompt {i // 2}", "images": (i, i + 1), "label_0": [1.0, 0.5, 0.0][i % 3]}
        for i in range(5)
    ]
    src, out = str(layouts.pickapic(tmp_path / "src", pairs)), tmp_path / "out"
    lines: list[str] = []
    summary = import_manifest("pickapic", src, str(out), say=lines.append)
    found = table_of(str(out))
    assert found.to_pylist() == imported("pickapic", src, tmp_path).to_pylist()
    assert (summary.rows, summary.spoiled) == (found.num_rows, {})
    assert "5 pairs of 8 images, 5 with a preference" in lines
    assert sorted(path.name for path in out.glob("*.parquet")) == [
        f"part-00000{group}-0000.parquet" for group in range(3)
    ]
    assert not (out / "__job" / "input").exists()

    kept = out / "part-000000-0000.parquet"
    before = kept.stat().st_mtime_ns
    for name in ("done.json", "groups/000001.json"):
        (out / "__job" / name).unlink()
    (out / "part-000001-0000.parquet").write_bytes(b"half")
    import_manifest("pickapic", src, str(out), say=lines.append)
    assert "2 of 3 groups are there already" in lines
    assert kept.stat().st_mtime_ns == before
    assert table_of(str(out)).to_pylist() == found.to_pylist()
    again = import_manifest("pickapic", src, str(out), say=lines.append)
    assert lines[-1] == "already finished: 8 rows are there, nothing is imported"
    assert (again.rows, again.elements) == (8, 0)
    with pytest.raises(ConfigError, match="was begun with another configuration"):
        import_manifest(
            "hf-parquet", src, str(out), mapping={"prompt": "caption", "image": "jpg_0"}
        )

    config = ScoringConfig(backbone="tiny-qwen2_5_vl")
    scored = score_manifest(str(out), str(tmp_path / "scores"), config, say=lines.append)
    assert (scored.rows, scored.unscored) == (8, {})
    table = table_of(str(tmp_path / "scores"))
    for name in ("sample_id", "human_preference", "comparisons", "generator"):
        assert table[name].to_pylist() == found[name].to_pylist()


def test_shards_on_s3(tmp_path: Path, s3_bucket: str) -> None:
    src = layouts.img2dataset(tmp_path / "src", "webdataset")
    uri = upload(src, f"{s3_bucket}/src")
    out = f"{s3_bucket}/out"
    command = ["data", "import", "img2dataset", uri, "--out", out]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    *_, last = result.output.splitlines()
    assert last.startswith("rows=8 elements=0 spoiled=4 (image_missing 4) seconds=")
    assert last.endswith(f" out={out}")
    assert table_of(out).to_pylist() == imported("img2dataset", src, tmp_path).to_pylist()
    lines: list[str] = []
    config = ScoringConfig(backbone="tiny-qwen2_5_vl")
    scored = score_manifest(out, f"{s3_bucket}/scores", config, say=lines.append)
    assert (scored.rows, scored.unscored) == (8, {"image_missing": 4})
    told: list[Any] = table_of(f"{s3_bucket}/scores")["error_message"].to_pylist()
    assert told.count("img2dataset says failed_to_resize: HTTP Error 404: Not Found") == 2


def test_questions_with_images_on_s3(tmp_path: Path, s3_bucket: str) -> None:
    """Dependencies come through scoring as they are; a prompt without an image says so."""
    for name in ("w_5/0.png", "w_5/1.png", "stray.png"):
        Store.of(f"{s3_bucket}/own").write_bytes(name, layouts.png(3))
    layouts.dsg(tmp_path / "dsg.csv")
    src = upload(tmp_path, f"{s3_bucket}/src") + "/dsg.csv"
    out, pattern, lines = f"{s3_bucket}/out", f"{s3_bucket}/own/{{id}}/{{n}}.png", list[str]()
    summary = import_manifest("dsg", src, out, images=pattern, say=lines.append)
    assert summary.line().startswith("rows=3 elements=9 spoiled=1 (image_missing 1) seconds=")
    assert lines == [f"{pattern}: images of no prompt by {{id}}/{{n}}.png: 1, such as 'stray.png'"]
    config = ScoringConfig(backbone="tiny-qwen2_5_vl")
    scored = score_manifest(out, f"{s3_bucket}/scores", config, say=lines.append)
    assert (scored.rows, scored.unscored) == (3, {"image_missing": 1})
    rows = table_of(f"{s3_bucket}/scores").to_pylist()
    assert [row["element_parents"] for row in rows] == [[[], [0], []]] * 2 + [[[], [], [0, 1]]]
    assert [len(row["element_scores"]) for row in rows] == [3, 3, 3]
    again = import_manifest("dsg", src, out, images=pattern, overwrite=True, say=lines.append)
    assert again.rows == 3
    assert isinstance(Store.of(out).filesystem, fs.S3FileSystem)


def test_prompts_alone_say_how_images_are_added(tmp_path: Path) -> None:
    src = layouts.geneval2(tmp_path / "g.jsonl")
    result = CliRunner().invoke(
        app, ["data", "import", "geneval2", str(src), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    assert "images=none (add yours: --images FOLDER/{id}.png)" in result.output
    score = ["score", str(tmp_path / "out"), "--backbone", "tiny-internvl"]
    refused = CliRunner().invoke(app, [*score, "--out", str(tmp_path / "scores")])
    assert "of which 'prompt' is the prompt and none is an image" in str(refused.exception)
