"""Hugging Face's Parquet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import layouts
from tests.support.imports import imported
from tokenfocus_ray.errors import ConfigError, ManifestError


def test_rows(tmp_path: Path) -> None:
    src = layouts.hf_parquet(tmp_path / "src")
    rows = imported("hf-parquet", src, tmp_path, generator="model").to_pylist()
    assert [row["prompt"] for row in rows] == [f"prompt {i}" for i in range(5)]
    assert [row["image"] for row in rows] == [*map(layouts.png, range(4)), None]
    assert [row["image_uri"] for row in rows] == [None] * 4 + [f"{src}/4.png"]
    assert [row["generator"] for row in rows] == ["m0", "m1", "m0", "m1", "m0"]
    assert [row["seed"] for row in rows] == list(range(5))


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("prompt,path\na,a.png\n")
    with pytest.raises(ManifestError) as caught:
        imported("hf-parquet", tmp_path / "m.csv", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/m.csv: it is no Parquet; import tar shards as webdataset, and a table with a "
        f"folder of images as diffusiondb"
    )
    src = layouts.hf_parquet(tmp_path / "src")
    with pytest.raises(ConfigError) as refused:
        imported("hf-parquet", src, tmp_path, promt="text")
    assert str(refused.value) == (
        "--map promt=text: no such role. Did you mean 'prompt'? Known: elements, generator, image, "
        "image_uri, prompt, prompt_type, sample_id."
    )
    with pytest.raises(ManifestError) as caught:
        imported("hf-parquet", src, tmp_path, generator="modell")
    assert str(caught.value) == (
        f"--map generator=modell: {src} has no column 'modell'; found image, text, model, seed"
    )
