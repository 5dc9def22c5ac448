"""What a page tells does not depend on how its rows are dealt to tasks, nor on their order."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reports import SCHEMA, rows
from tokenfocus_ray.datasets.scored import ScoredColumns
from tokenfocus_ray.report import summary as summary_file
from tokenfocus_ray.report.batch import Batch
from tokenfocus_ray.report.figures import figures
from tokenfocus_ray.report.runs import Narrow, Runs, Shared
from tokenfocus_ray.report.summary import Summary

N = 120
COLUMNS = ScoredColumns("prompt", "image_uri", "elements", None, None, "generator", None)


def table(scale: float, names: int) -> pa.Table:
    """Rows with ties, many generators, and scores of any scale."""
    found = rows(N)
    for i, row in enumerate(found):
        row["generator"] = f"maker {i % names}"
        row["score"] = round(row["score"], 1) * scale
    return pa.Table.from_pylist(found, schema=SCHEMA)


def parts(whole: pa.Table, cuts: list[int]) -> list[Batch]:
    ends = [0, *sorted({*cuts}), N]
    return [Batch.of(whole.slice(a, b - a), COLUMNS, a) for a, b in pairwise(ends)]


CUTS = st.lists(st.integers(1, N - 1), max_size=6)


@settings(max_examples=40, deadline=None)
@given(CUTS, st.sampled_from([0.01, 1.0, 900.0]), st.integers(1, 30), st.randoms())
def test_summaries_merge(cuts: list[int], scale: float, names: int, chance: Any) -> None:
    whole = table(scale, names)
    each = [Summary.of(part, 0.5) for part in parts(whole, cuts)]
    chance.shuffle(each)
    found, (batch,) = reduce(Summary.merged, each), parts(whole, [])
    wanted = Summary.of(batch, 0.5)
    assert figures(found, 0.5) == figures(wanted, 0.5)
    assert found.rows == wanted.rows
    for name in ("best", "worst", "disputed"):
        assert getattr(found, name).rows_N.tolist() == getattr(wanted, name).rows_N.tolist()
    assert found.n_scored + sum(own.n for own in found.unscored.values()) == N


@settings(max_examples=15, deadline=None)
@given(CUTS, st.randoms())
def test_names_without_end_keep_a_bound(cuts: list[int], chance: Any) -> None:
    """Those that are kept are counted whole."""
    saved = summary_file.MOST_MAKERS, summary_file.MOST_KINDS
    summary_file.MOST_MAKERS, summary_file.MOST_KINDS = 7, 2
    try:
        whole = table(1.0, 40)
        each = [Summary.of(part, 0.5) for part in parts(whole, cuts)]
        chance.shuffle(each)
        found, (batch,) = reduce(Summary.merged, each), parts(whole, [])
        wanted = Summary.of(batch, 0.5)
    finally:
        summary_file.MOST_MAKERS, summary_file.MOST_KINDS = saved
    assert found.makers.keys() == wanted.makers.keys()
    assert len(found.makers) == 7
    assert {k: v.tolist() for k, v in found.elements.items()} == {
        k: v.tolist() for k, v in wanted.elements.items()
    }
    scored = [row for row in whole.to_pylist() if row["status"] == "ok"]
    for name, sums in found.makers.items():
        assert sums[:, 0].sum() == sum(row["generator"] == name for row in scored)


@settings(max_examples=25, deadline=None)
@given(CUTS, CUTS, st.integers(5, 200), st.randoms())
def test_samples_of_two_runs_join(
    cuts: list[int], others: list[int], most: int, chance: Any
) -> None:
    """In whatever order the other table is; below the cut every shared sample is found."""
    first = table(1.0, 3)
    order = [*range(0, N, 2), *range(1, N, 3)]  # some rows only, some of them twice
    chance.shuffle(order)
    order = list(dict.fromkeys(order))
    second = first.take(pa.array(order))
    sides = []
    for whole, own in ((first, cuts), (second, others)):
        n, at = whole.num_rows, sorted({min(c, whole.num_rows - 1) for c in own} | {0})
        each = [
            Narrow.of(Batch.of(whole.slice(a, b - a), COLUMNS, a), most)
            for a, b in zip(at, [*at[1:], n], strict=True)
            if b > a
        ]
        chance.shuffle(each)
        sides.append(reduce(Narrow.merged, each))
    found = Shared.of(*sides)
    assert found.is_sample == (most <= N)
    if most > N:
        assert int(found.runs.counts.sum()) == len(order)
        assert (found.only_first, found.only_second) == (N - len(order), 0)
    assert found.runs.difference == 0
    assert not len(found.runs.rose.rows_N)


@settings(max_examples=25, deadline=None)
@given(CUTS, st.randoms())
def test_comparisons_merge(cuts: list[int], chance: Any) -> None:
    whole = table(1.0, 3)
    moved = np.round(np.random.default_rng(3).normal(0, 0.3, N), 2)

    def compared(batch: Batch) -> Runs:
        own = batch.scores_N, batch.scores_N + moved[batch.rows_N]
        return Runs.of(batch.hashes_N, batch.rows_N, *own, batch.groups_N(), batch.maker_names_N())

    each = [compared(part) for part in parts(whole, cuts)]
    chance.shuffle(each)
    found, wanted = reduce(Runs.merged, each), compared(parts(whole, [])[0])
    assert found.counts.tolist() == wanted.counts.tolist()
    assert found.rose.rows_N.tolist() == wanted.rose.rows_N.tolist()
    assert found.fell.rows_N.tolist() == wanted.fell.rows_N.tolist()
    assert found.pairs.second_N.tolist() == wanted.pairs.second_N.tolist()
    for name, sums in wanted.makers.items():
        np.testing.assert_allclose(found.makers[name], sums, rtol=1e-12)
