"""Images are looked at where a manifest has them, and those that cannot be trained on say why."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.samples import picture
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.distributed.train.images import InspectUnits, image_inspector
from tokenfocus_ray.distributed.train.manifest import Manifest, read_manifest
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store

SPEC = loading.image_spec(registry.resolve("tiny-qwen2_5_vl"), 16)


def png(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(40 + number, 50, number)).save(out, "png")
    return out.getvalue()


def look_at(manifest: Manifest, run: Store) -> list[dict[str, Any]]:
    """What a task gives for all units."""
    inspect = image_inspector(manifest, [SPEC], False, run)
    units = InspectUnits(inspect, manifest.source, manifest.columns.image or "", manifest.starts)
    numbers = pa.table({"unit": range(len(manifest.source.units))})
    return [row for table in units(numbers) for row in table.to_pylist()]


def read(uri: Path) -> Manifest:
    return read_manifest(str(uri), TrainConfig.parse({"data": "unused", "backbones": ["b"]}))


def test_bytes_of_parquet_and_paths_beside_them(tmp_path: Path) -> None:
    """In files and row groups of their own; a row without bytes has its path."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "4.png").write_bytes(png(4))
    values = [png(0), png(1), b"no image", png(0), None, None]
    for number, some in enumerate((values[:2], values[2:])):
        n_rows = len(some)
        table: dict[str, Any] = {"prompt": ["p"] * n_rows, "total_scores": [[3]] * n_rows}
        uris = [None, None] if number == 0 else ["x", "x", "4.png", None]
        table |= {"image": pa.array(some, pa.binary()), "url": uris}
        pq.write_table(pa.table(table), tmp_path / "data" / f"{number}.parquet", row_group_size=3)
    manifest, run = read(tmp_path / "data"), Store.of(tmp_path / "run")
    assert manifest.starts == (0, 2, 5, 6)
    rows = look_at(manifest, run)
    assert [row["row"] for row in rows] == list(range(6))
    assert [row["code"] for row in rows] == [
        None, None, "image_corrupt", None, None, "image_missing"
    ]  # fmt: skip
    assert rows[5]["message"] == (
        "the row has no image: column 'url' is empty; give bytes, a path or a URI"
    )
    kept = [Store.of(rows[i]["uri"]).read_bytes() for i in (0, 1, 3)]
    assert kept == [values[i] for i in (0, 1, 3)]
    assert rows[0]["uri"] == rows[3]["uri"]
    assert (rows[1]["width"], rows[1]["height"], rows[4]["uri"]) == (41, 50, "4.png")


def write_shard(path: Path, *jsons: bytes) -> None:
    with tarfile.open(path, "w") as tar:
        for i, text in enumerate(jsons):
            for ending, data in (("png", png(i)), ("txt", b"p"), ("json", text)):
                info = tarfile.TarInfo(f"{i}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def test_images_of_shards(tmp_path: Path) -> None:
    label = b'{"total_scores": [3]}'
    write_shard(tmp_path / "0.tar", label, b"{")
    write_shard(tmp_path / "1.tar", label)
    manifest = read(tmp_path)
    rows = look_at(manifest, Store.of(tmp_path / "run"))
    assert [(row["row"], row["code"]) for row in rows] == [
        (0, None), (1, "member_invalid"), (2, None)
    ]  # fmt: skip
    assert Store.of(rows[0]["uri"]).read_bytes() == png(0)
    write_shard(tmp_path / "1.tar", label, label)
    with pytest.raises(ManifestError) as caught:
        look_at(manifest, Store.of(tmp_path / "run"))
    assert str(caught.value) == (
        f"{tmp_path}/1.tar changed while it was read: 2 rows now, 1 before; launch the same "
        f"command again"
    )


def test_images_outside_are_left_out_where_that_is_asked(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/0.png", "1.png"):
        (tmp_path / name).write_bytes(png(0))
    (tmp_path / "in" / "m.csv").write_text("prompt,path,total_scores\np,0.png,3\np,../1.png,3\n")
    manifest = read(tmp_path / "in" / "m.csv")
    rows = pa.table({"row": [0, 1], "uri": manifest.table["path"].to_pylist()})
    for confined, codes in ((False, [None, None]), (True, [None, "image_outside"])):
        inspect = image_inspector(manifest, [SPEC], confined, Store.of(tmp_path / "run"))
        assert inspect(rows)["code"].to_pylist() == codes
