"""Rows by number, however the files are cut."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.scores import metadata
from tokenfocus_ray.datasets.row_table import RowTable, check_equal_rows
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.members import ScoreTableInfo


def write(folder: Path, sizes: list[int], group: int, members: str = "m0") -> RowTable:
    """Files of so many rows, numbered through."""
    folder.mkdir()
    start = itertools.accumulate(sizes, initial=0)
    for i, (first, size) in enumerate(zip(start, sizes, strict=False)):
        table = pa.table({"row": pa.array(range(first, first + size), pa.int64())})
        table = table.replace_schema_metadata(dict(metadata({"q": [members]})))
        pq.write_table(table, folder / f"part-{i:05d}.parquet", row_group_size=group)
    return RowTable.of(str(folder), Store.of(folder / "none"))


@pytest.mark.parametrize(("sizes", "group"), [([10, 7, 13], 4), ([30], 30), ([1] * 30, 1)])
def test_every_range_has_its_rows(tmp_path: Path, sizes: list[int], group: int) -> None:
    table = write(tmp_path / "t", sizes, group)
    assert table.n_rows == 30
    for start, stop, rows in itertools.product(range(0, 30, 7), (8, 17, 30), (3, 16)):
        if start >= stop:
            continue
        found = list(table.read(start, stop, rows))
        assert [v for t in found for v in t["row"].to_pylist()] == list(range(start, stop))
        assert all(t.num_rows == rows for t in found[:-1])
        assert ScoreTableInfo.of(found[0].schema, "t").members == ("m0",)


def test_text_becomes_parquet(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("m_a,m_b\n1,2\n3,\n")
    keep = Store.of(tmp_path / "keep" / "0.parquet")
    table = RowTable.of(str(tmp_path / "t.csv"), keep)
    assert (table.n_rows, list(table.inputs)) == (2, ["0.parquet"])
    Store.of(tmp_path / "keep").write_bytes("0.parquet", table.inputs["0.parquet"])
    assert next(table.read(1, 2, 10)).to_pylist() == [{"m_a": "3", "m_b": None}]


def test_what_cannot_be_merged(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", [4], 4), write(tmp_path / "b", [5], 4)
    with pytest.raises(ManifestError) as caught:
        check_equal_rows([first, second])
    assert str(caught.value) == (
        f"{tmp_path}/a has 4, {tmp_path}/b has 5 rows; score the same manifest with both "
        "backbones, or both in one job"
    )
    table = pa.table({"row": [1]}).replace_schema_metadata(dict(metadata({"q": ["other"]})))
    pq.write_table(table, tmp_path / "a" / "part-00001.parquet")
    with pytest.raises(ManifestError) as caught:
        RowTable.of(str(tmp_path / "a"), Store.of(tmp_path / "none"))
    assert str(caught.value) == (
        f"{tmp_path}/a/part-00001.parquet has the scores of other members than "
        f"{tmp_path}/a/part-00000.parquet; merge one scoring job's output at a time"
    )
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(ManifestError) as caught:
        RowTable.of(str(tmp_path / "x.tar"), Store.of(tmp_path / "none"))
    assert str(caught.value) == (f"{tmp_path}/x.tar: tar shards are no table of scores; score them")
    empty = write(tmp_path / "c", [0], 4)
    with pytest.raises(ManifestError) as caught:
        check_equal_rows([empty])
    assert str(caught.value) == f"{tmp_path}/c: the table has no rows"


def test_a_table_that_shrinks_while_it_is_read_is_told(tmp_path: Path) -> None:
    table = write(tmp_path / "t", [10], 10)
    pq.write_table(pa.table({"row": range(7)}), tmp_path / "t" / "part-00000.parquet")
    with pytest.raises(ManifestError) as caught:
        list(table.read(2, 10, 3))
    assert str(caught.value) == (
        f"{tmp_path}/t: 5 rows from row 2 on, where 8 were when reading began; leave the table "
        f"as it is while it is read, and choose another --out for what it holds now"
    )
