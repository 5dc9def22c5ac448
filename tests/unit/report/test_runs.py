from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tests.support.reports import SCHEMA, rows
from tokenfocus_ray.datasets.scored import ScoredColumns
from tokenfocus_ray.report.batch import Batch
from tokenfocus_ray.report.runs import Narrow, Shared

COLUMNS = ScoredColumns("prompt", None, None, None, None, "generator", None)


def narrow(n: int, most: int, seed: int = 0, start: int = 0) -> Narrow:
    table = pa.Table.from_pylist(rows(n, seed=seed)[start:], schema=SCHEMA)
    return Narrow.of(Batch.of(table, COLUMNS, 0), most)


def test_a_sample_is_of_what_both_have() -> None:
    """Of 2,000 rows here and 1,000 of them there, as many as the lower cut lets through."""
    first, second = narrow(2_000, 400), narrow(2_000, 400, seed=1, start=1_000)
    found = Shared.of(first, second)
    assert found.is_sample
    n = int(found.runs.counts.sum())
    assert n + found.only_first == 400  # all that the first has below its cut, which is lower
    assert found.only_second == 0
    assert n == pytest.approx(200, abs=40)
    whole = Shared.of(narrow(2_000, 9_999), narrow(2_000, 9_999, seed=1, start=1_000))
    assert (whole.is_sample, int(whole.runs.counts.sum()), whole.only_first) == (
        False, 1_000, 1_000,
    )  # fmt: skip
    mean = [runs.difference / runs.n for runs in (found.runs, whole.runs)]
    assert mean[0] == pytest.approx(mean[1], abs=0.2)


def test_the_first_row_of_an_id_counts() -> None:
    own = rows(3)
    own[2]["sample_id"] = own[0]["sample_id"]
    table = pa.Table.from_pylist(own, schema=SCHEMA)
    found = Narrow.of(Batch.of(table, COLUMNS, 7), 9)
    assert sorted(found.rows_N.tolist()) == [7, 8]


def test_movers_are_rows_of_the_first_table() -> None:
    first = narrow(60, 999)
    second = Narrow(
        999, first.hashes_N, first.rows_N + 500, first.scores_N - first.rows_N * 1.0,
        first.groups_N, first.makers_N,
    )  # fmt: skip
    found = Shared.of(first, second).runs
    scored = [row for row in range(60) if row % 11 != 5]
    assert found.rose.rows_N.tolist() == scored[:-13:-1]
    assert found.fell.rows_N.tolist() == []
    assert np.isclose(found.difference, sum(scored))
