from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tokenfocus_ray.exports.spill import Buckets


def test_rows_come_back_by_bucket(tmp_path: Path) -> None:
    fields: list[tuple[str, Any]] = [("n", pa.int64()), ("text", pa.string())]
    schema = pa.schema(fields)
    with Buckets(str(tmp_path / "b"), 3, schema) as buckets:
        for start in (0, 10):
            n = np.arange(start, start + 10)
            table = pa.table({"n": pa.array(n), "text": [f"t{i}" for i in n]})
            buckets.add(table, np.where(n % 3 == 2, 0, n % 3))
    assert buckets.read(0)["n"].to_pylist() == [n for n in range(20) if n % 3 != 1]
    assert buckets.read(1, ["text"]).to_pydict() == {"text": [f"t{n}" for n in range(1, 20, 3)]}
    assert buckets.read(2).num_rows == 0
    assert buckets.read(2, ["text"]).column_names == ["text"]
    buckets.drop(0)
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["1.arrow"]
