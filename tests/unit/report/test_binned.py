from __future__ import annotations

import numpy as np
import pytest

from tokenfocus_ray.report.binned import MOST, Binned, fine_bins, level_for, widening


def test_edges_are_the_numbers_that_people_write() -> None:
    """At every thousandth, values of it and above are in its bin, and those below are not."""
    edges = np.array([k / 1000 for k in range(-2000, 6000)])
    assert (fine_bins(edges) == np.arange(-2000, 6000)).all()
    assert (fine_bins(np.nextafter(edges, -np.inf)) == np.arange(-2001, 5999)).all()


def test_numbers_of_32_bits_are_compared_as_such() -> None:
    """As `tokenfocus select` does: 3.1 stays with a lowest score of 3.1."""
    edges = np.array([k / 1000 for k in range(1000, 5000)])
    kept = edges.astype(np.float32).astype(np.float64)
    assert (fine_bins(kept, np.float32) == np.arange(1000, 5000)).all()
    assert (fine_bins(kept) != np.arange(1000, 5000)).any()


def test_values_of_any_size() -> None:
    bins = fine_bins(np.array([1e300, -1e300]))
    assert bins.tolist() == [int(MOST) * 1000, -int(MOST) * 1000]
    found = Binned.of(np.array([1e300, -5.0, 0.001]), 64)
    assert (found.n, len(found.counts_B) <= 64) == (3, True)


def test_counts_at_edges_are_exact() -> None:
    scores = np.random.default_rng(0).normal(3, 0.8, 5_000).astype(np.float32).astype(np.float64)
    found = Binned.of(scores)
    assert found.width == 0.001 or found.width == 0.002
    for b in range(0, len(found.counts_B), 97):
        assert found.counts_B[b:].sum() == (scores >= found.edge(b)).sum()


def test_levels_nest() -> None:
    assert [widening(level) for level in range(6)] == [1, 2, 10, 20, 100, 200]
    assert level_for(1_000, 5_000, 0, 4_096) == 0
    assert level_for(1_000, 5_000, 0, 64) == 4


def test_merging_is_counting_at_once() -> None:
    scores = np.random.default_rng(1).normal(0, 40, 900)
    whole = Binned.of(scores, 100)
    parts = [Binned.of(part, 100) for part in np.split(scores, 9)]
    for order in (parts, parts[::-1]):
        found = order[0]
        for part in order[1:]:
            found = found.merged(part)
        assert (found.level, found.low) == (whole.level, whole.low)
        assert found.counts_B.tolist() == whole.counts_B.tolist()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_quantiles(share: float) -> None:
    scores = np.random.default_rng(2).uniform(1, 5, 20_001)
    assert Binned.of(scores).quantile(share) == pytest.approx(np.quantile(scores, share), abs=2e-3)


def test_nothing() -> None:
    none = Binned.of(np.zeros(0))
    assert (none.n, none.merged(none).n) == (0, 0)
    assert none.merged(Binned.of(np.array([2.0]))).counts_B.tolist() == [1]
