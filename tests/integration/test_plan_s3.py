"""A manifest, its images and an adapter on S3 are planned as on a disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.support.folders import LANGUAGE, TINY, build, save_adapter
from tokenfocus_ray import ScoringConfig, ScoringPlan, plan_scoring
from tokenfocus_ray.storage import Store


@pytest.fixture(scope="session", autouse=True)
def _session() -> None:
    """No Ray here: takes the place of the folder's own."""


def planned(top: str) -> ScoringPlan:
    config = ScoringConfig(backbone=TINY[0], adapters={"a": f"{top}/adapter"})
    plan = plan_scoring(f"{top}/m.jsonl", config, gpu="L4", say=str)
    # what is measured differs from one time to the next
    (one,) = plan.backbones
    assert one.feeding is not None
    assert one.feeding.images == 4
    assert one.on_gpu is not None
    own = replace(one, feeding=None, on_gpu=replace(one.on_gpu, cpu_cores=None))
    return replace(plan, backbones=(own,))


def test_plan_of_what_lies_on_s3(s3_bucket: str, tmp_path: Path) -> None:
    for i in range(4):
        Image.new("RGB", (40 + i, 60), "red").save(tmp_path / f"{i}.png")
    rows = [{"image_uri": f"{i}.png", "prompt": f"{i} cats", "elements": ["cat"]} for i in range(5)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_adapter(build(TINY[0], tmp_path), tmp_path / "adapter", 0, LANGUAGE)
    store = Store.of(f"{s3_bucket}/planned")
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        store.child(*path.relative_to(tmp_path).parts).write_bytes("", path.read_bytes())
    here, there = planned(str(tmp_path)), planned(store.uri)
    assert here == there
    assert here.backbones[0].load.unscored == {"image_missing": 1}
    there.write_json(f"{store.uri}/plan.json")
    assert Store.of(f"{store.uri}/plan.json").read_json()["rows"] == 5
