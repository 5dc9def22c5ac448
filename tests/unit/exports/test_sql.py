"""DuckDB within bounds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.exports.sql import batches, engine, one_row


def test_more_rows_than_its_memory_are_sorted_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = np.random.default_rng(0).permutation(1_200_000)
    spilled = 0
    with engine("64MB") as database:
        database.execute("CREATE TABLE t(a BIGINT, b VARCHAR)")
        for some in np.split(rows, 10):
            database.register("s", pa.table({"a": pa.array(some)}))
            database.execute("INSERT INTO t SELECT a, repeat('x', 40) || a FROM s")
        last = -1
        for batch in batches(database, "SELECT a, b FROM t ORDER BY a", 10_000):
            values = batch.column(0).to_numpy()
            assert values[0] == last + 1
            assert (np.diff(values) == 1).all()
            last = int(values[-1])
            spilled = max(spilled, *(p.stat().st_size for p in tmp_path.rglob("*")), 0)
        assert last == len(rows) - 1
        assert one_row(database, "SELECT count(*), max(a) FROM t") == (1_200_000, 1_199_999)
    assert spilled > 0
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_is_told_in_words() -> None:
    message = "failed to pin block\nPossible solutions: ..."
    with pytest.raises(OutputError) as caught, engine():
        raise duckdb.OutOfMemoryException(message)
    assert str(caught.value) == (
        "rows cannot be sorted: failed to pin block; free memory, or space where temporary files "
        f"go ({tempfile.gettempdir()}; TMPDIR names another place), and run again"
    )


def test_nothing_is_fetched_from_the_network() -> None:
    with engine() as database, pytest.raises(duckdb.Error):
        database.execute("SELECT * FROM 'https://example.com/t.parquet'").fetchall()
