from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.folders import TINY
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.base import Backbone, Source
from tokenfocus_ray.config import LoraOptions
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.training.adapter import attach, count, save_member, trainable

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
#: What has an adapter on the vision tower and the projector, by family.
SEEN = {
    "qwen2_5_vl": {"qkv", "proj", "gate_proj", "up_proj", "down_proj", "0", "2"},
    "internvl": {
        "q_proj",
        "k_proj",
        "v_proj",
        "projection_layer",
        "fc1",
        "fc2",
        "linear_1",
        "linear_2",
    },
}


def load(name: str) -> Backbone:
    return loading.load(registry.resolve(name), device="cpu", dtype=torch.float32)


def adapted(backbone: Backbone) -> tuple[set[str], set[str]]:
    """Names of the modules with an adapter: in the decoder, and elsewhere."""
    names = {
        n.removesuffix(".lora_A.default.weight")
        for n, p in backbone.model.named_parameters()
        if p.requires_grad and ".lora_A." in n
    }
    decoder = {n for n in names if n.startswith("model.language_model.layers.")}
    return decoder, names - decoder


def last(names: set[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in names}


def test_adapter_is_on_every_linear_layer_of_the_decoder_by_default(bare: Backbone) -> None:
    attach(bare, LoraOptions(), 0)
    decoder, elsewhere = adapted(bare)
    assert elsewhere == set()
    assert last(decoder) == set(LINEAR)
    assert len(decoder) == len(LINEAR) * bare.model.config.get_text_config().num_hidden_layers
    assert all("lora_" in n for n, p in bare.model.named_parameters() if p.requires_grad)
    assert bare.shares_vision


def test_adapter_is_on_the_targets_alone(bare: Backbone) -> None:
    """Vision towers have layers of these names too."""
    attach(bare, LoraOptions(targets=("q_proj", "up_proj")), 0)
    decoder, elsewhere = adapted(bare)
    assert (last(decoder), elsewhere) == ({"q_proj", "up_proj"}, set())


def test_adapter_is_on_the_vision_tower_where_asked(bare: Backbone) -> None:
    attach(bare, LoraOptions(targets=("q_proj",), vision=True), 0)
    decoder, elsewhere = adapted(bare)
    assert last(decoder) == {"q_proj"}
    assert last(elsewhere) == SEEN[bare.source.family]
    assert not any(name.endswith("lm_head") for name in elsewhere)
    assert not bare.shares_vision


def test_size_and_scale_of_the_adapter(bare: Backbone) -> None:
    wrapped = attach(bare, LoraOptions(rank=3, alpha=12, dropout=0.25, targets=("q_proj",)), 0)
    width = bare.model.config.get_text_config().hidden_size
    layers = bare.model.config.get_text_config().num_hidden_layers
    assert count(trainable(bare.model)) == layers * 3 * 2 * width
    layer = bare.language_model.layers[0].self_attn.q_proj
    assert layer.scaling == {"default": 4.0}
    assert layer.lora_dropout["default"].p == 0.25
    assert wrapped.peft_config["default"].task_type is None


@pytest.mark.parametrize("targets", [("qkv",), ("q_proj", "w_proj", "zz"), ("lm_head",)])
def test_unknown_target(bare: Backbone, targets: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        attach(bare, LoraOptions(targets=targets), 0)
    unknown = next(t for t in targets if t != "q_proj")
    assert str(caught.value) == (
        f"lora.targets: {unknown!r} is no linear layer of {bare.source.name}'s decoder; it has "
        f"down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    )


def test_decoder_is_trained_without_embeddings_and_head(bare: Backbone) -> None:
    assert attach(bare, None, 0) is bare.model
    trained = {n for n, p in bare.model.named_parameters() if p.requires_grad}
    decoder = {n for n, _ in bare.model.named_parameters() if ".language_model." in f".{n}"}
    assert trained == {n for n in decoder if "embed_tokens" not in n}
    assert not bare.language_model.get_input_embeddings().weight.requires_grad
    assert not bare.model.lm_head.weight.requires_grad
    assert bare.shares_vision


@pytest.mark.parametrize("name", TINY)
def test_seed_decides_the_initial_adapter(name: str) -> None:
    def start(seed: int) -> dict[str, torch.Tensor]:
        backbone = load(name)
        attach(backbone, LoraOptions(rank=2), seed)
        return {n: p for n, p in backbone.model.named_parameters() if p.requires_grad}

    one, same, other = start(5), start(5), start(6)
    assert all(torch.equal(one[n], same[n]) for n in one)
    assert all(torch.equal(one[n], other[n]) == ("lora_B" in n) for n in one)


def save(backbone: Backbone, folder: Path, record: dict[str, Any]) -> None:
    wrapped = attach(backbone, None, 0)
    save_member(wrapped, backbone, {}, folder, record)


def test_record_is_written(tmp_path: Path) -> None:
    record = {"backbone": "tiny-internvl", "questions": {"total_levels": {"2": 2.0, "1": 1.0}}}
    save(load("tiny-internvl"), tmp_path / "deep" / "folder", record)
    written = (tmp_path / "deep" / "folder" / "tokenfocus.json").read_text()
    assert written == json.dumps(record, indent=2) + "\n"


def test_trained_decoder_of_a_hub_model_keeps_how_images_are_cut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its preprocessor lies in the hub's cache, not in a folder of the backbone's name."""
    cache = tmp_path / "cache"
    shutil.copytree(registry.WEIGHTS / "tiny-internvl", cache)
    asked: list[tuple[str, str, str]] = []

    def cached_file(name: str, file: str, revision: str, **_: Any) -> str | None:
        asked.append((name, file, revision))
        return str(cache / file) if (cache / file).is_file() else None

    monkeypatch.setattr("transformers.utils.hub.cached_file", cached_file)
    backbone = load("tiny-internvl")
    backbone.source = Source("owner/model", "owner/model", "internvl", "0123abcd")
    save(backbone, tmp_path / "member", {})
    files = ("processor_config.json", "preprocessor_config.json")
    assert asked == [("owner/model", file, "0123abcd") for file in files]
    member = registry.resolve(str(tmp_path / "member"))
    assert loading.image_spec(member) == backbone.image_spec


@pytest.mark.parametrize("name", TINY)
def test_trained_decoder_keeps_how_images_are_cut_from_processor_config(
    name: str, tmp_path: Path
) -> None:
    """What transformers 5 saves has no preprocessor_config.json."""
    folder = tmp_path / "backbone"
    shutil.copytree(registry.WEIGHTS / name, folder)
    nested = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": nested}))
    backbone = load(str(folder))
    save(backbone, tmp_path / "member", {})
    member = registry.resolve(str(tmp_path / "member"))
    assert loading.image_spec(member) == backbone.image_spec
