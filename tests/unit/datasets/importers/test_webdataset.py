"""Tar shards as rows with their images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import layouts
from tests.support.imports import imported, planned
from tokenfocus_ray.distributed.import_groups import Counts
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.schema import sample_id
from tokenfocus_ray.tables.text import ERROR_CODE


def test_rows(tmp_path: Path) -> None:
    src = layouts.webdataset(tmp_path / "src")
    rows = imported("webdataset", src, tmp_path, generator="model").to_pylist()
    assert [row["prompt"] for row in rows] == [f"prompt {i}" for i in range(6)]
    assert [row["image"] for row in rows] == [layouts.png(i) for i in range(6)]
    assert [row["generator"] for row in rows] == ["m0", "m1"] * 3
    assert [row["shard"] for row in rows] == ["00000.tar"] * 3 + ["00001.tar"] * 3
    # as a scoring job gives it that reads the shards themselves
    assert rows[0]["sample_id"] == sample_id(layouts.png(0), "prompt 0")


def test_what_spoils_a_row_stays_with_it(tmp_path: Path) -> None:
    members = {
        "a.png": layouts.png(1), "a.txt": b"\xff", "b.jpg": b"x", "b.png": b"y", "c.txt": b"c",
        "d.txt": b"c", "d.json": b"{", "_cut.png": layouts.png(2),
    }  # fmt: skip
    layouts.put_tar(tmp_path / "s.tar", members)
    data = (tmp_path / "s.tar").read_bytes()
    (tmp_path / "s.tar").write_bytes(data[: data.index(b"_cut") + 520])
    rows = imported("webdataset", tmp_path / "s.tar", tmp_path, generator="model").to_pylist()
    assert [(row["key"], row[ERROR_CODE]) for row in rows] == [
        ("a", "text_invalid"),
        ("b", "member_ambiguous"),
        ("c", None),
        ("d", "member_invalid"),
        ("_cut", "source_corrupt"),
    ]
    assert len({row["sample_id"] for row in rows}) == 5
    assert {row["generator"] for row in rows} == {None}


def test_what_is_passed_over_is_told(tmp_path: Path) -> None:
    layouts.put_tar(tmp_path / "a.tar", {"._a.png": b"", "a.png": layouts.png(1), "README": b""})
    layouts.put_tar(tmp_path / "b.tar", {"__MACOSX/a.png": b""})
    plan = planned("webdataset", tmp_path, tmp_path / "k", generator="model")
    assert plan.convert is not None
    counts = Counts()
    for unit in plan.units:
        for table in plan.convert(unit):
            counts.count(table)
    assert (counts.rows, dict(counts.passed)) == (1, {"hidden": 2, "without an ending": 1})


def test_elements_are_read_once_and_for_all(tmp_path: Path) -> None:
    members = {"a.png": layouts.png(1), "a.json": b'{"prompt": "p", "elements": ["pig (animal)"]}'}
    layouts.put_tar(tmp_path / "s.tar", members)
    (row,) = imported("webdataset", tmp_path / "s.tar", tmp_path).to_pylist()
    assert row["elements"] == [{"text": "pig", "type": "animal"}]


def test_no_shards(tmp_path: Path) -> None:
    src = layouts.hf_parquet(tmp_path / "h")
    with pytest.raises(ManifestError) as caught:
        imported("webdataset", src, tmp_path)
    assert str(caught.value) == (
        f"{src}: there are no tar shards; import it as hf-parquet, img2dataset or diffusiondb"
    )
