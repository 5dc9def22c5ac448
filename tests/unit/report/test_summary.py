from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tests.support.reports import KINDS, MAKERS, SCHEMA, rows
from tokenfocus_ray.datasets.scored import ScoredColumns
from tokenfocus_ray.report.batch import Batch
from tokenfocus_ray.report.summary import Summary, few_names

COLUMNS = ScoredColumns("prompt", None, "elements", None, None, "generator", None)
N = 200


@pytest.fixture(scope="module")
def summary() -> Summary:
    table = pa.Table.from_pylist(rows(N), schema=SCHEMA)
    return Summary.of(Batch.of(table, COLUMNS, 0), 0.5)


def test_rows_that_are_picked(summary: Summary) -> None:
    scored = {i: row for i, row in enumerate(rows(N)) if row["status"] == "ok"}
    by_score = sorted(scored, key=lambda i: float(scored[i]["score"]))
    assert summary.worst.rows_N.tolist() == by_score[:24]
    assert summary.best.rows_N.tolist() == by_score[:-25:-1]
    by_spread = sorted(scored, key=lambda i: -float(np.std(scored[i]["member_scores"])))
    assert summary.disputed.rows_N.tolist() == by_spread[:24]
    assert summary.rows >= {*by_score[:24], *by_score[-24:], *by_spread[:24]}


def test_every_row_counts_once(summary: Summary) -> None:
    scored = [row for row in rows(N) if row["status"] == "ok"]
    assert summary.n_rows == N
    assert summary.n_scored == len(scored)
    assert {code: own.n for code, own in summary.unscored.items()} == {
        "image_corrupt": N - len(scored)
    }
    assert summary.total == pytest.approx(sum(row["score"] for row in scored))
    for maker in MAKERS:
        own = [row for row in scored if row["generator"] == maker]
        n, total = summary.makers[maker].sum(axis=0)
        assert (n, total) == (len(own), pytest.approx(sum(row["score"] for row in own)))
        for e, kind in enumerate(KINDS):
            failed = sum(row["element_scores"][e] < 0.5 for row in own)
            assert summary.elements[maker, kind].tolist() == [failed, len(own) - failed, 0]


def test_members_that_agree_are_not_disputed() -> None:
    found = rows(9)
    for row in found:
        row["member_scores"] = [2.0, 2.0] if row["status"] == "ok" else []
    table = pa.Table.from_pylist(found, schema=SCHEMA)
    summary = Summary.of(Batch.of(table, COLUMNS, 0), 0.5)
    assert summary.disputed.rows_N.tolist() == []
    assert summary.disagreement.tolist() == [8, 0]


def test_names_are_kept_by_their_hash() -> None:
    """What is kept of all is kept of every part that has it."""
    names = [f"name {i}" for i in range(50)]
    kept = few_names(names, 7)
    assert len(kept) == 7
    for part in (names[:20], names[20:]):
        assert kept & {*part} <= few_names(part, 7)
