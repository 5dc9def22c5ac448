"""Training with everything in object storage: manifest, images, and the run's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tokenfocus_ray.datasets.synthetic.files import write_benchmark
from tokenfocus_ray.storage import Store

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
