"""Adapters in object storage score as those on the disk do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.folders import build, save_adapter
from tokenfocus_ray import AlignmentScorer
from tokenfocus_ray.errors import AdapterError
from tokenfocus_ray.storage import Store

BACKBONE = "tiny-internvl"


def test_adapters_on_s3(tmp_path: Path, s3_bucket: str) -> None:
    folder = build(BACKBONE, tmp_path)
    local = {
        name: save_adapter(folder, tmp_path / name, seed, r".*language_model.*q_proj")
        for seed, name in enumerate(("a", "b"))
    }
    remote = {name: f"{s3_bucket}/members/{name}" for name in local}
    for name, uri in remote.items():
        for path in Path(local[name]).iterdir():
            Store.of(uri).write_bytes(path.name, path.read_bytes())
    picture = np.full((64, 64, 3), 90, np.uint8)
    rows = [
        AlignmentScorer.from_pretrained(BACKBONE, adapters=a).score([picture], ["a red circle"])[0]
        for a in (local, remote)
    ]
    assert rows[0].member_scores == rows[1].member_scores
    assert len(set(rows[0].member_scores)) == 2
    Store.of(remote["b"]).delete("adapter_model.safetensors")
    with pytest.raises(AdapterError) as caught:
        AlignmentScorer.from_pretrained(BACKBONE, adapters=remote)
    assert str(caught.value) == (
        f"adapter 'b': 'adapter_model.safetensors' is missing in {remote['b']!r}; give a folder "
        f"that peft's save_pretrained wrote"
    )
