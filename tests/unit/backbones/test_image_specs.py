from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tokenfocus_ray.backbones.images import ImageSpec, Normalization
from tokenfocus_ray.backbones.internvl import InternVL, InternVLImageSpec
from tokenfocus_ray.backbones.preprocessing import UnfollowedError, normalization
from tokenfocus_ray.backbones.qwen2_5_vl import Qwen25VL, QwenImageSpec
from tokenfocus_ray.errors import ImageDecodeError

QWEN, INTERNVL = QwenImageSpec(), InternVLImageSpec()
SIDES = (1, 13, 28, 40, 64, 100, 333, 512, 1000, 1024, 2048, 3000)
SIZES = [(w, h) for w in SIDES for h in SIDES]
#: Up to 8:1, which holds nearly every picture of a generator.
USUAL = [(w, h) for w, h in SIZES if max(w, h) <= 8 * min(w, h)]
ALLOWED = [(w, h) for w, h in SIZES if max(w, h) <= 200 * min(w, h)]


def most_tokens(spec: ImageSpec, sizes: list[tuple[int, int]]) -> int:
    return max(spec.plan(w, h).n_visual_tokens for w, h in sizes)


@pytest.mark.parametrize("cap", [32, 64, 100, 256, 1000, 1280])
def test_qwen_respects_a_cap(cap: int) -> None:
    assert most_tokens(QWEN.limited(cap), USUAL) <= cap


@pytest.mark.parametrize("cap", [1, 2, 3, 4])
def test_qwen_respects_a_cap_below_its_least_area(cap: int) -> None:
    """limited() promises at most so many tokens; the least area of the rule is 4 tokens."""
    assert most_tokens(QWEN.limited(cap), USUAL) <= cap


@pytest.mark.parametrize("cap", [8, 16])
def test_tiny_qwen_respects_a_cap(cap: int) -> None:
    spec = QwenImageSpec(min_pixels=112**2, max_pixels=112**2)
    assert most_tokens(spec.limited(cap), USUAL) <= cap


@pytest.mark.parametrize("cap", [8, 16, 32, 64])
def test_qwen_respects_a_cap_of_thin_images(cap: int) -> None:
    assert most_tokens(QWEN.limited(cap), ALLOWED) <= cap


@pytest.mark.parametrize("cap", [256, 511, 512, 767, 768, 1024, 2000, 3328])
def test_internvl_respects_a_cap(cap: int) -> None:
    assert most_tokens(INTERNVL.limited(cap), SIZES) <= cap


@pytest.mark.parametrize("cap", [1, 100, 255])
def test_internvl_has_one_tile_at_least(cap: int) -> None:
    assert most_tokens(INTERNVL.limited(cap), SIZES) == 256


@pytest.mark.parametrize(("cap", "tokens"), [(767, 256), (768, 768), (1023, 768), (1024, 1024)])
def test_internvl_counts_the_thumbnail(cap: int, tokens: int) -> None:
    assert most_tokens(INTERNVL.limited(cap), SIZES) == tokens


@pytest.mark.parametrize("spec", [QWEN, INTERNVL], ids=["qwen", "internvl"])
def test_cap_never_raises_the_limit(spec: Any) -> None:
    for size in ((64, 64), (500, 300), (5000, 4000)):
        assert spec.limited(1_000_000).plan(*size) == spec.plan(*size)


@pytest.mark.parametrize("spec", [QWEN, INTERNVL], ids=["qwen", "internvl"])
def test_smaller_of_two_caps_holds(spec: Any) -> None:
    assert spec.limited(1024).limited(768) == spec.limited(768).limited(1024) == spec.limited(768)


def test_cap_leaves_the_rest_as_it_is() -> None:
    spec = QwenImageSpec(patch=16, merge=4, normalization=Normalization((0.5,) * 3, (0.5,) * 3))
    limited = spec.limited(64)
    assert dataclasses.replace(limited, max_pixels=spec.max_pixels, max_tokens=None) == spec
    assert limited.max_pixels == 64 * 64 * 64


@pytest.mark.parametrize(("width", "height"), [(201, 1), (1, 201), (2010, 10)])
def test_qwen_refuses_images_that_are_too_thin(width: int, height: int) -> None:
    with pytest.raises(ImageDecodeError) as caught:
        QWEN.plan(width, height)
    assert caught.value.code == "image_aspect_ratio"
    assert caught.value.message == (
        f"image of {width} x {height} pixels has an aspect ratio of 201; qwen2_5_vl takes at most "
        "200: crop or pad it"
    )


@pytest.mark.parametrize(("width", "height"), [(200, 1), (1, 200), (2000, 10)])
def test_qwen_takes_images_up_to_its_aspect_ratio(width: int, height: int) -> None:
    assert QWEN.plan(width, height).n_visual_tokens > 0


def test_qwen_refuses_a_thin_image_when_preparing_too() -> None:
    with pytest.raises(ImageDecodeError, match="aspect ratio of 300"):
        QWEN.prepare(np.zeros((300, 1, 3), np.uint8))


@pytest.mark.parametrize(("width", "height"), [(3000, 1), (1, 3000)])
def test_internvl_takes_any_shape(width: int, height: int) -> None:
    assert INTERNVL.plan(width, height).n_visual_tokens == (12 + 1) * 256


@pytest.mark.parametrize(("width", "height"), USUAL)
def test_qwen_sides_are_whole_tokens(width: int, height: int) -> None:
    plan = QWEN.plan(width, height)
    assert (plan.width % 28, plan.height % 28) == (0, 0)
    assert plan.grid == (plan.height // 28, plan.width // 28)
    assert plan.n_visual_tokens == plan.grid[0] * plan.grid[1]


@pytest.mark.parametrize("spec", [QWEN.limited(64), INTERNVL], ids=["qwen", "internvl"])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (500, 250), (1, 90), (448, 448)])
def test_prepared_image_is_as_planned(spec: ImageSpec, width: int, height: int) -> None:
    plan = spec.plan(width, height)
    image = spec.prepare(np.zeros((height, width, 3), np.uint8))
    assert (image.width, image.height) == (width, height)
    assert (image.n_visual_tokens, image.grid) == (plan.n_visual_tokens, plan.grid)
    assert image.tiles_NHWC.dtype == np.uint8


def test_qwen_makes_one_tile() -> None:
    tiles = QWEN.prepare(np.zeros((100, 300, 3), np.uint8)).tiles_NHWC
    assert tiles.shape == (1, 112, 308, 3)


def test_internvl_cuts_tiles_row_by_row_and_adds_a_thumbnail() -> None:
    """Two rows of three tiles, each of one colour, and the whole."""
    spec = InternVLImageSpec(tile=32, tokens_per_tile=4, max_tiles=6)
    colors = np.arange(6, dtype=np.uint8) * 40
    image = np.repeat(colors.reshape(2, 3), 32, axis=0).repeat(32, axis=1)[..., None].repeat(3, 2)
    prepared = spec.prepare(image)
    assert prepared.tiles_NHWC.shape == (7, 32, 32, 3)
    assert [int(tile[16, 16, 0]) for tile in prepared.tiles_NHWC[:6]] == colors.tolist()
    assert prepared.n_visual_tokens == 28


def test_internvl_of_one_tile_has_no_thumbnail() -> None:
    image = INTERNVL.limited(256).prepare(np.zeros((100, 300, 3), np.uint8))
    assert image.tiles_NHWC.shape == (1, 448, 448, 3)


@pytest.mark.parametrize(
    "preprocessor",
    [
        {"min_pixels": 3136, "max_pixels": 100_352},
        {"size": {"shortest_edge": 3136, "longest_edge": 100_352}},
    ],
    ids=["min_pixels", "size"],
)
def test_qwen_reads_both_spellings_of_its_limits(preprocessor: dict[str, Any]) -> None:
    spec = Qwen25VL.image_spec_from({"vision_config": {"patch_size": 14}}, preprocessor)
    assert spec == QwenImageSpec(min_pixels=3136, max_pixels=100_352)


def test_qwen_without_limits_has_the_familys() -> None:
    assert Qwen25VL.image_spec_from({"vision_config": {}}, {}) == QWEN


#: What InternVL3's preprocessor_config.json says and the processor's own defaults do not.
INTERNVL_FILE = {
    "size": {"height": 448, "width": 448},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


@pytest.mark.parametrize("size", [448, [448, 448]])
def test_internvl_reads_both_spellings_of_its_sizes(size: Any) -> None:
    config = {"vision_config": {"image_size": size, "patch_size": 14}, "downsample_ratio": 0.5}
    assert InternVL.image_spec_from(config, INTERNVL_FILE) == INTERNVL
    assert InternVL.image_spec_from(config, INTERNVL_FILE | {"size": size}) == INTERNVL


def test_internvl_reads_its_number_of_tiles() -> None:
    config = {"vision_config": {"image_size": 448, "patch_size": 14}}
    file = INTERNVL_FILE | {"min_patches": 2, "max_patches": 6}
    assert InternVL.image_spec_from(config, file) == InternVLImageSpec(min_tiles=2, max_tiles=6)


def test_normalization_is_that_of_the_file() -> None:
    file = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    assert normalization(file) == Normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


#: Of Qwen/Qwen2.5-VL-7B-Instruct and OpenGVLab/InternVL3-8B-hf; nulls are the processor's defaults.
OFFICIAL: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
    },
    "internvl": {
        "crop_size": None,
        "crop_to_patches": False,
        "data_format": "channels_first",
        "default_to_square": True,
        "device": None,
        "do_center_crop": None,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "GotOcr2ImageProcessorFast",
        "image_std": [0.229, 0.224, 0.225],
        "input_data_format": None,
        "max_patches": 12,
        "min_patches": 1,
        "processor_class": "InternVLProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "return_tensors": None,
        "size": {"height": 448, "width": 448},
    },
}
CLASSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "qwen2_5_vl": (Qwen25VL, {"vision_config": {"patch_size": 14, "spatial_merge_size": 2}}),
    "internvl": (InternVL, {"vision_config": {"image_size": [448, 448], "patch_size": [14, 14]}}),
}


@pytest.mark.parametrize("family", CLASSES)
def test_official_files_are_followed(family: str) -> None:
    cls, config = CLASSES[family]
    expected = {"qwen2_5_vl": QwenImageSpec(max_pixels=12845056), "internvl": INTERNVL}
    assert cls.image_spec_from(config, OFFICIAL[family]) == expected[family]


@pytest.mark.parametrize(
    ("family", "key", "value", "followed"),
    [
        (family, *refused)
        for family in CLASSES
        for refused in (
            ("image_processor_type", "CLIPImageProcessor", None),
            ("do_resize", False, "true"),
            ("do_center_crop", True, "false or null"),
            ("do_pad", True, "false or null"),
            ("do_normalize", 0, "true or false"),
            ("do_normalize", None, "true or false"),
            ("do_rescale", "no", "true or false"),
            ("rescale_factor", 0, "a number above 0"),
            ("resample", 99, None),
            ("resample", None, None),
            ("resample", "bicubic", None),
            ("image_mean", [0.5], "one number or three"),
            ("image_mean", None, "one number or three"),
            ("image_std", [0.5, 0.0, 0.5], "a deviation above 0"),
        )
    ]
    + [
        ("qwen2_5_vl", "patch_size", 16, "14"),
        ("qwen2_5_vl", "merge_size", 1, "2"),
        ("qwen2_5_vl", "temporal_patch_size", 1, "2"),
        ("qwen2_5_vl", "min_pixels", 0, "a number above 0"),
        ("internvl", "size", {"height": 224, "width": 224}, None),
        ("internvl", "size", {"shortest_edge": 448}, None),
        ("internvl", "size", None, None),
        ("internvl", "max_patches", 0, "a number above 0"),
    ],
)
def test_a_key_that_is_not_followed_is_refused(
    family: str, key: str, value: Any, followed: str | None
) -> None:
    cls, config = CLASSES[family]
    followed = followed or {
        "image_processor_type": {
            "qwen2_5_vl": "Qwen2VLImageProcessor or Qwen2_5_VLImageProcessor",
            "internvl": "GotOcr2ImageProcessor",
        }[family],
        "size": "config.json's image_size, 448 x 448,",
        "resample": f"the number of a filter of Pillow's, 0..{max(map(int, Image.Resampling))},",
    }.get(key)
    with pytest.raises(UnfollowedError) as caught:
        cls.image_spec_from(config, OFFICIAL[family] | {key: value})
    assert str(caught.value) == (
        f"says {key} = {json.dumps(value)}, but only {followed} is followed here"
    )


@pytest.mark.parametrize(
    "size",
    [{"height": 448, "width": 448}, {"shortest_edge": 3136}, 448, [448, 448]],
    ids=["square", "one limit", "number", "pair"],
)
def test_qwen_refuses_a_size_without_its_limits(size: Any) -> None:
    cls, config = CLASSES["qwen2_5_vl"]
    with pytest.raises(UnfollowedError) as caught:
        cls.image_spec_from(config, {"size": size})
    assert str(caught.value) == (
        f"says size = {json.dumps(size)}, but only one of shortest_edge and longest_edge in pixels "
        f"is followed here"
    )


@pytest.mark.parametrize(
    ("family", "part", "value", "followed"),
    [
        ("qwen2_5_vl", "temporal_patch_size", 4, "2"),
        ("internvl", "patch_size", [14, 16], "a square"),
        ("internvl", "image_size", [448, 224], "a square"),
    ],
)
def test_a_vision_tower_that_is_not_followed_is_refused(
    family: str, part: str, value: Any, followed: str
) -> None:
    cls, config = CLASSES[family]
    config = {"vision_config": config["vision_config"] | {part: value}}
    with pytest.raises(UnfollowedError) as caught:
        cls.image_spec_from(config, OFFICIAL[family])
    assert caught.value.file == "config.json"
    assert str(caught.value) == (
        f"says vision_config.{part} = {json.dumps(value)}, but only {followed} is followed here"
    )


def test_internvl_refuses_a_part_of_a_token() -> None:
    config = {"vision_config": {"image_size": 448, "patch_size": 14}, "downsample_ratio": 0.3}
    with pytest.raises(UnfollowedError) as caught:
        InternVL.image_spec_from(config, OFFICIAL["internvl"])
    assert str(caught.value) == (
        "says downsample_ratio = 0.3, but only one that divides 32 patches a side is followed here"
    )
