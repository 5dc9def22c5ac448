from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import transformers

from tokenfocus_ray.backbones import registry
from tokenfocus_ray.backbones.base import Backbone
from tokenfocus_ray.errors import BackboneError


def message_of(name: str, revision: str | None = None) -> str:
    with pytest.raises(BackboneError) as caught:
        registry.resolve(name, revision)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A backbone's folder with all that resolving reads; the weights are no weights."""
    path = tmp_path / "backbone"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    (path / "model-00001-of-00002.safetensors").write_bytes(b"one")
    (path / "model-00002-of-00002.safetensors").write_bytes(b"two")
    return path


@pytest.mark.parametrize(
    ("name", "family"), [("tiny-qwen2_5_vl", "qwen2_5_vl"), ("tiny-internvl", "internvl")]
)
def test_built_in(name: str, family: str) -> None:
    source = registry.resolve(name)
    assert (source.name, source.family) == (name, family)
    assert Path(source.location, "config.json").is_file()


def test_built_in_names_are_families() -> None:
    assert sorted(registry.BUILT_IN) == sorted(f"tiny-{family}" for family in registry.FAMILIES)


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_family_class(family: str) -> None:
    cls = registry.family_class(family)
    assert issubclass(cls, Backbone)
    assert hasattr(transformers, cls.auto_class)


def test_folder(folder: Path) -> None:
    source = registry.resolve(str(folder))
    assert (source.name, source.location) == (str(folder), str(folder))
    assert source.family == "qwen2_5_vl"


def test_unknown_name() -> None:
    assert message_of("tiny-intern") == (
        "unknown backbone 'tiny-intern': neither built in, nor a folder, nor a hub id "
        "(owner/name). Did you mean 'tiny-internvl'? Known: tiny-internvl, tiny-qwen2_5_vl."
    )


@pytest.mark.parametrize("name", ["/no/such/folder", "./no/such/folder", "../nowhere"])
def test_folder_that_is_not_there(name: str) -> None:
    """A path is never asked of the hub."""
    assert message_of(name).startswith(
        f"unknown backbone {name!r}: neither built in, nor a folder, nor a hub id (owner/name). "
    )


def test_folder_without_config(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "README.md").write_text("")
    assert message_of(str(tmp_path)) == (
        f"backbone folder {str(tmp_path)!r} has no config.json "
        "(it has ['README.md', 'model.safetensors'])"
    )


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_config_that_is_no_mapping(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    assert "config.json" in message_of(str(tmp_path))


def fingerprint(folder: Path) -> str:
    return registry.resolve(str(folder)).revision


def test_fingerprint_survives_copying(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    os.utime(copy / "model-00001-of-00002.safetensors", (0, 0))
    assert fingerprint(copy) == fingerprint(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model-00002-of-00002.safetensors", b"TWO"),
        ("model-00002-of-00002.safetensors", b"two and more"),
        ("model-00003-of-00003.safetensors", b"three"),
        ("config.json", b'{"model_type": "qwen2_5_vl", "vocab_size": 1}'),
    ],
    ids=["other weights", "longer weights", "one more file", "other config"],
)
def test_fingerprint_changes_with_the_backbone(name: str, content: bytes, folder: Path) -> None:
    before = fingerprint(folder)
    (folder / name).write_bytes(content)
    assert fingerprint(folder) != before


def test_fingerprint_changes_with_swapped_names(folder: Path) -> None:
    before = fingerprint(folder)
    first, second = sorted(folder.glob("*.safetensors"))
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert fingerprint(folder) != before


def test_a_folder_is_the_same_in_another_process(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever working folder a process has."""
    monkeypatch.chdir(tmp_path)
    source = registry.resolve("backbone")
    assert (source.name, source.location) == ("backbone", str(folder))
    assert not source.on_hub
    monkeypatch.chdir("/")
    assert registry.on_this_node(source) == source


def test_a_built_in_backbone_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package lies elsewhere on another machine."""
    source = registry.resolve("tiny-internvl")
    assert registry.on_this_node(replace(source, location="/elsewhere/tiny-internvl")) == source


def test_a_folder_that_is_other_than_at_the_start_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine, or replaced since."""
    monkeypatch.setattr("platform.node", lambda: "node7")
    source = registry.resolve(str(folder))
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"ONE")
    with pytest.raises(BackboneError) as caught:
        registry.on_this_node(source)
    assert str(caught.value) == (
        f"backbone {str(folder)!r}: folder {str(folder)!r} on the machine 'node7' holds other "
        f"files than where the run was started (fingerprint {fingerprint(folder)}, there "
        f"{source.revision}); give every node the same files, and launch again"
    )
    shutil.rmtree(folder)
    with pytest.raises(BackboneError) as caught:
        registry.on_this_node(source)
    assert str(caught.value) == (
        f"backbone {str(folder)!r}: folder {str(folder)!r} is not on the machine 'node7'; put it "
        f"where every node reaches it, or give a hub id"
    )


def test_only_drivers_resolve_a_name() -> None:
    """The processes that they start take a `Source`: a branch of the hub may move meanwhile."""
    package = Path(registry.__file__).parents[1]
    files = {
        path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")
    }
    assert {name for name, text in files.items() if "registry.resolve(" in text} == {
        "distributed/elements/methods.py",
        "distributed/preflight.py",
        "distributed/train/checks.py",
        "plan/scoring.py",  # in one process
        "scoring/scorer.py",  # the public API, in one process
    }
    assert not [name for name, text in files.items() if "import resolve" in text]
