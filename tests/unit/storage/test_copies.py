"""Folders of a store on this disk; tests/integration/test_copies_s3.py has S3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.stores import InMemory, gs_bucket  # noqa: F401
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.storage import Store
from tokenfocus_ray.storage.copies import copy_files, local_copy


@pytest.fixture
def model(gs_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:  # noqa: F811
    monkeypatch.setenv("TOKENFOCUS_CACHE", str(tmp_path / "cache"))
    store = Store.of(f"{gs_bucket}/models/tiny")
    for name in ("config.json", "model.safetensors", ".hidden", "onnx/model.onnx"):
        store.write_bytes(name, name.encode())
    return store


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Paths of the store of each copy that is made."""
    found: list[list[str]] = []
    get = InMemory.get

    def note(self: Any, rpath: list[str], lpath: list[str]) -> None:
        found.append(rpath)
        get(self, rpath, lpath)

    monkeypatch.setattr(InMemory, "get", note)
    return found


def test_a_folder_is_copied_once_for_all_processes(model: Store, copied: list[list[str]]) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: local_copy(model), range(8)))
    (folder,) = folders
    assert folder.name == "tiny"
    assert {p.name: p.read_text() for p in folder.iterdir()} == {
        "config.json": "config.json",
        "model.safetensors": "model.safetensors",
    }
    assert copied == [[f"{model.root}/config.json", f"{model.root}/model.safetensors"]]


def test_a_folder_that_was_written_anew_is_copied_anew(model: Store) -> None:
    first = local_copy(model)
    model.write_bytes("config.json", b"other bytes"[:11])
    second = local_copy(model)
    assert second != first
    assert (second / "config.json").read_bytes() == b"other bytes"
    assert (first / "config.json").read_bytes() == b"config.json"


def test_a_copy_that_was_killed_half_way_is_made_anew(
    model: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: Any, rpath: list[str], lpath: list[str]) -> None:
        Path(lpath[0]).write_bytes(b"conf")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(InMemory, "get", die)
        with pytest.raises(KeyboardInterrupt):
            local_copy(model)
    assert (local_copy(model) / "config.json").read_bytes() == b"config.json"


def test_a_copy_that_is_cut_off_is_refused(model: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(self: Any, rpath: list[str], lpath: list[str]) -> None:
        for path in lpath:
            Path(path).write_bytes(b"conf")

    monkeypatch.setattr(InMemory, "get", cut)
    with pytest.raises(OutputError) as caught:
        local_copy(model)
    assert str(caught.value) == (
        f"cannot read '{model.uri}/config.json': 4 of its 11 bytes came; it is being written, or "
        f"the network is broken: run again"
    )


def test_a_disk_that_is_full_is_not_the_stores_fault(
    model: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, rpath: list[str], lpath: list[str]) -> None:
        raise OSError(28, "No space left on device", lpath[0])

    monkeypatch.setattr(InMemory, "get", full)
    with pytest.raises(OutputError) as caught:
        local_copy(model)
    assert str(caught.value).startswith("No space left on device: '/")
    assert str(caught.value).endswith("; free space on its disk, or choose another")


def test_a_store_that_fails(model: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, rpath: list[str], lpath: list[str]) -> None:
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(InMemory, "get", fail)
    with pytest.raises(OutputError) as caught:
        copy_files(model, ["config.json"], tmp_path)
    assert str(caught.value).startswith(
        f"cannot read {model.uri!r}: reset by peer; the store at gs:// did not answer: check the "
    )
