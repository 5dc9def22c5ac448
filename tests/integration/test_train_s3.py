"""Training with everything in object storage: manifest, images, and the run's folder."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.datasets.synthetic.files import write_benchmark
from tokenfocus_ray.distributed.train.manifest import read_manifest
from tokenfocus_ray.storage import Store
from tokenfocus_ray.training.samples import index_samples

ROOT = Path(__file__).parents[2]
CONFIG = """
data: {bucket}/shapes/train.parquet
test: {bucket}/shapes/test_list.json
backbones: [tiny-internvl]
bags: {{count: 2}}
lora: {{rank: 2, alpha: 4}}
optimizer: {{epochs: 1, batch_size: 8, learning_rate: 0.001}}
parallel: 2
"""


def launch(config: Path, out: str) -> str:
    command = [sys.executable, "-m", "tokenfocus_ray.cli.app", "train"]
    done = subprocess.run(
        [*command, "--config", str(config), "--out", out],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_form_is_read_from_there_as_from_a_disk(tmp_path: Path, s3_bucket: str) -> None:
    """The same rows with the same labels, and images from beside the manifest."""
    rows = [
        {"path": f"{i}.png", "prompt": f"p{i}", "total_scores": [3, i], "element_labels": None}
        for i in range(1, 4)
    ]
    lines = [f'{row["path"]},{row["prompt"]},"{row["total_scores"]}"' for row in rows]
    (tmp_path / "m.csv").write_text("\n".join(["path,prompt,total_scores", *lines]))
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        for row in rows:
            for ending, data in (("png", b"x"), ("json", json.dumps(row).encode())):
                info = tarfile.TarInfo(f"{row['prompt']}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    options = TrainConfig.parse({"data": "unused", "backbones": ["b"]})
    for path in tmp_path.glob("m.*"):
        Store.of(s3_bucket).write_bytes(f"data/{path.name}", path.read_bytes())
        there = read_manifest(f"{s3_bucket}/data/{path.name}", options)
        here = read_manifest(str(path), options)
        samples, skipped = index_samples(there.table, there.columns, options, "m")
        assert samples["total_scores"].to_pylist() == [[3.0, i] for i in (1.0, 2.0, 3.0)]
        assert skipped.num_rows == 0
        assert there.fingerprint == here.fingerprint
        assert (there.base, here.base) == (f"{s3_bucket}/data", str(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_train_from_and_to_s3(tmp_path: Path, s3_bucket: str) -> None:
    write_benchmark(str(tmp_path / "shapes"), 48, 0)
    bucket = Store.of(s3_bucket)
    for path in (tmp_path / "shapes").rglob("*.*"):
        bucket.write_bytes(str(path.relative_to(tmp_path)), path.read_bytes())
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(bucket=s3_bucket))
    out = f"{s3_bucket}/runs/first"

    printed = launch(config, out)
    assert "members=2 skipped=0 gpu_hours=0.00 seconds=" in printed

    run = Store.of(out)
    samples = pq.read_table(tmp_path / "shapes/train.parquet")["sample_id"].to_pylist()
    oof = pq.read_table(f"{run.root}/oof.parquet", filesystem=run.filesystem)
    assert sorted(map(str, oof["sample_id"].to_pylist())) == sorted(set(map(str, samples)))
    assert set(oof["n_tiny-internvl"].to_pylist()) == {1}
    for member in ("tiny-internvl-bag0", "tiny-internvl-bag1"):
        folder = run.child("members", member)
        assert json.loads(folder.read_bytes("member.json"))["member"] == member
        assert {"adapter_config.json", "adapter_model.safetensors", "tokenfocus.json"} == set(
            folder.names("adapter")
        )

    again = launch(config, out)
    assert again.count("finished before, left as it is") == 2
