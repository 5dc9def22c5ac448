"""The counted operations against those that torch counts while the same pass runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.support.folders import MID_SIZE, TINY, build
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.flops import decoder_flops
from tokenfocus_ray.backbones.packing import collate
from tokenfocus_ray.schema import Element
from tokenfocus_ray.scoring.levels import ELEMENT_LEVELS, TOTAL_LEVELS
from tokenfocus_ray.scoring.prompt import PromptTemplate
from tokenfocus_ray.scoring.questions import QuestionPacker

#: Width and height of images that are cut otherwise: windows of every size, one tile or several.
SIZES = ((112, 112), (300, 170), (90, 420))


@pytest.mark.parametrize("name", [*TINY, *MID_SIZE])
def test_operations_are_those_that_torch_counts(name: str, tmp_path: Path) -> None:
    source = registry.resolve(build(name, tmp_path))
    backbone = loading.load(source, device="cpu", dtype=torch.float32)
    shapes = loading.skeleton(source)
    assert decoder_flops(shapes.model) == decoder_flops(backbone.model)
    packer = QuestionPacker(backbone, PromptTemplate(), TOTAL_LEVELS, ELEMENT_LEVELS)
    elements = (Element("cat", "animal"), Element("red hat", "color"))
    for width, height in SIZES:
        image = backbone.image_spec.prepare(np.zeros((height, width, 3), np.uint8))
        (part,) = packer.pack(0, image, "a cat in a red hat", elements, None, 8192)
        # as plain products: the counter does not know the kernel of attention on a CPU
        with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
            with FlopCounterMode(display=False) as vision:
                features_VD = backbone.encode_images([image])
            with FlopCounterMode(display=False) as language:
                hidden_AD = backbone.answer_hidden(features_VD, collate([part.sequence], "cpu"))
                backbone.logits(hidden_AD)
        plan = shapes.image_spec.plan(width, height)
        counted = shapes.vision_flops(plan)
        assert counted == pytest.approx(vision.get_total_flops(), rel=1e-3)
        asked = decoder_flops(shapes.model).sequence(len(part.sequence), 3)
        assert asked == pytest.approx(language.get_total_flops(), rel=1e-3)
