"""EvalMuse's labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import layouts
from tests.support.imports import imported
from tokenfocus_ray.datasets.evalmuse import read_evalmuse
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE


def test_rows(tmp_path: Path) -> None:
    src = layouts.evalmuse(tmp_path / "src") / "train_list.json"
    found = imported("evalmuse", src, tmp_path)
    wanted = read_evalmuse(str(src), images_root=str(src.parent))
    assert found.drop_columns([ERROR_CODE, ERROR_MESSAGE]).to_pylist() == wanted.to_pylist()
    (tmp_path / "images").mkdir()
    other = imported("evalmuse", src, tmp_path, images=f"{tmp_path}/images")
    assert other["image_uri"][0].as_py() == f"{tmp_path}/images/SDXL/0.png"
    assert other["sample_id"] == found["sample_id"]


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        imported("evalmuse", tmp_path, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: wanted EvalMuse's train_list.json or test.json; name the file"
    )
