"""Rows with their images as samples of tar shards."""

from __future__ import annotations

import io
import json
import math
import tarfile
from datetime import datetime
from decimal import Decimal

import pytest
from PIL import Image

from tokenfocus_ray.errors import ImageDecodeError
from tokenfocus_ray.exports.webdataset import add_sample, image_ending, plain, shard_rows


def picture(kind: str) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 8)).save(sink, kind)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("kind", "ending"),
    [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("GIF", "gif"), ("TIFF", "tif")],
)
def test_the_ending_is_of_what_the_image_is(kind: str, ending: str) -> None:
    assert image_ending(picture(kind)) == ending


def test_what_is_no_image() -> None:
    with pytest.raises(ImageDecodeError) as caught:
        image_ending(b"<html>404")
    assert caught.value.code == "image_corrupt"
    assert str(caught.value) == (
        "it is a web page (HTML) by now, and no image; put back what was scored"
    )


@pytest.mark.parametrize(("shards", "rows"), [(1, 1), (3, 10), (7, 7), (4, 1003)])
def test_shards_are_even_and_hold_every_row(shards: int, rows: int) -> None:
    each = [shard_rows(i, shards, rows) for i in range(shards)]
    assert [start for start, _ in each] == [0, *(stop for _, stop in each[:-1])]
    assert each[-1][1] == rows
    sizes = {stop - start for start, stop in each}
    assert max(sizes) - min(sizes) <= 1


def test_a_sample() -> None:
    sink = io.BytesIO()
    row = {"score": math.nan, "at": datetime(2026, 1, 2), "n": Decimal("1.5"), "raw": b"a"}
    with tarfile.open(fileobj=sink, mode="w") as tar:
        add_sample(tar, "000000001", picture("PNG"), "ein Zürcher", row)
        add_sample(tar, "000000002", picture("PNG"), None, {})
        with pytest.raises(ImageDecodeError):
            add_sample(tar, "000000003", b"", "none of it is added", {})
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue())) as tar:
        files = {m.name: tar.extractfile(m) for m in tar}
        found = {name: file.read() for name, file in files.items() if file is not None}
    assert list(found) == [
        "000000001.png", "000000001.txt", "000000001.json", "000000002.png", "000000002.json",
    ]  # fmt: skip
    assert found["000000001.txt"].decode() == "ein Zürcher"
    assert json.loads(found["000000001.json"]) == {
        "score": None, "at": "2026-01-02 00:00:00", "n": "1.5", "raw": "YQ==",
    }  # fmt: skip


def test_maps_and_lists_are_plain_too() -> None:
    assert plain({"a": [(1, math.inf)], 2: True}) == {"a": [[1, None]], "2": True}
