"""Any selection: every row once, reasons that hold, and the same rows however they lie in files."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.selecting import row, table_of, write
from tokenfocus_ray.config import Selection
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.exports.select import Counts, choose
from tokenfocus_ray.progress import unwatched

SCORES = st.sampled_from([None, 1.0, 2.0, 2.5, 3.1, 4.0])
ROWS = st.lists(
    st.tuples(
        SCORES,
        st.sampled_from(["a dog", "A  Dog", "two cats", None]),
        st.sampled_from(["sdxl", "flux", None]),
        st.sampled_from([{}, {"a dog": 0.9}, {"a dog": 0.2, "two cats": 0.8}]),
        st.sampled_from([0.0, 0.5, 2.0]),
    ),
    min_size=1,
    max_size=24,
)
SELECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "min_score": st.sampled_from([1.5, 3.1]),
        "max_spread": st.just(1.0),
        "elements_present": st.booleans(),
        "best_of": st.integers(1, 3),
        "top": st.sampled_from([0.1, 0.5, 1.0]),
        "balance": st.sampled_from(["generator", "element_type"]),
        "budget": st.integers(1, 8),
    },
)


def made(number: int, values: tuple[Any, ...]) -> dict[str, Any]:
    score, prompt, generator, elements, spread = values
    members = [] if score is None else [score, score, score + spread]
    found = row(number, score, prompt=prompt, generator=generator, elements=elements)
    # one row has them always, so that asking for them is no mistake
    return found | {"member_scores": members}


def run(rows: list[dict[str, Any]], files: int, options: Selection) -> dict[str, str]:
    """Id -> reason; empty of the kept ones. Every row stands there once."""
    with TemporaryDirectory() as folder:
        scored = ScoredTable.open(write(Path(folder), table_of(rows), files, group_rows=5))
        counts, found = Counts(), dict[str, str]()
        for chosen in choose(scored, options, counts, unwatched):
            reasons = iter(chosen.reasons)
            assert len(chosen.messages) == len(chosen.reasons) == (~chosen.kept_N).sum()
            assert all(chosen.messages)
            names: list[Any] = chosen.table["sample_id"].to_pylist()
            for name, kept in zip(names, chosen.kept_N, strict=True):
                assert name not in found
                found[name] = "" if kept else next(reasons)
    assert set(found) == {one["sample_id"] for one in rows}
    kept = sum(not reason for reason in found.values())
    assert (counts.rows, counts.kept) == (len(rows), kept)
    assert counts.dropped == Counter(filter(None, found.values()))
    return found


@given(ROWS, SELECTIONS, st.integers(1, 3), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_selection(
    values: list[tuple[Any, ...]], criteria: dict[str, Any], files: int, rng: random.Random
) -> None:
    always = (3.1, "a dog", "sdxl", {"a dog": 0.9}, 0.0)
    rows = [made(i, one) for i, one in enumerate([*values, always])]
    options = Selection(**criteria)
    found = run(rows, files, options)
    by_id = {one["sample_id"]: one for one in rows}
    kept = [by_id[name] for name, reason in found.items() if not reason]
    for name, reason in found.items():
        check_reason(by_id[name], reason, options)
    check_ranks(kept, options)
    shuffled = [*rows]
    rng.shuffle(shuffled)
    # only a row without a prompt may be told from others by its place, and it is alone in any case
    assert run(shuffled, 1, options) == found


def check_reason(one: dict[str, Any], reason: str, options: Selection) -> None:
    """What a row fails is told, and it passes what is asked before; a kept one passes all."""
    unscored = one["status"] != "ok"
    assert reason.startswith("unscored:") == unscored
    if unscored:
        return
    low = options.min_score is not None and one["score"] < options.min_score
    assert (reason == "min_score") == low
    members = one["member_scores"]
    spread = options.max_spread is not None and max(members) - min(members) > options.max_spread
    assert (reason == "max_spread") == (spread and not low)
    values = one["element_scores"]
    absent = options.elements_present and (not values or min(values) < 0.5)
    assert (reason == "elements_present") == (absent and not low and not spread)
    for name in ("best_of", "top", "balance"):
        assert reason != name or getattr(options, name) is not None
    if reason == "budget":
        assert options.budget is not None
        assert options.balance is None


def check_ranks(kept: list[dict[str, Any]], options: Selection) -> None:
    if options.budget is not None:
        assert len(kept) <= options.budget
    prompts: dict[str, int] = defaultdict(int)
    for one in kept:
        if one["prompt"] is not None:
            prompts[" ".join(one["prompt"].casefold().split())] += 1
    assert options.best_of is None or max(prompts.values(), default=0) <= options.best_of
    if options.balance == "generator":
        sizes = Counter(one["generator"] for one in kept)
        assert None not in sizes
        if options.budget is None and sizes:
            assert max(sizes.values()) == min(sizes.values())


def test_a_large_budget_keeps_all_and_one_row_is_the_best() -> None:
    rows = [row(i, 1 + i % 4) for i in range(9)]
    assert set(run(rows, 2, Selection(budget=100)).values()) == {""}
    found = run(rows, 2, Selection(budget=1))
    assert [name for name, reason in found.items() if not reason] == [f"{3:032x}"]
