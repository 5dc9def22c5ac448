"""Files of bounded size hold the rows in their order."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokenfocus_ray.tables.parts import PartSize, cut_parts


def cut(tables: list[pa.Table], size: PartSize) -> list[pq.ParquetFile]:
    return [pq.ParquetFile(pa.BufferReader(data)) for data in cut_parts(tables, size)]


def sizes(files: list[pq.ParquetFile]) -> list[list[int]]:
    """Rows of the row groups of each file."""
    return [
        [f.metadata.row_group(g).num_rows for g in range(f.metadata.num_row_groups)] for f in files
    ]


def numbered(*counts: int) -> list[pa.Table]:
    tables, start = [], 0
    for count in counts:
        tables.append(pa.table({"n": range(start, start + count)}))
        start += count
    return tables


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ((), []),
        ((0, 0), []),
        ((3,), [[3]]),
        ((4, 4, 4), [[4, 4], [4]]),
        ((11,), [[4, 4], [3]]),
        ((1,) * 9, [[4, 4], [1]]),
        ((3, 0, 6), [[4, 4], [1]]),
    ],
)
def test_by_rows(counts: tuple[int, ...], wanted: list[list[int]]) -> None:
    files = cut(numbered(*counts), PartSize(4, 10**6, 8, 10**6))
    assert sizes(files) == wanted
    rows = [n for file in files for n in file.read()["n"].to_pylist()]
    assert rows == list(range(sum(counts)))


def test_by_bytes() -> None:
    """Two of these fit into a row group; the large one is alone."""
    rows = [b"x" * 400] * 3 + [b"y" * 5000] + [b"x" * 400]
    files = cut([pa.table({"b": rows})], PartSize(100, 1000, 100, 1000))
    assert sizes(files) == [[2, 1], [1], [1]]
    assert [b for file in files for b in file.read()["b"].to_pylist()] == rows
