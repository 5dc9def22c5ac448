from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.units import Source
from tokenfocus_ray.plan import sample as sampling
from tokenfocus_ray.plan.sample import draw
from tokenfocus_ray.storage import Store


def picture(width: int = 20, height: int = 10, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, form)
    return buffer.getvalue()


def source_of(*manifests: Path) -> Source:
    return plan_source([str(m) for m in manifests], None, {}, Store.of("planned"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of 40, 20 and 4 rows, over two images."""
    (tmp_path / "wide.png").write_bytes(picture())
    (tmp_path / "tall.png").write_bytes(picture(10, 30))
    for n, count in enumerate((40, 20, 4)):
        rows = [
            {"image_uri": "wide.png" if i % 2 else "tall.png", "prompt": f"{n}-{i}", "other": i}
            for i in range(count)
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{n}.parquet")
    return tmp_path


def test_rows_stand_for_all_of_them(folder: Path) -> None:
    """In proportion to the files' rows; all weights together are the rows of the manifest."""
    found = draw(source_of(folder), 16)
    assert (found.n_rows, found.is_estimate, found.n_units, found.n_read) == (64, False, 3, 3)
    assert sum(row.weight for row in found.rows) == pytest.approx(64)
    drawn = [row.values["prompt"] for row in found.rows]
    assert len(drawn) == len(set(drawn)) == 16
    assert [sum(p.startswith(n) for p in drawn) for n in "012"] == [10, 5, 1]
    assert {row.size for row in found.rows} == {(20, 10), (10, 30)}
    assert all(row.data and "other" not in row.values for row in found.rows)


def test_equal_seeds_draw_equal_rows(folder: Path) -> None:
    first, again, other = (
        [row.values["prompt"] for row in draw(source_of(folder), 16, seed).rows]
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_all_rows_where_there_are_few(folder: Path) -> None:
    found = draw(source_of(folder), 1000)
    assert len(found.rows) == 64
    assert {row.weight for row in found.rows} == {1.0}


def test_few_units_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST_UNITS", 1)
    found = draw(source_of(folder), 8)
    assert (found.n_units, found.n_read, len(found.rows), found.n_rows) == (3, 1, 8, 64) or (
        len(found.rows) == 4  # all of the smallest file
    )
    assert sum(row.weight for row in found.rows) == pytest.approx(64)


def test_rows_whose_image_cannot_be_read_say_why(folder: Path) -> None:
    (folder / "cut.png").write_bytes(b"no image")
    rows = [{"image_uri": uri, "prompt": "p"} for uri in ("none.png", "cut.png", "wide.png", None)]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = draw(source_of(folder / "m.jsonl"), 9)
    codes = {row.values["image_uri"]: row.error and row.error.code for row in found.rows}
    assert codes == {
        "none.png": "image_missing",
        "cut.png": "image_corrupt",
        "wide.png": None,
        None: "image_missing",
    }


def test_image_bytes_are_kept_up_to_a_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "KEPT_BYTES", 3 * len(picture(10, 30)))
    found = draw(source_of(folder), 64)
    held = [len(row.data) for row in found.rows if row.data is not None]
    assert 0 < sum(held) <= sampling.KEPT_BYTES
    assert all(row.size for row in found.rows)


def test_rows_with_image_bytes(tmp_path: Path) -> None:
    """Of each row group the first ones; bytes leave the values once they were looked at."""
    rows = [{"image": picture(10 + i, 10), "prompt": str(i)} for i in range(30)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet", row_group_size=10)
    found = draw(source_of(tmp_path / "m.parquet"), 6)
    assert {row.values["prompt"] for row in found.rows} == {"0", "1", "10", "11", "20", "21"}
    assert {row.weight for row in found.rows} == {5.0}
    assert all("image" not in row.values and row.data for row in found.rows)


def with_sizes(folder: Path, count: int, right: bool) -> Source:
    size = (20, 10) if right else (64, 64)
    rows = [
        {"image_uri": "wide.png", "prompt": str(i), "width": size[0], "height": size[1]}
        for i in range(count)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "sized.parquet")
    return source_of(folder / "sized.parquet")


def test_columns_of_sizes_save_opening_images(folder: Path) -> None:
    found = draw(with_sizes(folder, 100, right=True), 100)
    assert (found.n_opened, found.notes) == (sampling.COMPARED, [])
    assert {row.size for row in found.rows} == {(20, 10)}
    assert sum(row.data is not None for row in found.rows) == sampling.COMPARED


def test_columns_of_other_sizes_are_not_believed(folder: Path) -> None:
    found = draw(with_sizes(folder, 100, right=False), 100)
    assert found.notes == [
        "columns width and height differ from the images in 64 of 64 rows that were compared, so "
        "sizes are read from the images"
    ]
    assert found.n_opened == 100
    assert {row.size for row in found.rows} == {(20, 10)}


def shard(path: Path, count: int) -> None:
    with tarfile.open(path, "w") as tar:
        for i in range(count):
            for name, data in ((f"{i:05}.png", picture()), (f"{i:05}.txt", f"{i} cats".encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def test_rows_of_tar_shards_are_estimated_from_their_sizes(tmp_path: Path) -> None:
    for n in range(3):
        shard(tmp_path / f"{n}.tar", 200)
    found = draw(source_of(tmp_path), 12)
    assert (found.is_estimate, len(found.rows), found.n_units) == (True, 12, 3)
    assert found.n_rows == pytest.approx(600, rel=0.1)
    assert {row.size for row in found.rows} == {(20, 10)}


def test_rows_of_short_tar_shards_are_counted(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", 3)
    shard(tmp_path / "1.tar", 5)
    found = draw(source_of(tmp_path), 100)
    assert (found.is_estimate, found.n_rows, len(found.rows)) == (False, 8, 8)
