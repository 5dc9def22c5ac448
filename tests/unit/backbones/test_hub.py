"""Hub ids, from a cache as huggingface_hub lays it out; transformers' own loading code reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.hub import FIRST, SECOND, HubCache
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.errors import BackboneError

NAME = HubCache.name
BUILT_IN = "tiny-qwen2_5_vl"


def message_of(name: str, revision: str | None = None) -> str:
    with pytest.raises(BackboneError) as caught:
        registry.resolve(name, revision)
    return str(caught.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubCache:
    """Two commits, of which the second has other weights, words and image sizes."""
    cache = HubCache(tmp_path / "hub", monkeypatch)
    cache.commit(FIRST, BUILT_IN)
    snapshot = cache.commit(SECOND, BUILT_IN)
    weights = snapshot / "model.safetensors"
    tensors = {name: tensor * 1.5 for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, {"format": "pt"})
    for name, change in {
        "config.json": {"max_position_embeddings": 99},
        "tokenizer_config.json": {"pad_token": "<|im_end|>"},
        "preprocessor_config.json": {"image_mean": [0.5, 0.5, 0.5]},
    }.items():
        values = json.loads((snapshot / name).read_text())
        (values["text_config"] if name == "config.json" else values).update(change)
        (snapshot / name).write_text(json.dumps(values))
    cache.point("main", FIRST)
    cache.point("v2", SECOND)
    return cache


@pytest.mark.parametrize(
    ("revision", "commit"),
    [(None, FIRST), ("main", FIRST), ("v2", SECOND), (SECOND, SECOND)],
)
def test_a_hub_id_is_resolved_to_its_commit(
    revision: str | None, commit: str, hub: HubCache
) -> None:
    source = registry.resolve(NAME, revision)
    assert source == Source(NAME, NAME, "qwen2_5_vl", commit)
    assert source.on_hub


def test_a_hub_id_whose_commit_cannot_be_told_is_refused(hub: HubCache) -> None:
    snapshot = hub.commit("latest", BUILT_IN)
    hub.point("main", "latest")
    assert message_of(NAME) == (
        "backbone 'owner/model' is no folder here and cannot be fetched from the model hub: the "
        f"cache does not say of which commit {str(snapshot / 'config.json')!r} is, so runs could "
        "not be told apart. Give a folder that holds config.json, or one of the built-in "
        "backbones: tiny-qwen2_5_vl, tiny-internvl"
    )


@pytest.mark.parametrize(
    ("name", "revision"), [("owner/other", None), (NAME, "v3"), (NAME, "3" * 40)]
)
def test_a_hub_id_that_is_not_cached_is_refused_offline(
    name: str, revision: str | None, hub: HubCache
) -> None:
    assert message_of(name, revision) == (
        f"backbone {name!r} is no folder here and cannot be fetched from the model hub: We "
        "couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in "
        "the cached files. Give a folder that holds config.json, or one of the built-in "
        "backbones: tiny-qwen2_5_vl, tiny-internvl"
    )


def test_everything_is_loaded_at_the_commit_that_was_resolved(hub: HubCache) -> None:
    """Weights, shapes, tokenizer and image sizes, though the branch moves in between."""
    source = registry.resolve(NAME)
    expected = loading.load(registry.resolve(BUILT_IN), device="cpu", dtype=torch.float32)
    hub.point("main", SECOND)
    assert registry.resolve(NAME).revision == SECOND
    found = loading.load(registry.on_this_node(source), device="cpu", dtype=torch.float32)
    assert torch.equal(found.model.lm_head.weight, expected.model.lm_head.weight)
    assert found.tokenizer.pad_token == expected.tokenizer.pad_token
    assert found.image_spec == expected.image_spec
    assert loading.skeleton(source).context_length == expected.context_length != 99
    other = loading.load(registry.resolve(NAME), device="cpu", dtype=torch.float32)
    assert not torch.equal(other.model.lm_head.weight, expected.model.lm_head.weight)


@pytest.fixture(params=["hub id", "folder"])
def repository(request: pytest.FixtureRequest, hub: HubCache, tmp_path: Path) -> tuple[str, Path]:
    """A name, and the folder of its files."""
    folder = hub.commit("4" * 40)
    hub.point("main", "4" * 40)
    return (NAME if request.param == "hub id" else str(folder)), folder


@pytest.mark.parametrize("family", ["internvl_chat", "qwen2_5_vl", "other"])
def test_code_of_a_repository_is_refused_before_it_runs(
    family: str, repository: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers would ask whether to run it, and run it on a "y"."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    name, folder = repository
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: ...\n")
    own = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": family, "auto_map": own}))
    remedy = "take a repository without it, or remove auto_map where that code changes nothing"
    if family == "internvl_chat":
        form = "owner/model-hf" if name == NAME else "OpenGVLab/InternVL3-8B-hf"
        remedy = f"take the same model in transformers' own form, such as {form!r}"
    assert message_of(name) == (
        f"backbone {name!r} brings Python code of its own (auto_map in config.json), which is "
        f"never run; {remedy}"
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "file", ["tokenizer_config.json", "preprocessor_config.json", "processor_config.json"]
)
def test_code_of_a_tokenizer_or_processor_is_refused_before_it_runs(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = HubCache(tmp_path / "hub", monkeypatch)
    path = cache.commit(FIRST, BUILT_IN) / file
    cache.point("main", FIRST)
    own = {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | own))
    source = registry.resolve(NAME)
    with pytest.raises(BackboneError) as caught:
        loading.load(source, device="cpu", dtype=torch.float32)
    assert str(caught.value) == (
        f"backbone 'owner/model' brings Python code of its own (auto_map in {file}), which is "
        f"never run; take a repository without it, or remove auto_map where that code changes "
        f"nothing"
    )


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "qwen2_5_omni", "bert", None])
def test_a_neighbour_of_a_family_is_not_suggested_another(
    family: str | None, repository: tuple[str, Path]
) -> None:
    name, folder = repository
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    assert message_of(name) == (
        f"backbone {name!r} is of the family {str(family)!r}, which is not supported. Supported: "
        f"internvl, qwen2_5_vl."
    )
