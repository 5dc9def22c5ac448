"""What a checkpoint's config.json says of its decoder is followed as the family follows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.folders import build
from tests.support.measure import gap, packed_logits
from tests.support.reference import PlainModel
from tests.support.samples import make_samples
from tokenfocus_ray.scoring.scorer import AlignmentScorer

TOLERANCE = 1e-4
#: Shorter than any request; the first half of the layers sees all.
WINDOW = {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 2}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 512,
}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "sliding windows, qwen2_5_vl": ("tiny-qwen2_5_vl", WINDOW, {}),
    "sliding windows, qwen2": ("tiny-internvl", WINDOW, {}),
    "sliding windows, qwen3": ("mid-internvl-qwen3", WINDOW, {}),
    "yarn, qwen2_5_vl": (
        "tiny-qwen2_5_vl",
        {"rope_parameters": YARN | {"mrope_section": [4, 6, 6]}},
        {},
    ),
    "an earlier layer of the vision tower": ("tiny-internvl", {}, {"vision_feature_layer": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_packed_logits_equal_plain_forwards(case: str, tmp_path: Path) -> None:
    name, text, whole = CASES[case]
    folder = tmp_path / "changed"
    shutil.copytree(build(name, tmp_path), folder)
    sample = make_samples()[1]
    before = PlainModel(folder).logits(sample)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= whole | {"text_config": config["text_config"] | text}
    if "use_sliding_window" in text:
        del config["text_config"]["layer_types"]  # transformers derives them from the window
    path.write_text(json.dumps(config))
    wanted_QV = PlainModel(folder).logits(sample)
    got_QV = packed_logits(AlignmentScorer.from_pretrained(folder), [sample])
    assert gap(got_QV, wanted_QV) < TOLERANCE
    assert gap(wanted_QV, before) > 100 * TOLERANCE  # what config.json says matters
