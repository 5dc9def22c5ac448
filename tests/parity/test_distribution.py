"""Level distributions equal scipy's and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import torch
from numpy.typing import NDArray

from tests.support.measure import gap
from tests.support.reference import distribution
from tokenfocus_ray.config.scoring import LevelNormalization
from tokenfocus_ray.scoring.distribution import LevelDistribution, level_distribution

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
IDS, VALUES = (7, 3, 40, 11, 2), (1.0, 2.0, 3.0, 4.0, 5.0)
NORMALIZATIONS: tuple[LevelNormalization, ...] = ("logits", "probs")


def random_logits(n: int, vocabulary: int, scale: float, seed: int = 0) -> NDArray[np.float64]:
    """[n, vocabulary], offset as raw logits are."""
    return np.random.default_rng(seed).normal(5, scale, (n, vocabulary))


def differences(got: LevelDistribution, wanted: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    return {name: gap(getattr(got, name), value) for name, value in wanted.items()}


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("n_levels", [2, 3, 5, 11])
@pytest.mark.parametrize("scale", [0.0, 1.0, 8.0])
def test_equals_scipy(
    dtype: torch.dtype, normalization: LevelNormalization, n_levels: int, scale: float
) -> None:
    logits_BV = random_logits(17, 1500, scale)
    ids = tuple(int(i) for i in np.random.default_rng(n_levels).permutation(1500)[:n_levels])
    values = tuple(np.linspace(-1, 4, n_levels).tolist())
    logits = torch.tensor(logits_BV, dtype=dtype)
    got = level_distribution(logits, ids, values, normalization)
    # the reference sees the rounded logits: what is compared is the computation
    wanted = distribution(logits.double().numpy(), ids, values, normalization)
    found = differences(got, wanted)
    assert max(found.values()) < TOLERANCE[dtype], found
    assert got.probs_BK.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_half_precision_is_computed_in_float32(
    dtype: torch.dtype, normalization: LevelNormalization
) -> None:
    """Nothing is lost beyond the rounding of the logits themselves."""
    logits = torch.tensor(random_logits(40, 1500, 4.0), dtype=dtype)
    got = level_distribution(logits, IDS, VALUES, normalization)
    assert got.expected_B.dtype == torch.float32
    wanted = distribution(logits.double().numpy(), IDS, VALUES, normalization)
    found = differences(got, wanted)
    assert max(found.values()) < TOLERANCE[torch.float32], found
    in_half = torch.softmax(logits[:, list(IDS)], -1) @ torch.tensor(VALUES, dtype=dtype)
    exact = distribution(logits.double().numpy(), IDS, VALUES, "logits")["expected_B"]
    naive = gap(in_half.double(), exact)
    assert naive > 100 * TOLERANCE[torch.float32], "this test would see the loss"


def test_by_hand() -> None:
    """Odds 1 : 2 : 5 among the levels, as much again outside them."""
    logits = torch.tensor([[0.0, math.log(2), math.log(5), math.log(8)]], dtype=torch.float64)
    got = level_distribution(logits, (0, 1, 2), (1.0, 2.0, 3.0))
    assert got.probs_BK[0].tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=1e-12)
    assert got.expected_B.item() == pytest.approx((1 + 4 + 15) / 8, abs=1e-12)
    assert got.mass_B.item() == pytest.approx(0.5, abs=1e-12)
    entropy = math.log(8) / 8 + math.log(4) / 4 + 5 / 8 * math.log(8 / 5)
    assert got.entropy_B.item() == pytest.approx(entropy, abs=1e-12)


def certain(index: int, n: int) -> torch.Tensor:
    """Logits of a model that is sure of one of n tokens."""
    return torch.nn.functional.one_hot(torch.tensor([index]), n).double() * 1000


@pytest.mark.parametrize(
    ("levels", "values", "lowest", "highest"),
    [
        # one level has p = 1, the others 0, so it gets e / (4 + e) and each other 1 / (4 + e):
        # (e + 2 + 3 + 4 + 5) / (4 + e) and (1 + 2 + 3 + 4 + 5 e) / (4 + e)
        (5, VALUES, 2.4884758, 3.5115242),
        # 1 / (1 + e) and e / (1 + e)
        (2, (0.0, 1.0), 0.2689414, 0.7310586),
    ],
    ids=["1..5", "No/Yes"],
)
def test_probs_normalization_confines_the_score(
    levels: int, values: tuple[float, ...], lowest: float, highest: float
) -> None:
    ids = tuple(range(levels))
    low, high = (
        level_distribution(certain(i, 50), ids, values, "probs").expected_B.item()
        for i in (0, levels - 1)
    )
    assert low == pytest.approx(lowest, abs=1e-7)
    assert high == pytest.approx(highest, abs=1e-7)
    away = level_distribution(certain(49, 50), ids, values, "probs")
    assert away.expected_B.item() == pytest.approx(sum(values) / levels, abs=1e-12)
    assert away.mass_B.item() == pytest.approx(0.0, abs=1e-12)
    inside = level_distribution(torch.tensor(random_logits(500, 50, 9.0)), ids, values, "probs")
    assert lowest - 1e-7 <= inside.expected_B.min().item()
    assert inside.expected_B.max().item() <= highest + 1e-7
    whole = level_distribution(certain(levels - 1, 50), ids, values, "logits")
    assert whole.expected_B.item() == pytest.approx(values[-1], abs=1e-12)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_vqascore_is_probability_times_mass(dtype: torch.dtype) -> None:
    """VQAScore, P("Yes") over the whole vocabulary, can be had back from a row."""
    no, yes = 4, 9
    logits = torch.tensor(random_logits(30, 1500, 3.0), dtype=dtype)
    got = level_distribution(logits, (no, yes), (0.0, 1.0))
    vqascore = scipy.special.softmax(logits.double().numpy(), axis=-1)[:, yes]
    assert gap(got.expected_B * got.mass_B, vqascore) < TOLERANCE[dtype]
    assert gap(got.probs_BK[:, 1], got.expected_B) == 0


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_extreme_logits_stay_finite(dtype: torch.dtype, normalization: LevelNormalization) -> None:
    """A shift of all logits changes nothing, and a forbidden level (-inf) gets probability 0."""
    row = [1e4, 1e4 - 2, -1e4, 3.0]
    logits = torch.tensor([row, [z - 1e4 for z in row], [0.0, -math.inf, 1.0, -1.0]], dtype=dtype)
    got = level_distribution(logits, (0, 1, 2), (1.0, 2.0, 3.0), normalization)
    wanted = distribution(logits.double().numpy(), (0, 1, 2), (1.0, 2.0, 3.0), normalization)
    found = differences(got, wanted)
    assert max(found.values()) < TOLERANCE[dtype], found
    assert gap(got.expected_B[0], got.expected_B[1]) < TOLERANCE[dtype]


def test_nan_stays_nan_in_its_own_row() -> None:
    logits = torch.tensor(random_logits(3, 50, 1.0))
    logits[1] = math.nan
    got = level_distribution(logits, IDS, VALUES)
    assert got.expected_B.isnan().tolist() == [False, True, False]
    assert got.mass_B.isnan().tolist() == [False, True, False]


def test_no_answers() -> None:
    """A batch without any element question."""
    got = level_distribution(torch.zeros(0, 50), IDS, VALUES)
    assert (got.probs_BK.shape, got.expected_B.shape) == ((0, 5), (0,))
