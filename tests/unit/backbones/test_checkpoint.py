from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.errors import BackboneError

Tensors = dict[str, torch.Tensor]
DECODER = "model.language_model."


@pytest.fixture(params=registry.BUILT_IN)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A built-in backbone's folder, to be changed."""
    path: Path = tmp_path / "backbone"
    shutil.copytree(registry.WEIGHTS / request.param, path)
    return path


def load(folder: Path) -> Backbone:
    return loading.load(registry.resolve(str(folder)), device="cpu", dtype=torch.float32)


def refusal(folder: Path) -> str:
    with pytest.raises(BackboneError) as caught:
        load(folder)
    return str(caught.value)


def change_config(folder: Path, text: dict[str, Any], **whole: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | whole | {"text_config": config["text_config"] | text}))


def change_tensors(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def not_whole(folder: Path, faults: str) -> str:
    return (
        f"backbone {str(folder)!r} is not whole in {str(folder)!r}: {faults}; its scores would be "
        f"those of random weights. Fetch or save it again, with the config.json that belongs to it"
    )


def test_a_missing_tensor_is_refused_by_name(folder: Path) -> None:
    change_tensors(
        folder, lambda t: {k: v for k, v in t.items() if "layers.1.mlp.up_proj" not in k}
    )
    name = f"{DECODER}layers.1.mlp.up_proj.weight"
    assert refusal(folder) == not_whole(folder, f"1 tensor is missing: {name}")


def test_a_missing_vision_tower_is_refused_by_name(folder: Path) -> None:
    change_tensors(folder, lambda t: {k: v for k, v in t.items() if "vis" not in k})
    message = refusal(folder)
    assert re.search(
        r"whole in .*: \d\d tensors are missing: model\.vis\w+\.[\w.]+, .*, \.\.\.;", message
    )


def test_a_missing_projector_is_refused_by_name(folder: Path) -> None:
    projector = re.compile("merger|multi_modal_projector")
    change_tensors(folder, lambda t: {k: v for k, v in t.items() if not projector.search(k)})
    assert re.search(r": \d tensors are missing: model\.\w+\.", refusal(folder))


def test_a_head_that_is_neither_tied_nor_there_is_refused(folder: Path) -> None:
    change_config(folder, {"tie_word_embeddings": False}, tie_word_embeddings=False)
    assert refusal(folder) == not_whole(
        folder,
        "1 tensor is missing: lm_head.weight; config.json does not tie the head to the embeddings",
    )


@pytest.mark.parametrize(
    ("layers", "fault"),
    [(5, "are missing"), (3, "are not of the model that config.json describes")],
)
def test_another_number_of_layers_is_refused(folder: Path, layers: int, fault: str) -> None:
    change_config(folder, {"num_hidden_layers": layers, "layer_types": None})
    last = f"{DECODER}layers.{max(layers - 1, 3)}"
    assert f": 12 tensors {fault}: {last}.input_layernorm.weight, " in refusal(folder)


def test_a_tensor_of_another_shape_is_refused_with_both_shapes(folder: Path) -> None:
    change_tensors(
        folder,
        lambda t: {k: v[:100].clone() if "layers.0.mlp.up_proj" in k else v for k, v in t.items()},
    )
    name = f"{DECODER}layers.0.mlp.up_proj.weight"
    shapes = "([100, 128] in the file, [384, 128] by config.json)"
    assert refusal(folder) == not_whole(folder, f"1 tensor is of another shape: {name} {shapes}")


def test_a_renamed_tensor_is_refused_by_both_names(folder: Path) -> None:
    change_tensors(
        folder,
        lambda t: {k.replace("layers.2.mlp.up_proj", "layers.2.mlp.up"): v for k, v in t.items()},
    )
    name = f"{DECODER}layers.2.mlp.up"
    assert refusal(folder) == not_whole(
        folder,
        f"1 tensor is missing: {name}_proj.weight; 1 tensor is not of the model that config.json "
        f"describes: {name}.weight",
    )


def test_a_refusal_is_said_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without the table that transformers logs."""
    change_config(folder, {"num_hidden_layers": 3, "layer_types": None})
    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        refusal(folder)
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert caplog.text == ""


OLDER = {
    "qwen2_5_vl": (("model.language_model.", "model."), ("model.visual.", "visual.")),
    "internvl": (
        ("model.language_model.", "language_model.model."),
        ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
    ),
}


def in_older_layout(tensors: Tensors, family: str) -> Tensors:
    for new, old in OLDER[family]:
        tensors = {k.replace(new, old): v for k, v in tensors.items()}
    return tensors


@pytest.mark.parametrize(
    "form", ["shards", "older names", "newer names", "leftovers", "head", "bin"]
)
def test_ordinary_checkpoints_are_whole(folder: Path, form: str) -> None:
    expected = load(folder).model.state_dict()
    match form:
        case "shards":
            model = AutoModelForImageTextToText.from_pretrained(folder)
            (folder / "model.safetensors").unlink()
            model.save_pretrained(folder, max_shard_size="2MB")
            assert len([*folder.glob("model-*.safetensors")]) > 1
        case "older names":
            family = json.loads((folder / "config.json").read_text())["model_type"]
            change_tensors(folder, lambda t: in_older_layout(t, family))
        case "newer names":
            kept = {k: v.clone() for k, v in expected.items() if k != "lm_head.weight"}
            change_tensors(folder, lambda _: kept)
        case "leftovers":
            frequencies = {f"{DECODER}layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16)}
            change_tensors(folder, lambda t: t | frequencies)
        case "head":  # tied by config.json, and there
            change_tensors(folder, lambda t: t | {"lm_head.weight": expected["lm_head.weight"] + 1})
            expected = expected | {"lm_head.weight": expected["lm_head.weight"] + 1}
        case "bin":
            (folder / "model.safetensors").unlink()
            torch.save(expected, folder / "pytorch_model.bin")
    loaded = load(folder).model.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())


def refused_value(folder: Path, key: str, value: Any, followed: str) -> str:
    return (
        f"backbone {str(folder)!r}: config.json says {key} = {json.dumps(value)}, but only "
        f"{followed} is followed here; use a checkpoint of the family's usual form, or put the "
        f"file right if it is wrong"
    )


@pytest.mark.parametrize("nested", [False, True], ids=["whole", "decoder"])
def test_an_unknown_quantisation_method_is_refused_by_name(folder: Path, nested: bool) -> None:
    """transformers warns and loads the integers as if they were weights."""
    method = {"quantization_config": {"quant_method": "own-3bit", "bits": 3}}
    change_config(folder, method if nested else {}, **({} if nested else method))
    assert refusal(folder) == refused_value(
        folder,
        "quantization_config.quant_method",
        "own-3bit",
        "a method that this transformers knows",
    )


def test_a_quantisation_without_its_library_is_refused_with_the_cause(folder: Path) -> None:
    change_config(folder, {}, quantization_config={"quant_method": "hqq", "bits": 4})
    start = f"backbone {str(folder)!r} cannot be loaded from {str(folder)!r}: "
    assert re.match(re.escape(start) + ".*hqq", refusal(folder), re.IGNORECASE)


def test_an_adapter_beside_the_weights_is_refused(folder: Path) -> None:
    """transformers would load it onto them without a word."""
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    assert refusal(folder) == (
        f"backbone {str(folder)!r}: {str(folder)!r} holds an adapter beside the weights "
        f"(adapter_config.json), which transformers would add to them; move it to a folder of its "
        f"own and give that as an adapter, or delete it if it is merged already"
    )


LAYERS = ["full_attention", "chunked_attention"] * 2


def test_a_kind_of_attention_without_a_mask_is_refused(folder: Path) -> None:
    change_config(folder, {"layer_types": LAYERS})
    assert refusal(folder) == refused_value(
        folder, "text_config.layer_types", LAYERS, "full_attention or sliding_attention"
    )


def test_a_scaling_that_depends_on_the_batch_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())["text_config"]["rope_parameters"]
    factors = {"short_factor": [1.0] * 16, "long_factor": [2.0] * 16}
    scaled = config | factors | {"rope_type": "longrope", "original_max_position_embeddings": 64}
    change_config(folder, {"rope_parameters": scaled})
    assert refusal(folder) == refused_value(
        folder,
        "text_config.rope_parameters.rope_type",
        "longrope",
        "a scaling that does not depend on the batch",
    )


@pytest.mark.parametrize(
    ("key", "value", "followed"),
    [
        ("vision_feature_select_strategy", "full", "default"),
        ("vision_feature_layer", [1, 2], "one layer"),
    ],
)
@pytest.mark.parametrize("folder", ["tiny-internvl"], indirect=True)
def test_features_of_another_kind_are_refused(
    folder: Path, key: str, value: Any, followed: str
) -> None:
    change_config(folder, {}, **{key: value})
    assert refusal(folder) == refused_value(folder, key, value, followed)


@pytest.mark.parametrize("folder", ["tiny-internvl"], indirect=True)
def test_a_decoder_that_was_never_compared_is_refused(folder: Path) -> None:
    change_config(folder, {"model_type": "gemma2"})
    assert refusal(folder) == refused_value(
        folder, "text_config.model_type", "gemma2", "qwen2 or qwen3 or llama"
    )


#: As Qwen/Qwen2.5-VL-3B-Instruct has them at its top level, older than ``text_config``.
OFFICIAL_FLAT = {
    "max_window_layers": 70,
    "sliding_window": 32768,
    "use_sliding_window": False,
    "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
    "rope_theta": 1000000.0,
}


@pytest.mark.parametrize("folder", ["tiny-qwen2_5_vl"], indirect=True)
def test_the_flat_config_of_official_checkpoints_is_followed(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    text = config.pop("text_config")
    for key in ("layer_types", "rope_parameters", "model_type"):
        del text[key]
    path.write_text(json.dumps(text | config | OFFICIAL_FLAT))
    backbone = load(folder)
    assert not backbone.language_model.has_sliding_layers
    assert backbone.language_model.config.rope_parameters["rope_theta"] == 1e6


def test_checks_need_no_weights(folder: Path) -> None:
    """So a job is refused before an actor is started."""
    (folder / "model.safetensors").unlink()
    source = registry.resolve(str(folder))
    assert loading.load_config(source).model_type == source.family
    assert AutoConfig.from_pretrained(folder).model_type == source.family
    change_config(folder, {"layer_types": LAYERS})
    with pytest.raises(BackboneError, match=r"text_config\.layer_types"):
        loading.load_config(source)
