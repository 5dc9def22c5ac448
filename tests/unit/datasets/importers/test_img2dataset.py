"""img2dataset's three forms give the same rows, and urls that failed stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import layouts
from tests.support.imports import imported
from tokenfocus_ray.datasets.units import Unit
from tokenfocus_ray.errors import ConfigError, ManifestError
from tokenfocus_ray.schema import sample_id
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE

NOT_FOUND = "HTTP Error 404: Not Found"


@pytest.mark.parametrize("form", ["webdataset", "parquet", "files"])
def test_every_url_is_a_row(form: str, tmp_path: Path) -> None:
    lines: list[str] = []
    src = layouts.img2dataset(tmp_path / "src", form)
    rows = imported("img2dataset", src, tmp_path, lines=lines).to_pylist()
    by_key = {row["key"]: row for row in rows}
    assert len(rows) == len(by_key) == 8
    assert lines == []
    for shard in range(2):
        for i, status in enumerate(layouts.STATUS):
            key = f"{shard:05d}{i:04d}"
            row = by_key[key]
            assert row["prompt"] == f"caption {i}"
            assert row["sample_id"] == sample_id(key, f"caption {i}")
            assert row["url"] == f"http://example.org/{key}.jpg"
            assert (row["status"], row["width"]) == (status, 24 if status == "success" else None)
            picture = layouts.png(i + 10 * shard) if status == "success" else None
            if form == "files":
                path = row["image_uri"]
                assert path == (picture and str(src / f"{shard:05d}" / f"{key}.jpg"))
                assert picture is None or Path(path).read_bytes() == picture
            else:
                assert (row["image"], row["image_uri"]) == (picture, None)
            told: tuple[str | None, str | None] = (None, None)
            if status != "success":
                told = ("image_missing", f"img2dataset says {status}: {NOT_FOUND}")
            assert (row[ERROR_CODE], row[ERROR_MESSAGE]) == told


def test_rows_stand_in_the_order_of_the_shard_and_then_of_its_table(tmp_path: Path) -> None:
    src = layouts.img2dataset(tmp_path / "src", "webdataset", shards=1)
    rows: list[Any] = imported("img2dataset", src, tmp_path)["key"].to_pylist()
    assert [key[-1] for key in rows] == ["2", "0", "1", "3"]


@pytest.mark.parametrize("form", ["webdataset", "files"])
def test_success_that_is_not_there(form: str, tmp_path: Path) -> None:
    src = layouts.img2dataset(tmp_path / "src", form, shards=1)
    if form == "files":
        (src / "00000" / "000000002.jpg").unlink()
    else:
        layouts.put_tar(src / "00000.tar", {"000000000.jpg": layouts.png(0)})
    rows = imported("img2dataset", src, tmp_path).to_pylist()
    (lost,) = (row for row in rows if row["key"] == "000000002")
    shard = "00000" if form == "files" else "00000.tar"
    assert lost[ERROR_MESSAGE] == f"img2dataset says success, but {shard} has no image of it"
    assert len(rows) == 4


def test_shards_and_tables_without_each_other(tmp_path: Path) -> None:
    src = layouts.img2dataset(tmp_path / "src", "webdataset", shards=3)
    (src / "00000.tar").unlink()
    (src / "00001.parquet").unlink()
    lines: list[str] = []
    rows = imported("img2dataset", src, tmp_path, lines=lines).to_pylist()
    assert lines == [
        f"{src}: 1 shards have no table, such as 00001.tar: what could not be fetched for them is "
        f"not known"
    ]
    assert [row["shard"] for row in rows] == ["00000.tar"] * 4 + ["00001.tar"] * 2 + [
        "00002.tar"
    ] * 4
    assert sum(row[ERROR_CODE] is not None for row in rows) == 4 + 0 + 2
    assert [row["status"] for row in rows[4:6]] == [None, None]


def test_a_key_that_stands_twice_in_a_table_is_two_rows(tmp_path: Path) -> None:
    src = layouts.img2dataset(tmp_path / "src", "webdataset", shards=1)
    table = pq.read_table(src / "00000.parquet")
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), src / "00000.parquet")
    rows: list[Any] = imported("img2dataset", src, tmp_path)["key"].to_pylist()
    assert sorted(key[-1] for key in rows) == ["0", "0", "1", "2", "3"]


def test_a_prompt_of_another_name_is_that_of_the_tables(tmp_path: Path) -> None:
    src = layouts.img2dataset(tmp_path / "src", "webdataset", shards=1)
    table = pq.read_table(src / "00000.parquet")
    names = ["alt" if name == "caption" else name for name in table.column_names]
    pq.write_table(table.rename_columns(names), src / "00000.parquet")
    rows = imported("img2dataset", src, tmp_path, prompt="alt", generator="url").to_pylist()
    assert [row["prompt"] for row in rows] == [f"caption {i}" for i in (2, 0, 1, 3)]
    assert rows[0]["generator"] == "http://example.org/000000002.jpg"


def test_refusals(tmp_path: Path) -> None:
    empty = tmp_path / "none"
    empty.mkdir()
    with pytest.raises(ManifestError) as caught:
        imported("img2dataset", empty, tmp_path)
    assert str(caught.value) == (
        f"{empty}: there is no table of what was fetched, such as 00000.parquet; import tar shards "
        f"without one as webdataset"
    )
    with pytest.raises(ManifestError) as caught:
        imported("img2dataset", tmp_path / "nothing", tmp_path)
    assert str(caught.value) == f"{tmp_path}/nothing: wanted the folder of the shards; name it"
    other = layouts.hf_parquet(tmp_path / "h")
    with pytest.raises(ManifestError) as caught:
        imported("img2dataset", other, tmp_path)
    assert str(caught.value) == (
        f"{other}: its tables have no column 'key'; found image, text, model, seed: img2dataset "
        f"writes key and status, import other Parquet as hf-parquet"
    )
    with pytest.raises(ConfigError) as refused:
        imported("img2dataset", other, tmp_path, images="x")
    assert str(refused.value) == (
        "--images x: img2dataset takes none, since they lie beside its tables"
    )


def test_units_are_numbered(tmp_path: Path) -> None:
    from tests.support.imports import planned

    plan = planned("img2dataset", layouts.img2dataset(tmp_path / "s", "webdataset"), tmp_path)
    assert [unit.number for unit in plan.units] == [0, 1]
    assert all(isinstance(unit, Unit) and unit.n_rows is None for unit in plan.units)
