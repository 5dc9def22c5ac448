"""Our resizing, tiling and patches equal the families' own image processors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)

from tests.support.folders import TINY
from tests.support.measure import gap
from tests.support.samples import picture
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.internvl import InternVL, InternVLImageSpec
from tokenfocus_ray.backbones.qwen2_5_vl import Qwen25VL, QwenImageSpec
from tokenfocus_ray.errors import ImageDecodeError

TOLERANCE = 1e-5
CPU = torch.device("cpu")
#: (width, height). Odd, exact, tiny, tall, wide, the largest ratio, to be shrunk, to be enlarged.
SIZES = [
    (28, 28), (56, 84), (57, 83), (97, 101), (335, 223), (448, 448), (1, 1), (3, 2), (5, 3),
    (2, 90), (13, 997), (997, 13), (1, 200), (200, 1), (14, 14), (42, 42), (70, 70), (41, 43),
    (640, 480), (1021, 767), (1500, 40), (50, 1400),
]  # fmt: skip
#: (shortest_edge, longest_edge) of Qwen: its own, small enough to shrink most, one size for all.
LIMITS = [(56 * 56, 28 * 28 * 1280), (28 * 28, 28 * 28 * 30), (112 * 112, 112 * 112)]
#: (side, min_patches, max_patches) of InternVL: few tiles, many, a floor, no tiling.
TILINGS = [(112, 1, 6), (112, 1, 12), (56, 3, 9), (112, 1, 1)]
QWEN_CONFIG = {"vision_config": {"patch_size": 14, "spatial_merge_size": 2}}


def qwen_pair(shortest: int, longest: int) -> tuple[QwenImageSpec, Qwen2VLImageProcessorPil]:
    """Ours and the family's own, from the same preprocessor_config.json."""
    preprocessor: dict[str, Any] = {"size": {"shortest_edge": shortest, "longest_edge": longest}}
    spec = Qwen25VL.image_spec_from(QWEN_CONFIG, preprocessor)
    assert isinstance(spec, QwenImageSpec)
    return spec, Qwen2VLImageProcessorPil(**preprocessor)


def internvl_pair(
    side: int, min_patches: int, max_patches: int
) -> tuple[InternVLImageSpec, GotOcr2ImageProcessorPil]:
    """Ours and the family's own, from the same preprocessor_config.json."""
    preprocessor: dict[str, Any] = {
        "size": {"height": side, "width": side},
        "min_patches": min_patches,
        "max_patches": max_patches,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    config = {"vision_config": {"image_size": side, "patch_size": 14}, "downsample_ratio": 0.5}
    spec = InternVL.image_spec_from(config, preprocessor)
    assert isinstance(spec, InternVLImageSpec)
    # the processor of the whole family switches tiling on
    return spec, GotOcr2ImageProcessorPil(**preprocessor, crop_to_patches=True)


def their_pixels(processor: Any, image_HWC: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The family's output; the format is told, since 3 pixels of height look like 3 channels."""
    image = Image.fromarray(image_HWC)
    out = processor(images=image, return_tensors="np", input_data_format="channels_last")
    return {name: np.asarray(out[name]) for name in out}


def qwen_gap(spec: QwenImageSpec, processor: Any, image_HWC: NDArray[np.uint8]) -> float:
    """Largest difference of patches; grids, sizes and token counts must be equal."""
    prepared = spec.prepare(image_HWC)
    patches, grid = spec.patchify(spec.normalization(prepared.tiles_NHWC, CPU)[0])
    theirs = their_pixels(processor, image_HWC)
    assert [list(grid)] == theirs["image_grid_thw"].tolist()
    assert prepared.n_visual_tokens == grid[1] * grid[2] // 4
    assert prepared.grid == (grid[1] // 2, grid[2] // 2)
    assert (prepared.height, prepared.width) == image_HWC.shape[:2]
    return gap(patches, theirs["pixel_values"])


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_qwen_patches_equal_processor(size: tuple[int, int], limits: tuple[int, int]) -> None:
    spec, processor = qwen_pair(*limits)
    assert qwen_gap(spec, processor, picture(*size, seed=size[0])) < TOLERANCE


def test_qwen_huge_image_equals_processor() -> None:
    """Shrunk from 2.7 million pixels to 200 tokens."""
    spec, processor = qwen_pair(56 * 56, 28 * 28 * 200)
    assert qwen_gap(spec, processor, picture(2001, 1333, seed=1)) < TOLERANCE


@pytest.mark.parametrize("value", [0, 255])
def test_qwen_black_and_white_equal_processor(value: int) -> None:
    """The ends of the scale, where a clip or another rescaling would show."""
    spec, processor = qwen_pair(*LIMITS[1])
    image_HWC = np.full((61, 97, 3), value, dtype=np.uint8)
    image_HWC[20:30] = 255 - value  # bicubic overshoots at edges
    assert qwen_gap(spec, processor, image_HWC) < TOLERANCE


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 6000),
    st.integers(1, 6000),
    st.integers(1, 400),
    st.integers(1, 400),
)
def test_qwen_plan_equals_family(width: int, height: int, low: int, high: int) -> None:
    shortest, longest = (tokens * 28 * 28 for tokens in sorted((low, high)))
    spec, processor = qwen_pair(shortest, longest)
    if max(width, height) / min(width, height) > 200:
        with pytest.raises(ImageDecodeError):
            spec.plan(width, height)
        with pytest.raises(ValueError, match="absolute aspect ratio must be smaller than 200"):
            smart_resize(height, width)
        return
    plan = spec.plan(width, height)
    assert (plan.height, plan.width) == smart_resize(
        height, width, min_pixels=shortest, max_pixels=longest
    )
    assert plan.n_visual_tokens * 4 == processor.get_number_of_image_patches(height, width)
    assert plan.n_visual_tokens == plan.grid[0] * plan.grid[1]


def test_qwen_refuses_what_the_family_refuses() -> None:
    spec, _ = qwen_pair(*LIMITS[0])
    message = (
        "image of 1407 x 7 pixels has an aspect ratio of 201; qwen2_5_vl takes at most 200: "
        "crop or pad it"
    )
    with pytest.raises(ImageDecodeError, match=f"^{re.escape(message)}$") as caught:
        spec.plan(1407, 7)
    assert caught.value.code == "image_aspect_ratio"


@pytest.mark.parametrize(
    "preprocessor",
    [
        {},
        {"min_pixels": 3136, "max_pixels": 12845056},
        {"size": {"shortest_edge": 3136, "longest_edge": 12845056}},
        {"min_pixels": 4000, "size": {"shortest_edge": 3136, "longest_edge": 50000}},
        {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]},
    ],
    ids=["none", "old", "new", "both", "normalisation"],
)
def test_qwen_reads_every_spelling_as_the_family_does(preprocessor: dict[str, Any]) -> None:
    spec = Qwen25VL.image_spec_from(QWEN_CONFIG, preprocessor)
    processor = Qwen2VLImageProcessorPil(**json.loads(json.dumps(preprocessor)))
    assert isinstance(spec, QwenImageSpec)
    assert (spec.min_pixels, spec.max_pixels) == (
        processor.size["shortest_edge"],
        processor.size["longest_edge"],
    )
    assert qwen_gap(spec, processor, picture(91, 58, seed=2)) < TOLERANCE


def test_what_the_families_processors_save_is_read_as_they_are(tmp_path: Path) -> None:
    """``save_pretrained`` of this transformers, which spells out every default."""
    size = {"height": 112, "width": 112}
    GotOcr2ImageProcessorPil(size=size, max_patches=3, resample=2).save_pretrained(tmp_path)
    file = json.loads((tmp_path / "preprocessor_config.json").read_text())
    config = {"vision_config": {"image_size": 112, "patch_size": 14}}
    expected = InternVL.image_spec_from(config, {"size": size, "max_patches": 3, "resample": 2})
    assert InternVL.image_spec_from(config, file) == expected
    Qwen2VLImageProcessorPil(max_pixels=50_000, do_normalize=False).save_pretrained(tmp_path)
    file = json.loads((tmp_path / "preprocessor_config.json").read_text())
    wanted = Qwen25VL.image_spec_from(QWEN_CONFIG, {"max_pixels": 50_000, "do_normalize": False})
    assert Qwen25VL.image_spec_from(QWEN_CONFIG, file) == wanted


#: What both families' processors honour beside sizes.
OPTIONS: list[dict[str, Any]] = [
    *({"resample": filter} for filter in range(6)),
    {"do_normalize": False},
    {"do_rescale": False},
    {"do_rescale": False, "do_normalize": False},
    {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]},
    {"image_mean": 0.5, "image_std": 0.25},
]


def relative(options: dict[str, Any]) -> float:
    """The tolerance; values that stay in 0..255 are as much larger than those of 0..1."""
    return TOLERANCE * (1000 if options.get("do_rescale") is False else 1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_qwen_honours_what_its_processor_honours(options: dict[str, Any]) -> None:
    file = {"size": {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 30}} | options
    spec = Qwen25VL.image_spec_from(QWEN_CONFIG, file)
    processor = Qwen2VLImageProcessorPil(**file)
    assert isinstance(spec, QwenImageSpec)
    assert qwen_gap(spec, processor, picture(301, 158, seed=6)) < relative(options)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_internvl_honours_what_its_processor_honours(options: dict[str, Any]) -> None:
    file: dict[str, Any] = {"size": {"height": 112, "width": 112}, "max_patches": 4} | options
    config = {"vision_config": {"image_size": 112, "patch_size": 14}, "downsample_ratio": 0.5}
    spec = InternVL.image_spec_from(config, file)
    processor = GotOcr2ImageProcessorPil(**file, crop_to_patches=True)
    assert isinstance(spec, InternVLImageSpec)
    assert internvl_gap(spec, processor, picture(301, 158, seed=6)) < relative(options)


def internvl_gap(spec: InternVLImageSpec, processor: Any, image_HWC: NDArray[np.uint8]) -> float:
    """Largest difference of tiles, thumbnail last; token counts must be equal."""
    prepared = spec.prepare(image_HWC)
    theirs = their_pixels(processor, image_HWC)
    n_tiles = len(theirs["pixel_values"])
    assert [n_tiles] == theirs["num_patches"].tolist()
    assert prepared.n_visual_tokens == n_tiles * spec.tokens_per_tile
    assert (prepared.height, prepared.width) == image_HWC.shape[:2]
    return gap(spec.normalization(prepared.tiles_NHWC, CPU), theirs["pixel_values"])


@pytest.mark.parametrize("tiling", TILINGS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_internvl_tiles_equal_processor(
    size: tuple[int, int], tiling: tuple[int, int, int]
) -> None:
    spec, processor = internvl_pair(*tiling)
    assert internvl_gap(spec, processor, picture(*size, seed=size[1])) < TOLERANCE


def test_internvl_thumbnail_is_the_whole_image() -> None:
    """Two tiles side by side, then the image squeezed into one."""
    spec, processor = internvl_pair(112, 1, 6)
    image_HWC = picture(224, 112, seed=3)
    prepared = spec.prepare(image_HWC)
    assert np.array_equal(prepared.tiles_NHWC[0], image_HWC[:, :112])
    assert np.array_equal(prepared.tiles_NHWC[1], image_HWC[:, 112:])
    squeezed = Image.fromarray(image_HWC).resize((112, 112), Image.Resampling.BICUBIC)
    assert np.array_equal(prepared.tiles_NHWC[2], np.asarray(squeezed))
    assert internvl_gap(spec, processor, image_HWC) < TOLERANCE


def test_internvl_real_size_equals_processor() -> None:
    """448 px tiles and twelve at most, as InternVL2.5 and 3 have them."""
    spec, processor = internvl_pair(448, 1, 12)
    assert spec == InternVLImageSpec()
    assert internvl_gap(spec, processor, picture(1200, 810, seed=4)) < TOLERANCE


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 6000), st.integers(1, 6000), st.integers(1, 4), st.integers(1, 12))
def test_internvl_plan_equals_family(width: int, height: int, low: int, extra: int) -> None:
    spec, processor = internvl_pair(448, low, low + extra)
    n_tiles = processor.get_number_of_image_patches(height, width)
    plan = spec.plan(width, height)
    assert plan.n_visual_tokens == n_tiles * 256
    assert plan.width * plan.height == (n_tiles - (n_tiles > 1)) * 448**2


@pytest.mark.parametrize("name", TINY)
def test_built_in_folder_is_read_as_the_family_reads_it(name: str) -> None:
    """``preprocessor_config.json`` of a real folder, through both readers."""
    source = registry.resolve(name)
    spec = loading.image_spec(source)
    image_HWC = picture(150, 77, seed=5)
    theirs: Qwen2VLImageProcessorPil | GotOcr2ImageProcessorPil
    if isinstance(spec, QwenImageSpec):
        theirs = Qwen2VLImageProcessorPil.from_pretrained(Path(source.location))
        assert qwen_gap(spec, theirs, image_HWC) < TOLERANCE
    else:
        assert isinstance(spec, InternVLImageSpec)
        theirs = GotOcr2ImageProcessorPil.from_pretrained(
            Path(source.location), crop_to_patches=True
        )
        assert internvl_gap(spec, theirs, image_HWC) < TOLERANCE
