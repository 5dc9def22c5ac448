from __future__ import annotations

from functools import reduce

import numpy as np

from tokenfocus_ray.report.picked import Least, Spread, hashes

CHANCE = np.random.default_rng(0)
KEYS = np.round(CHANCE.normal(3, 0.5, 400), 1)
HASHES = hashes([f"s{i}" for i in range(400)])
ROWS = np.arange(400)


def test_hashes_are_the_same_everywhere() -> None:
    """Pages of before and of other machines pick the same rows."""
    assert hashes(["a", None, "\udc80"]).tolist() == [
        int.from_bytes(bytes.fromhex(text), "little")
        for text in ("40f89e395b66422f", "e4a6a0577479b2b4", "4166cfe11408b73d")
    ]


def test_least_of_ties_are_those_of_the_least_hash() -> None:
    found = Least.of(30, KEYS, HASHES, ROWS)
    wanted = sorted(zip(KEYS, HASHES, ROWS, strict=True))[:30]
    assert found.rows_N.tolist() == [row for *_, row in wanted]
    turned = Least.of(30, KEYS[::-1], HASHES[::-1], ROWS[::-1])
    assert turned.rows_N.tolist() == found.rows_N.tolist()


def test_rows_without_a_key_are_passed_over() -> None:
    keys = np.where(ROWS < 395, np.nan, KEYS)
    assert sorted(Least.of(30, keys, HASHES, ROWS).rows_N.tolist()) == [395, 396, 397, 398, 399]
    assert Least.of(3, keys[:9], HASHES[:9], ROWS[:9]).rows_N.tolist() == []


def test_spread_has_rows_of_all_scores() -> None:
    """A few of each stretch, the same whatever the parts; stretches widen with the scores."""
    for scale, width in ((1.0, 0.1), (100.0, 10.0)):
        scores = CHANCE.uniform(1, 5, 400) * scale
        whole = Spread.of(64, 2, scores, HASHES, ROWS)
        parts = [
            Spread.of(64, 2, scores[own], HASHES[own], ROWS[own])
            for own in np.array_split(CHANCE.permutation(400), 7)
        ]
        assert reduce(Spread.merged, parts).rows == whole.rows
        stretches = np.floor(scores[whole.rows] / width)
        assert len(set(stretches)) == 40
        assert np.bincount(stretches.astype(np.int64)).max() == 2
