"""A merge without Ray: what it refuses, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.scores import random_scores
from tests.unit.ensemble.test_apply import TWO, fitted
from tokenfocus_ray.datasets.row_table import RowTable
from tokenfocus_ray.distributed import merge
from tokenfocus_ray.distributed.lease import hold
from tokenfocus_ray.distributed.merge import MergeParts, merge_scores
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store


def row_table(path: Path, table: pa.Table) -> RowTable:
    pq.write_table(table, path)
    return RowTable.of(str(path), Store.of(path.parent / "none"))


def with_ids(table: pa.Table, ids: pa.Array[Any]) -> pa.Table:
    return table.set_column(table.column_names.index("sample_id"), "sample_id", ids)


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()], ids=str)
@pytest.mark.parametrize("n_tables", [1, 2])
def test_ids_that_are_not_utf8_are_told_by_column(
    kind: pa.DataType, n_tables: int, tmp_path: Path
) -> None:
    """Of a table of bytes, or one that calls them text; nothing of the part is written."""
    table, _ = random_scores(TWO, 3)
    ids: Any = pa.array([b"caf\xe9 %d" % i for i in range(3)])
    bad = pa.Array.from_buffers(kind, 3, ids.buffers())
    tables = [row_table(tmp_path / "good.parquet", table)] * (n_tables - 1)
    tables.append(row_table(tmp_path / "bad.parquet", with_ids(table, bad)))
    out = Store.of(tmp_path / "out")
    with hold(out, "merge", str) as lease, pytest.raises(ManifestError) as caught:
        MergeParts(fitted(), tuple(tables), lease, 10)(pa.table({"part": [0]}))
    assert str(caught.value) == (
        f"{tmp_path}/bad.parquet: column 'sample_id' holds text that is not UTF-8; write it again "
        f"as UTF-8, or leave the column out"
    )
    assert out.names() == ["__job"]


def test_ids_that_are_stored_as_bytes_are_merged(tmp_path: Path) -> None:
    table, _ = random_scores(TWO, 3)
    ids: Any = table["sample_id"]
    one = row_table(tmp_path / "s.parquet", with_ids(table, ids.cast(pa.binary())))
    out = Store.of(tmp_path / "out")
    with hold(out, "merge", str) as lease:
        done = MergeParts(fitted(), (one,), lease, 2)(pa.table({"part": [0, 1]}))
    assert done.to_pydict() == {"rows": [2, 1]}
    assert out.names() == ["__job", "part-00000.parquet", "part-00001.parquet"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of two rows, made in this process."""

    @contextmanager
    def no_session() -> Iterator[None]:
        yield

    def run(make: MergeParts, todo: list[int], *arguments: object) -> None:
        make(pa.table({"part": todo}))

    monkeypatch.setattr(merge, "ray_session", no_session)
    monkeypatch.setattr(merge, "_run", run)
    monkeypatch.setattr(merge, "PART_ROWS", 2)


@pytest.mark.usefixtures("here")
def test_a_finished_merge_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder may be read-only by now; where a part is missing, that one is made."""
    table, _ = random_scores(TWO, 5)
    pq.write_table(table, tmp_path / "s.parquet")
    out, lines = tmp_path / "out", []  # type: ignore[var-annotated]
    arguments: Any = ([str(tmp_path / "s.parquet")], str(out), fitted())
    first = merge_scores(*arguments, say=lines.append)
    assert (first.rows, lines) == (5, [])
    (out / "part-00001.parquet").unlink()
    assert merge_scores(*arguments, say=lines.append).rows == 5
    assert lines == ["2 of 3 parts are there already"]

    def write(*arguments: object) -> NoReturn:
        raise AssertionError("the folder is read-only")

    for name in ("_put", "_remove"):
        monkeypatch.setattr(Store, name, write)
    again = merge_scores(*arguments, say=lines.append)
    assert (again.rows, again.scored) == (5, first.scored)
    assert lines[1:] == ["already finished: 5 rows are there, nothing is merged"]
