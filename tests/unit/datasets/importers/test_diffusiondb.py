"""A table beside a folder of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import layouts
from tests.support.imports import imported
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.schema import sample_id


def test_images_lie_in_their_parts(tmp_path: Path) -> None:
    src = layouts.diffusiondb(tmp_path / "src")
    images = str(src / "images")
    rows = imported("diffusiondb", src / "metadata.parquet", tmp_path, images=images).to_pylist()
    assert [Path(row["image_uri"]).read_bytes() for row in rows] == [*map(layouts.png, range(4))]
    assert rows[3]["image_uri"] == f"{images}/part-000002/uuid-3.png"
    assert rows[3]["sample_id"] == sample_id("part-000002/uuid-3.png", "prompt 3")
    assert [row["seed"] for row in rows] == [0, 1, 2, 3]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_any_table(suffix: str, tmp_path: Path) -> None:
    text = 'who,what,file\nx,"a pig, big",1.png\ny,b,s3://b/2.png\n'
    if suffix == "jsonl":
        text = (
            '{"who":"x","what":"a pig, big","file":"1.png"}\n{"what":"b","file":"s3://b/2.png"}\n'
        )
    src = tmp_path / f"m.{suffix}"
    src.write_text(text)
    mapping = {"prompt": "what", "image_uri": "file", "generator": "who"}
    rows = imported("diffusiondb", src, tmp_path, **mapping).to_pylist()
    assert [row["prompt"] for row in rows] == ["a pig, big", "b"]
    assert [row["image_uri"] for row in rows] == [f"{tmp_path}/1.png", "s3://b/2.png"]
    assert rows[0]["generator"] == "x"


def test_an_image_name_without_parts(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image_name,prompt\n1.png,a\n")
    (row,) = imported("diffusiondb", tmp_path / "m.csv", tmp_path, images=str(tmp_path)).to_pylist()
    assert row["image_uri"] == f"{tmp_path}/1.png"


def test_shards_are_refused(tmp_path: Path) -> None:
    src = layouts.webdataset(tmp_path / "src")
    with pytest.raises(ManifestError) as caught:
        imported("diffusiondb", src, tmp_path)
    assert str(caught.value) == f"{src}: these are tar shards; import them as webdataset"
