"""Exports that hold images: read by tasks from files, Parquet and tar shards, local and on S3."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.support.pairs import table_of, written
from tokenfocus_ray.cli.app import app
from tokenfocus_ray.distributed.outcomes import pair_images
from tokenfocus_ray.distributed.outcomes import pairs as job
from tokenfocus_ray.distributed.outcomes.pairs import export_pairs
from tokenfocus_ray.errors import JobError
from tokenfocus_ray.say import silent
from tokenfocus_ray.storage import Store

#: 190 pairs of one prompt, which are two parts, and one of another.
N = 22
PROMPTS: dict[str, Any] = {
    "a dog": [(1 + i / 10, 1 + i / 10, 1.1 + i / 10) for i in range(20)],
    "a cat": [(2.0, 2.0, 2.0), (4.0, 4.0, 4.0)],
}


def png(i: int) -> bytes:
    """An image whose colour is its number."""
    sink = io.BytesIO()
    Image.new("RGB", (4, 4), (i, 0, 0)).save(sink, "PNG")
    return sink.getvalue()


def number(data: bytes) -> int:
    pixel: Any = Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0))
    return int(pixel[0])


def recorded(scores: str, **given: Any) -> str:
    Store.of(scores).write_json("__job/run.json", {"input": given})
    return scores


@pytest.fixture
def files(tmp_path: Path) -> str:
    """Scores of images in files, of which the last one has gone."""
    (tmp_path / "images").mkdir()
    for i in range(N - 1):
        (tmp_path / "images" / f"{i}.png").write_bytes(png(i))
    return recorded(
        written(table_of(PROMPTS), tmp_path / "s", 3), manifests=[], bases=[str(tmp_path)]
    )


def test_diffusion_dpo_and_a_launch_that_ended_early(
    files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def ends(*arguments: Any) -> Any:
        real(*arguments)
        raise JobError("ended")

    real = pair_images.write_images
    with monkeypatch.context() as patch:
        patch.setattr(job, "write_images", ends)
        with pytest.raises(JobError, match="ended"):
            export_pairs(files, str(out), format="diffusion-dpo", say=silent)
    written_at = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    (out / "__job" / "done" / "00001.json").unlink()
    lines: list[str] = []
    summary = export_pairs(files, str(out), format="diffusion-dpo", say=lines.append)
    assert lines[0] == "the pairs are there already; their images are read and written"
    assert lines[-1] == "1 are no pair: an image cannot be read (image_missing)"
    assert (summary.written, summary.counts["candidates"]) == (190, 191)
    again = [path for path, at in written_at.items() if path.stat().st_mtime_ns != at]
    assert [path.name for path in again] == ["part-00001.parquet"]
    assert sorted(path.name for path in (out / "__job").iterdir()) == [
        "lease", "pairs.json", "summary.json",
    ]  # fmt: skip
    data = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(data) == 190
    seen = set()
    for row in data:
        at = 0 if row["label_0"] == 1.0 else 1
        better, worse = number(row[f"jpg_{at}"]), number(row[f"jpg_{1 - at}"])
        assert (row[f"seed_{at}"], row[f"seed_{1 - at}"]) == (better, worse)
        assert better > worse
        assert row[f"image_{at}_url"] == f"{tmp_path}/images/{better}.png"
        seen.add((better, worse))
    assert len(seen) == 190
    assert 60 < sum(row["label_0"] for row in data) < 130
    assert "already finished: nothing is written" in _said(files, out)


def _said(scores: str, out: Path) -> list[str]:
    lines: list[str] = []
    export_pairs(scores, str(out), format="diffusion-dpo", say=lines.append)
    return lines


def test_kohya_of_images_in_parquet(tmp_path: Path) -> None:
    table = table_of(PROMPTS).drop_columns(["image_uri"])
    manifest = pa.table(
        {"prompt": table["prompt"].to_pylist(), "image": [png(i) for i in range(N)]}
    )
    pq.write_table(manifest, tmp_path / "m.parquet", row_group_size=5)
    manifests = [str(tmp_path / "m.parquet")]
    scores = recorded(written(table, tmp_path / "s"), manifests=manifests, has_bytes=True)
    out = tmp_path / "out"
    arguments = ["pairs", scores, "--out", str(out), "--format", "kohya", "--per-prompt", "3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].startswith("pairs=4 candidates=191 rows=22 unscored=0 ")
    folder = out / "1_pairs"
    names = [{path.name for path in (folder / side).iterdir()} for side in "wl"]
    assert names[0] == names[1]
    assert len(names[0]) == 8
    for path in (folder / "w").glob("*.png"):
        about = json.loads((folder / f"{path.stem}.json").read_text())
        assert number(path.read_bytes()) == about["chosen_seed"]
        assert number((folder / "l" / path.name).read_bytes()) == about["rejected_seed"]
        assert (folder / "l" / f"{path.stem}.caption").read_text() == about["prompt"]


def test_trl_of_tar_shards_on_s3(tmp_path: Path, s3_bucket: str) -> None:
    table = table_of(PROMPTS).drop_columns(["image_uri"])
    keys = [f"{i:05d}" for i in range(N)]
    table = table.append_column("shard", pa.array(["0.tar"] * 10 + ["1.tar"] * (N - 10)))
    table = table.append_column("key", pa.array(keys))
    prompts: list[Any] = table["prompt"].to_pylist()
    for shard, own in (("0.tar", range(10)), ("1.tar", range(10, N))):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as tar:
            for i in own:
                for name, data in (
                    (f"{keys[i]}.png", png(i)),
                    (f"{keys[i]}.txt", prompts[i].encode()),
                ):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        Store.of(f"{s3_bucket}/shards").write_bytes(shard, sink.getvalue())
    local = written(table, tmp_path / "s")
    for path in Path(local).iterdir():
        Store.of(f"{s3_bucket}/scores").write_bytes(path.name, path.read_bytes())
    scores = recorded(f"{s3_bucket}/scores", manifests=[f"{s3_bucket}/shards"], has_bytes=True)
    summary = export_pairs(scores, f"{s3_bucket}/out", format="trl", min_margin=1.45, say=silent)
    store = Store.of(f"{s3_bucket}/out")
    (name,) = (name for name in store.names() if name.endswith(".parquet"))
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / name).write_bytes(store.read_bytes(name))
    data = datasets.load_dataset(
        str(tmp_path / "back"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert summary.written == len(data) == 16
    for row in data:
        first = row["chosen"][0]["content"][0]["text"] == "Image 1"
        shown: Any = [image.getpixel((0, 0))[0] for image in row["images"]]
        assert shown == [row["chosen_seed"], row["rejected_seed"]][:: 1 if first else -1]
    light = export_pairs(scores, f"{s3_bucket}/rewards", format="reward", say=silent)
    assert light.written == N
    assert Store.of(f"{s3_bucket}/rewards").names() == ["__job", "part-00000.parquet"]
