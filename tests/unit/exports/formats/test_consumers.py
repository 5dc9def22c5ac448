"""What holds images, read back by the libraries that train on it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from trl import data_utils

from tests.unit.exports.formats.test_formats import PAIR, seed_with
from tokenfocus_ray.exports.formats import FORMATS


def png(colour: str) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(sink, "PNG")
    return sink.getvalue()


def loaded(name: str, folder: Path) -> Any:
    own = FORMATS[name]
    assert own.with_images is not None
    assert own.schema is not None
    records = [
        own.with_images(PAIR, seed_with(first), png("green"), png("red")) for first in (True, False)
    ]
    schema = own.schema(pa.string(), pa.int64())
    pq.write_table(pa.Table.from_pylist(records, schema=schema), folder / "part-00000.parquet")
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(folder / "cache"))


def colour(image: Image.Image) -> str:
    return {(0, 128, 0): "green", (255, 0, 0): "red"}[image.convert("RGB").getpixel((0, 0))]  # type: ignore[index]


def test_diffusion_dpo(tmp_path: Path) -> None:
    """As Diffusion-DPO's train.py does: bytes are opened, and swapped where label_0 is 0."""
    data = loaded("diffusion-dpo", tmp_path)
    assert [row["label_0"] for row in data] == [1.0, 0.0]
    for row in data:
        assert row["label_0"] + row["label_1"] == 1.0
        both = [colour(Image.open(io.BytesIO(row[f"jpg_{at}"]))) for at in (0, 1)]
        assert (both if row["label_0"] else both[::-1]) == ["green", "red"]
        assert row["caption"] == "a red dog"
        chosen = 0 if row["label_0"] else 1
        assert row[f"image_{chosen}_uid"] == row["best_image_uid"] == "c"
        assert (row[f"seed_{chosen}"], row[f"seed_{1 - chosen}"]) == (7, 8)
        assert (row[f"model_{chosen}"], row[f"model_{1 - chosen}"]) == ("sdxl", None)
        assert row[f"image_{chosen}_url"] == "/data/c.png"


def test_trl(tmp_path: Path) -> None:
    data = loaded("trl", tmp_path)
    for first, row in zip((True, False), data, strict=True):
        assert data_utils.is_conversational(row)
        assert [colour(image) for image in row["images"]] == (
            ["green", "red"] if first else ["red", "green"]
        )
        messages = data_utils.prepare_multimodal_messages(row["prompt"], images=row["images"])
        (message,) = messages
        assert [part["type"] for part in message["content"]] == ["image", "image", "text"]
        assert message["content"][0]["image"] is row["images"][0]
        assert message["content"][2]["text"] == (
            "Which of the two images follows this prompt better?\na red dog"
        )
        answers = [row[name][0]["content"][0]["text"] for name in ("chosen", "rejected")]
        assert answers == (["Image 1", "Image 2"] if first else ["Image 2", "Image 1"])
        assert row["chosen"][0]["role"] == "assistant"
        assert (row["chosen_seed"], row["rejected_generator"]) == (7, None)
    unpaired = data_utils.unpair_preference_dataset(data.remove_columns(["images"]))
    assert unpaired["label"][:] == [True, True, False, False]


@pytest.mark.parametrize("kind", [pa.int32(), pa.float64(), pa.large_string()])
def test_types_of_seeds(kind: pa.DataType, tmp_path: Path) -> None:
    schema = FORMATS["trl"].schema
    assert schema is not None
    empty = schema(pa.string(), kind).empty_table()
    pq.write_table(empty, tmp_path / "a.parquet")
    features = datasets.Features.from_arrow_schema(pq.read_schema(tmp_path / "a.parquet"))
    assert features["chosen_seed"].dtype in ("int32", "float64", "large_string")
