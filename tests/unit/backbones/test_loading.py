from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.errors import BackboneError


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_config_without_its_vision_part(family: str, tmp_path: Path) -> None:
    """A text model of the same name, or a half-written folder."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_resize": True}))
    with pytest.raises(BackboneError, match="vision_config"):
        loading.image_spec(registry.resolve(str(tmp_path)))


@pytest.mark.parametrize(
    "damage",
    ["no weights", "no safetensors", "no tokenizer"],
)
def test_folder_that_does_not_load(damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    shutil.copytree(registry.WEIGHTS / "tiny-internvl", folder)
    match damage:
        case "no weights":
            (folder / "model.safetensors").unlink()
        case "no safetensors":
            (folder / "model.safetensors").write_bytes(b"not a tensor in sight")
        case "no tokenizer":
            (folder / "tokenizer.json").unlink()
    source = registry.resolve(str(folder))
    with pytest.raises(BackboneError) as caught:
        loading.load(source, device="cpu", dtype=torch.float32)
    assert str(caught.value).startswith(
        f"backbone {str(folder)!r} cannot be loaded from {str(folder)!r}: "
    )


def test_image_spec_below_one_token() -> None:
    with pytest.raises(BackboneError) as caught:
        loading.image_spec(registry.resolve("tiny-qwen2_5_vl"), 0)
    assert str(caught.value) == "max_visual_tokens must be at least 1, got 0"


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_image_spec_of_built_in(name: str) -> None:
    """16 tokens of a 112 px square, as both tiny backbones were trained."""
    plan = loading.image_spec(registry.resolve(name)).plan(224, 224)
    assert (plan.width, plan.height, plan.n_visual_tokens) == (112, 112, 16)


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_skeleton_has_the_shapes_of_the_loaded_backbone(name: str) -> None:
    """All on torch's meta device, tied weights once, so that plans can count."""
    source = registry.resolve(name)
    bare = loading.skeleton(source)
    loaded = loading.load(source, device="cpu", dtype=torch.float32)
    assert type(bare) is type(loaded)
    assert {p.device.type for p in bare.model.parameters()} == {"meta"}
    shapes = [{n: p.shape for n, p in b.model.named_parameters()} for b in (bare, loaded)]
    assert shapes[0] == shapes[1]
    assert bare.image_spec == loaded.image_spec
    assert bare.encode_text("two dogs") == loaded.encode_text("two dogs")
    assert (bare.source, bare.members) == (source, ("base",))


def test_skeleton_needs_no_weights(tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    shutil.copytree(registry.WEIGHTS / "tiny-qwen2_5_vl", folder)
    (folder / "model.safetensors").unlink()
    bare = loading.skeleton(registry.resolve(str(folder)))
    assert bare.context_length == 2048


@pytest.mark.parametrize("damage", ["no tokenizer", "odd config"])
def test_skeleton_that_cannot_be_made(damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    shutil.copytree(registry.WEIGHTS / "tiny-qwen2_5_vl", folder)
    if damage == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    else:
        config = json.loads((folder / "config.json").read_text())
        config["text_config"]["num_attention_heads"] = 7
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError) as caught:
        loading.skeleton(registry.resolve(str(folder)))
    assert str(caught.value).startswith(
        f"backbone {str(folder)!r} cannot be loaded from {str(folder)!r}: "
    )
