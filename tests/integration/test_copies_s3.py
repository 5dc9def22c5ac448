"""Folders of S3 on this disk, by s3fs, with the settings that Arrow's S3 has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.s3 import free_ports
from tokenfocus_ray import AlignmentScorer
from tokenfocus_ray.backbones import registry
from tokenfocus_ray.backbones.registry import WEIGHTS
from tokenfocus_ray.errors import BackboneError, OutputError
from tokenfocus_ray.storage import Store, s3
from tokenfocus_ray.storage.copies import copy_files, local_copy

BACKBONE = "tiny-internvl"


@pytest.fixture(scope="session", autouse=True)
def _session() -> None:
    """No Ray here: takes the place of the folder's own."""


@pytest.fixture
def model(s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A backbone's folder."""
    monkeypatch.setenv("TOKENFOCUS_CACHE", str(tmp_path / "cache"))
    store = Store.of(f"{s3_bucket}/models/{BACKBONE}")
    for path in (WEIGHTS / BACKBONE).iterdir():
        store.write_bytes(path.name, path.read_bytes())
    return store


def test_a_backbone_on_s3_scores_as_on_the_disk(model: Store, tmp_path: Path) -> None:
    picture = np.full((64, 64, 3), 90, np.uint8)
    rows = [
        AlignmentScorer.from_pretrained(name).score([picture], ["a red circle"])[0]
        for name in (BACKBONE, model.uri)
    ]
    assert rows[0].member_scores == rows[1].member_scores
    source = registry.resolve(model.uri)
    assert source.name == model.uri
    assert source.revision == registry.resolve(BACKBONE).revision
    assert Path(source.location).is_relative_to(tmp_path / "cache")
    assert registry.on_this_node(source) == source
    # written anew while a run goes on: other nodes must not take it for the same
    model.write_bytes("config.json", model.read_bytes("config.json") + b"\n")
    with pytest.raises(BackboneError) as caught:
        registry.on_this_node(source)
    assert "holds other files than where the run was started (fingerprint " in str(caught.value)


def test_a_folder_that_is_none(model: Store) -> None:
    with pytest.raises(BackboneError) as caught:
        registry.resolve(f"{model.uri}2")
    assert str(caught.value) == f"backbone folder '{model.uri}2' has no config.json (it has [])"


def test_a_large_file_comes_whole(model: Store) -> None:
    """Of several parts, as weights are."""
    data = np.random.default_rng(0).bytes(24 * 2**20)
    model.write_bytes("large.safetensors", data)
    assert (local_copy(model) / "large.safetensors").read_bytes() == data


def test_s3fs_takes_the_settings_of_the_environment(
    model: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong keys and a server that is away are told as of Arrow's client."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(OutputError) as caught:
        copy_files(Store.of(model.uri), ["config.json"], tmp_path)
    assert str(caught.value) == (
        f"cannot read {model.uri!r}: The request signature we calculated does not match the "
        "signature you provided. Check your key and signing method; check the name, AWS_REGION, "
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
    )
    monkeypatch.setattr(s3, "MAX_ATTEMPTS", 2)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(OutputError) as caught:
        copy_files(Store.of(model.uri), ["config.json"], tmp_path)
    assert "did not answer in 2 attempts: check AWS_ENDPOINT_URL_S3" in str(caught.value)
