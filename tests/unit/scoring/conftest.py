from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.stages import PIXELS, png
from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.scoring.scorer import AlignmentScorer


@pytest.fixture(scope="session")
def scorer() -> AlignmentScorer:
    """A tiny backbone with everything around it, loaded once; its scores mean nothing here."""
    torch.set_num_threads(1)
    return AlignmentScorer.from_pretrained("tiny-qwen2_5_vl", device="cpu")


@pytest.fixture(scope="session")
def backbone(scorer: AlignmentScorer) -> Backbone:
    return scorer.backbone


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of images, sound and otherwise, that relative paths start from."""
    for i, pixels in enumerate(PIXELS):
        (tmp_path / f"{i}.png").write_bytes(png(pixels))
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"hello, I am no image")
    (tmp_path / "cut.png").write_bytes(png()[:500])
    (tmp_path / "thin.png").write_bytes(png(np.zeros((1, 201, 3), np.uint8)))
    (tmp_path / "folder.png").mkdir()
    return tmp_path
