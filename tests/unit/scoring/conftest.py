from __future__ import annotations

import pytest
import torch

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
