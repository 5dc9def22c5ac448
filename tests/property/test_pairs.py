"""Pairs of score tables: each at most once, of one prompt, none equal, all accounted for."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pairs import found_in, table_of, with_intervals
from tokenfocus_ray.exports.pairing import REASONS, Rules

#: Few values, so that scores are often equal; a third is unscored at times.
SCORES = st.none() | st.tuples(*[st.sampled_from([1.0, 1.5, 2.0, 3.0, 4.5])] * 3)
TABLES = st.dictionaries(
    st.sampled_from(["a dog", "A  dog", "a cat", "two cats", "a hat", "<image>"]),
    st.lists(SCORES, max_size=6),
    min_size=1,
)
RULES = st.builds(
    Rules,
    min_margin=st.sampled_from([0.0, 0.4, 1.0]),
    min_confidence=st.none() | st.sampled_from([0.5, 0.8, 0.95]),
    majority=st.booleans(),
    per_prompt=st.none() | st.integers(2, 4),
    tag=st.sampled_from(["", "<image>"]),
)


def key(prompt: str) -> str:
    return " ".join(prompt.casefold().split())


def described(pairs: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What says all of a pair, without the numbers of its rows."""
    return sorted(
        (p["chosen_id"], p["rejected_id"], p["margin"], p["confidence"], p["votes_for"],
         p["chosen_seed"], p["rejected_generator"]) for p in pairs
    )  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(TABLES, RULES, st.booleans(), st.randoms())
def test_pairs(prompts: Any, rules: Rules, has_intervals: bool, random: Any) -> None:
    table = table_of(prompts)
    if not table.num_rows:
        return
    if has_intervals:  # of rows that do not all span the scale
        table = with_intervals(table, 0.4)
    pairs, counts = found_in(table, rules)
    rows = {row["sample_id"]: row for row in table.to_pylist()}
    scored: dict[str, list[str]] = {}
    for name, row in rows.items():
        if row["status"] == "ok":
            scored.setdefault(key(row["prompt"]), []).append(name)
    # every pair once at most, of one prompt, of two scored images, never of equal scores
    assert len({frozenset((p["chosen_id"], p["rejected_id"])) for p in pairs}) == len(pairs)
    for pair in pairs:
        chosen, rejected = rows[pair["chosen_id"]], rows[pair["rejected_id"]]
        assert key(chosen["prompt"]) == key(rejected["prompt"])
        assert chosen["status"] == rejected["status"] == "ok"
        assert chosen["score"] > rejected["score"]
        assert pair["margin"] == np.float64(chosen["score"]) - np.float64(rejected["score"])
        assert pair["margin"] >= rules.min_margin
        assert pair["confidence"] >= (rules.min_confidence or 0.5)
        assert pair["prompt"] == chosen["prompt"]
        assert (pair["chosen_seed"], pair["rejected_seed"]) == (chosen["seed"], rejected["seed"])
        assert pair["n_images"] == len(scored[key(chosen["prompt"])])
        if rules.majority:
            first, second = chosen["member_scores"], rejected["member_scores"]
            q, r = (np.mean(first[:2]) > np.mean(second[:2]), first[2] > second[2])
            assert q
            assert r
    if rules.per_prompt is not None:
        each = Counter(key(p["prompt"]) for p in pairs)
        assert max(each.values(), default=0) <= rules.per_prompt
    # nothing vanishes
    assert counts["candidates"] == sum(len(own) * (len(own) - 1) // 2 for own in scored.values())
    assert counts["pairs"] == len(pairs)
    assert counts["candidates"] == len(pairs) + sum(counts[name] for name in REASONS)
    assert counts["prompts"] == len(scored)
    assert counts["alone"] == sum(len(own) == 1 for own in scored.values())
    # in the order of the table, by the first image of the prompt
    firsts = [min(rows[name]["seed"] for name in scored[key(p["prompt"])]) for p in pairs]
    assert firsts == sorted(firsts)
    # whatever the order of the rows, and the files that they lie in
    order = random.sample(range(table.num_rows), table.num_rows)
    again, counts_again = found_in(table.take(order), rules, parts=random.randint(1, 4))
    assert described(again) == described(pairs)
    assert counts_again == counts


@settings(deadline=None, max_examples=20)
@given(TABLES, RULES)
def test_rankings_state_pairs_only(prompts: Any, rules: Rules) -> None:
    table = table_of(prompts)
    if not table.num_rows:
        return
    uncapped = Rules(rules.min_margin, rules.min_confidence, rules.majority, None, rules.tag)
    pairs, _ = found_in(table, uncapped)
    known = {(p["chosen_id"], p["rejected_id"]) for p in pairs}
    lists, counts = found_in(table, rules, ranked=True)
    stated = [two for own in lists for two in itertools.combinations(own["ids"], 2)]
    assert set(stated) <= known
    assert len(stated) == len(set(stated)) == counts["pairs"]
    assert all(2 <= len(own["ids"]) <= (rules.per_prompt or 99) for own in lists)
    assert {key(p["prompt"]) for p in pairs} == {key(own["prompt"]) for own in lists}
    assert counts["candidates"] == counts["pairs"] + sum(counts[name] for name in REASONS)
