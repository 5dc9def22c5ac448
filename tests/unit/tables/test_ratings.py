"""Which ratings count as impossible: never real labels, and never in silence."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.ensemble.test_stack_table import read, table
from tokenfocus_ray.evaluation.measured import from_table
from tokenfocus_ray.tables.ratings import Ratings, judge_ratings

#: In the checkout or beside it; not part of the project.
RATINGS = [p / "shared/data/human_ratings" for p in Path(__file__).parents]
FOUND = next((folder for folder in RATINGS if folder.is_dir()), None)
GENERATOR = np.random.default_rng(0)
LIKERT = GENERATOR.integers(1, 6, 500).astype(float).tolist()
PERCENT = GENERATOR.integers(0, 101, 3000).tolist()
#: Of six questions, the share that is right: 1,432 images of which most get none.
MOSTLY_ZERO = [
    value
    for sixths, count in enumerate([1000, 150, 80, 50, 40, 60, 52])
    for value in [round(sixths / 6, 3)] * count
]


def judged(values: Any, given: tuple[float, float] | None = None) -> Ratings:
    return judge_ratings(np.array(values, float)[:, None], given)


@pytest.mark.parametrize(
    "labels",
    [
        MOSTLY_ZERO,
        [0.0] * 300 + [1.0] * 5,
        [0.0] * 900 + np.linspace(0.01, 1, 100).tolist(),
        [5.0] * 400 + [1.0, 2.0, 3.0, 4.0],
        LIKERT,
        [*LIKERT, 0, 0, 0],
        [-1.0, 1.0] * 20,
        [-2.0, -1.0, 0.0, 1.0, 2.0] * 20,
        GENERATOR.normal(size=2000).tolist(),
        np.exp(GENERATOR.normal(size=2000)).tolist(),
        [3.0] * 40,
        [1.0, 5.0],
    ],
)
def test_real_labels_are_never_impossible(labels: list[float]) -> None:
    found = judged(labels)
    assert (found.low, found.high) == (min(labels), max(labels))
    assert not found.impossible.any()
    assert found.notes == ()


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        (LIKERT, [41, 33]),
        (LIKERT, [22]),
        (LIKERT, [99] * 50),
        (LIKERT, [99] * 400),
        (LIKERT, [-1] * 50),
        (LIKERT, [-9]),
        (LIKERT, [999] * 5 + [-999] * 20),
        (LIKERT, [-999] * 900),
        ([5] * 400 + [1, 2, 3, 4], [999] * 3),
        (PERCENT, [999] * 30),
        (PERCENT, [-9] * 30),
        (MOSTLY_ZERO, [-1] * 30),
        ([0, 1] * 100, [99] * 40),
    ],
)
def test_sentinels_and_typing_errors_are_impossible(labels: list[float], wrong: list[Any]) -> None:
    found = judged(labels + wrong)
    assert (found.low, found.high) == (min(labels), max(labels))
    assert found.impossible[:, 0].nonzero()[0].tolist() == [
        len(labels) + i for i in range(len(wrong))
    ]
    assert found.notes == ()


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        ([*LIKERT, 11], "rated 11 1 times, apart from 1..5; used: if that is no rating, give "
         "--label-range 1 5"),
        ([0, 1] * 50 + [-1] * 40, "rated -1 40 times, apart from 0..1; used: if that is no rating, "
         "give --label-range 0 1"),
        ([0] * 90 + [0.1] * 9 + [1] * 5, "rated 1 5 times, apart from 0..0.1; used: if that is no "
         "rating, give --label-range 0 0.1"),
    ],
)  # fmt: skip
def test_what_may_be_either_is_used_and_said(labels: list[float], note: str) -> None:
    found = judged(labels)
    assert not found.impossible.any()
    assert found.notes == (note,)


def test_a_given_range_decides() -> None:
    found = judged([*LIKERT, 99, -1], (-1, 4))
    assert (found.low, found.high, found.notes) == (-1, 4, ())
    assert found.impossible.sum() == LIKERT.count(5) + 1


def test_no_ratings_at_all() -> None:
    found = judged([np.nan] * 4)
    assert (found.low, found.high) == (0, 0)
    assert not found.impossible.any()


def test_the_best_rows_of_skewed_labels_are_stacked_and_evaluated() -> None:
    """By quartiles 0 and .167 all from .667 on would be out: the rows that matter most."""
    n = len(MOSTLY_ZERO)
    noise = GENERATOR.normal(scale=0.1, size=(2, n))
    given = table(
        human=MOSTLY_ZERO,
        prompt_id=[f"p{i // 4}" for i in range(n)],
        m_a=MOSTLY_ZERO + noise[0],
        m_b=MOSTLY_ZERO + noise[1],
        other=None,
    )
    stacked = read(given)
    assert (len(stacked.labels), stacked.low, stacked.high, stacked.notes) == (n, 0, 1, ())
    options: dict[str, Any] = {"group": "prompt_id", "label_range": None, "against": None}
    joined = from_table(given, "t.csv", target="human", column="m_a", **options).joined
    assert np.isfinite(joined.labels).all()
    assert joined.notes == ()


@pytest.mark.skipif(FOUND is None, reason="shared/data/human_ratings is not here")
@pytest.mark.parametrize(
    ("name", "columns", "wrong", "low", "high"),
    [
        ("genai_bench_527", ["human_1", "human_2", "human_3"], [33, 41], 1, 5),
        ("tifa160", [f"human_dsg_{i}" for i in range(1, 6)], [], 1, 5),
        ("viescore_mask_guided_ie", ["human_o_mean"], [], 0, 1),
        ("geneval_human_elements", ["human_mean"], [], 0, 1),
    ],
)
def test_ratings_of_people(
    name: str, columns: list[str], wrong: list[float], low: float, high: float
) -> None:
    assert FOUND is not None
    with (FOUND / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        rows = [[float(row[c] or "nan") for c in columns] for row in csv.DictReader(file)]
    ratings = np.array(rows)
    found = judge_ratings(ratings, None)
    assert sorted(ratings[found.impossible]) == wrong
    assert (found.low, found.high, found.notes) == (low, high, ())
