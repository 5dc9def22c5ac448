from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.pairs import found_in, table_of, with_intervals
from tokenfocus_ray.errors import ConfigError, ManifestError
from tokenfocus_ray.exports.confidence import paired_variance, sigma_of
from tokenfocus_ray.exports.pair_rows import variance_sums
from tokenfocus_ray.exports.pairing import ENDS, REASONS, Rules


def ids(pairs: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(pair["chosen_id"], pair["rejected_id"]) for pair in pairs]


def alike(*scores: float) -> list[tuple[float, float, float]]:
    """Members that agree but for a little."""
    return [(score, score + 0.01 * (i % 3), score) for i, score in enumerate(scores)]


def test_variance_sums() -> None:
    """The sum over pairs, without going through them."""
    rng = np.random.default_rng(0)
    group_N, members_NM = rng.integers(0, 5, 40), rng.normal(size=(40, 3))
    n_G, sum_G = variance_sums(group_N, members_NM)
    for g in range(5):
        own = members_NM[group_N == g]
        i, j = np.triu_indices(len(own), 1)
        assert n_G[g] == len(own)
        np.testing.assert_allclose(sum_G[g], paired_variance(own[i], own[j]).sum(), rtol=1e-10)


def test_scores_are_compared_as_numbers() -> None:
    """Also where a table holds them as text, of which "10.0" comes before "9.5"."""
    table = table_of({"p": alike(9.5, 10.0, 9.0)})
    at = table.schema.get_field_index("score")
    table = table.set_column(at, "score", pa.array(["9.5", "10.0", "9.0"]))
    pairs, _ = found_in(table, Rules())
    assert {*ids(pairs)} == {("p/1", "p/0"), ("p/1", "p/2"), ("p/0", "p/2")}


def test_cap_takes_the_surest() -> None:
    """The widest margin is the one on which members differ most."""
    table = table_of({"p": [(5.0, 1.9, 5.0), (2.5, 2.5, 2.5), (2.0, 2.0, 2.0)]})
    pairs, counts = found_in(table, Rules(per_prompt=1))
    assert ids(pairs) == [("p/1", "p/2")]
    assert counts["over_cap"] == 2
    one = table_of({"p": [(5.0,), (2.5,), (2.0,)]}, {"q": ["m0"]})
    pairs, _ = found_in(one, Rules(per_prompt=1))  # nothing tells: the widest margin
    assert ids(pairs) == [("p/0", "p/2")]
    assert pairs[0]["confidence"] is None


def test_majority_of_backbones() -> None:
    """Of q's members the mean counts: it is one voter."""
    table = table_of(
        {"p": [(4.0, 3.0, 2.0), (3.0, 3.5, 1.0)], "o": [(4.0, 4.0, 1.0), (1.0, 1.0, 2.0)]}
    )
    pairs, counts = found_in(table, Rules(majority=True))
    assert ids(pairs) == [("p/0", "p/1")]
    assert counts["no_majority"] == 1  # one backbone of two is no majority
    assert (pairs[0]["votes_for"], pairs[0]["votes_against"]) == (2, 1)
    one = table_of({"p": [(4.0, 3.0, 1.0), (3.0, 2.0, 2.0)]}, {"q": ["a", "b", "c"]})
    assert len(found_in(one, Rules(majority=True))[0]) == 1  # of one backbone the members vote


def test_the_same_image_twice() -> None:
    table = table_of({"p": alike(3, 2, 1)}, image_uri=["a.png", "a.png", "b.png"])
    pairs, counts = found_in(table, Rules())
    assert {*ids(pairs)} == {("p/0", "p/2"), ("p/1", "p/2")}
    assert counts["same_image"] == 1


@pytest.mark.parametrize("n", [2 * ENDS, 2 * ENDS + 1, 3_000])
def test_very_many_images_of_a_prompt(n: int) -> None:
    """Of more than 256 only the ends are compared; the widest margins are among those."""
    scores = np.random.default_rng(0).permutation(n).astype(float)
    table = table_of({"p": [(s,) for s in scores]}, {"q": ["m0"]})
    pairs, counts = found_in(table, Rules(per_prompt=50))
    assert len(pairs) == 50
    margins = sorted(
        (b - a for a, b in itertools.combinations(sorted(scores)[:60] + sorted(scores)[-60:], 2)),
        reverse=True,
    )
    assert [pair["margin"] for pair in pairs] == margins[:50]
    assert counts["candidates"] == n * (n - 1) // 2
    assert counts["not_considered"] == (0 if n == 256 else n * (n - 1) // 2 - 256 * 255 // 2)
    assert counts["candidates"] == counts["pairs"] + sum(counts[name] for name in REASONS)
    assert {pair["n_images"] for pair in pairs} == {n}


def test_very_many_images_without_a_cap() -> None:
    table = table_of({"p": [(float(i),) for i in range(513)]}, {"q": ["m0"]})
    with pytest.raises(ManifestError) as caught:
        found_in(table, Rules())
    assert str(caught.value).partition("scores: ")[2] == (
        "the prompt 'p' has 513 scored images, which are 131,328 pairs; give --per-prompt N for "
        "the N best of each prompt (without it, a prompt may have 512 images)"
    )
    assert len(found_in(table.slice(1), Rules(min_margin=500))[0]) == 78


def test_confidence_with_intervals() -> None:
    """By hand: of members that all say the same, the calibration alone tells."""
    table = table_of({"p": [(3.0,) * 3, (2.0,) * 3], "o": [(4.0,) * 3]})
    pairs, _ = found_in(with_intervals(table, 0.8, 0.9), Rules())
    from scipy.stats import norm

    sigma = sigma_of(0.8, 0.9)
    assert pairs[0]["confidence"] == pytest.approx(norm.cdf(1 / (sigma * 2**0.5)), rel=1e-6)


def test_intervals_that_span_the_scale() -> None:
    table = with_intervals(table_of({"p": alike(3, 2)}), 9.0)
    pairs, _ = found_in(table, Rules())
    assert pairs[0]["confidence"] is None
    with pytest.raises(ConfigError) as caught:
        found_in(table, Rules(min_confidence=0.9))
    assert str(caught.value).partition("scores ")[2] == (
        "span the whole scale in every row, so nothing says how sure an order is; stack with more "
        "labels, or give --min-margin"
    )


def test_nothing_to_tell_from() -> None:
    one = table_of({"p": [(3.0,), (2.0,)]}, {"q": ["m0"]})
    with pytest.raises(ConfigError) as caught:
        found_in(one, Rules(min_confidence=0.9))
    assert str(caught.value).partition("scores ")[2] == (
        "has neither the intervals of an ensemble nor several members, so nothing says how sure "
        "an order is; score with several members or --ensemble, or give --min-margin"
    )
    with pytest.raises(ConfigError) as caught:
        found_in(one, Rules(majority=True))
    assert str(caught.value).partition("scores ")[2] == (
        "has one member, and a majority needs several voters; score with several backbones or "
        "members"
    )


def test_a_row_of_other_members() -> None:
    table = table_of({"p": [(3.0, 3.0, 3.0), (2.0, 2.0)]})
    with pytest.raises(ManifestError) as caught:
        found_in(table, Rules())
    assert str(caught.value).partition("scores: ")[2] == (
        "row 1 has the scores of 2 members, and the table has 3; give the scores as they were "
        "written"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_margin": -0.1}, "--min-margin -0.1: wanted a number, 0 or more"),
        ({"min_margin": float("nan")}, "--min-margin nan: wanted a number, 0 or more"),
        (
            {"min_confidence": 0.4},
            "--min-confidence 0.4: wanted a probability of at least 0.5 and below 1",
        ),
        (
            {"min_confidence": 1.0},
            "--min-confidence 1.0: wanted a probability of at least 0.5 and below 1",
        ),
        ({"per_prompt": 0}, "--per-prompt 0: wanted 1 to 10,000"),
        ({"per_prompt": 10_001}, "--per-prompt 10001: wanted 1 to 10,000"),
    ],
)
def test_rules_out_of_range(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Rules(**given)
    assert str(caught.value) == message
