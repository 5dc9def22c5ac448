"""Each term against a reference written out in numpy, on random logits in float64.

Legend: A answers, K levels, V vocabulary, L answer tokens.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from numpy.typing import NDArray

from tests.support.measure import gap
from tests.support.reference import distribution
from tokenfocus_ray.config import LossConfig
from tokenfocus_ray.config.scoring import LevelNormalization
from tokenfocus_ray.training.loss import (
    Targets,
    rank_slopes,
    rank_term,
    ranked_pairs,
    token_focused_terms,
    whole_answer_term,
)

TOLERANCE = 1e-10
VOCABULARY = 60
#: Levels in no order, with steps of half a point.
IDS, VALUES = (7, 3, 40, 11, 2), (1.0, 3.0, 2.0, 1.5, 2.5)
SPACING = 0.5
NORMALIZATIONS: tuple[LevelNormalization, ...] = ("logits", "probs")
KINDS = ("huber", "mse", "l1")


class Case:
    """Random logits and labels of twelve answers, every third of which nobody rated."""

    def __init__(self, seed: int = 0, scale: float = 3.0) -> None:
        random = np.random.default_rng(seed)
        self.logits_AV = random.normal(5, scale, (12, VOCABULARY))
        self.probs_AK = random.dirichlet([0.5] * 5, 12)
        self.probs_AK[0] = [0, 0, 1, 0, 0]
        self.means_A = self.probs_AK @ np.array(VALUES)
        self.weights_A = np.where(np.arange(12) % 3 == 1, 0, random.uniform(0.3, 1, 12))

    @property
    def targets(self) -> Targets:
        return Targets(*(torch.tensor(x) for x in (self.probs_AK, self.means_A, self.weights_A)))

    def terms(
        self, config: LossConfig, normalization: LevelNormalization = "logits"
    ) -> tuple[dict[str, float], NDArray[np.float64]]:
        terms, expected_A = token_focused_terms(
            torch.tensor(self.logits_AV), self.targets, IDS, VALUES, config, normalization
        )
        return {name: float(value) for name, value in terms.items()}, expected_A.numpy()


def only(**weights: Any) -> LossConfig:
    return LossConfig(**{"first_token": 0, "regression": 0, **weights})


def expected(case: Case, normalization: LevelNormalization) -> dict[str, NDArray[np.float64]]:
    return distribution(case.logits_AV, IDS, VALUES, normalization)


@pytest.mark.parametrize("seed", range(3))
def test_first_token_is_the_cross_entropy_over_the_whole_vocabulary(seed: int) -> None:
    case = Case(seed)
    log_p_AV = np.log(scipy.special.softmax(case.logits_AV, axis=1))
    wanted = -(case.weights_A * (case.probs_AK * log_p_AV[:, IDS]).sum(axis=1)).sum()
    for normalization in NORMALIZATIONS:
        terms, _ = case.terms(only(first_token=1), normalization)
        assert terms == {"first_token": pytest.approx(wanted, abs=TOLERANCE)}


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_regression_is_in_levels(kind: str, normalization: LevelNormalization) -> None:
    case = Case()
    e_A = (expected(case, normalization)["expected_B"] - case.means_A) / SPACING
    distance_A = {
        "huber": np.where(np.abs(e_A) <= 1, e_A**2 / 2, np.abs(e_A) - 0.5),
        "mse": e_A**2,
        "l1": np.abs(e_A),
    }[kind]
    assert (np.abs(e_A) > 1).any() or normalization == "probs", "both parts of the Huber loss"
    terms, expected_A = case.terms(only(regression=1, regression_kind=kind), normalization)
    wanted = (case.weights_A * distance_A).sum()
    assert terms == {"regression": pytest.approx(wanted, abs=TOLERANCE)}
    assert gap(expected_A, expected(case, normalization)["expected_B"]) < TOLERANCE


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_kl_of_the_soft_label_from_the_closed_set(
    seed: int, normalization: LevelNormalization
) -> None:
    case = Case(seed)
    probs_AK = expected(case, normalization)["probs_BK"]
    wanted = (case.weights_A * scipy.special.rel_entr(case.probs_AK, probs_AK).sum(axis=1)).sum()
    terms, _ = case.terms(only(kl=1), normalization)
    assert terms == {"kl": pytest.approx(wanted, abs=TOLERANCE)}


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_kl_of_equal_distributions_is_zero(normalization: LevelNormalization) -> None:
    case = Case()
    case.probs_AK = expected(case, normalization)["probs_BK"]
    terms, _ = case.terms(only(kl=1), normalization)
    assert terms["kl"] == pytest.approx(0, abs=TOLERANCE)


def test_kl_teaches_a_model_that_is_sure_and_wrong() -> None:
    """The label's probability underflows in float32; its log and its gradient must not."""
    logits_AV = torch.zeros(1, VOCABULARY)
    logits_AV[0, IDS[1]] = 200.0
    logits_AV.requires_grad_()
    label = torch.tensor([[1.0, 0, 0, 0, 0]])
    targets = Targets(label, torch.tensor([1.0]), torch.ones(1))
    terms, _ = token_focused_terms(logits_AV, targets, IDS, VALUES, only(kl=1))
    terms["kl"].backward()
    assert terms["kl"].item() == pytest.approx(200, abs=1e-4)
    assert logits_AV.grad is not None
    assert logits_AV.grad[0, list(IDS)].tolist() == pytest.approx([-1, 1, 0, 0, 0], abs=1e-5)


def test_terms_of_weight_0_are_not_computed() -> None:
    terms, _ = Case().terms(only(rank=1))
    assert terms == {}
    terms, _ = Case().terms(LossConfig(kl=2))
    assert list(terms) == ["first_token", "regression", "kl"]


def test_sums_do_not_carry_the_configuration_s_weights() -> None:
    once, _ = Case().terms(LossConfig(first_token=1, regression=1, kl=1))
    more, _ = Case().terms(LossConfig(first_token=3, regression=0.1, kl=7))
    assert once == more


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_nobody_rated_have_no_gradient(
    kind: str, normalization: LevelNormalization
) -> None:
    """Exactly none, whatever stands in their labels: NaN too."""
    case = Case()
    masked = case.weights_A == 0
    config = LossConfig(kl=1, regression_kind=kind)  # type: ignore[arg-type]
    wanted, _ = case.terms(config, normalization)
    case.probs_AK[masked] = math.nan
    case.means_A[masked] = math.nan
    logits_AV = torch.tensor(case.logits_AV, requires_grad=True)
    terms, expected_A = token_focused_terms(
        logits_AV, case.targets, IDS, VALUES, config, normalization
    )
    assert {name: float(value.detach()) for name, value in terms.items()} == wanted
    assert expected_A.isfinite().all()
    torch.stack(list(terms.values())).sum().backward()
    assert logits_AV.grad is not None
    gradient_AV = logits_AV.grad.numpy()
    assert np.isfinite(gradient_AV).all()
    assert (gradient_AV[masked] == 0).all()
    assert (np.abs(gradient_AV[~masked]).max(axis=1) > 0).all()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradient_equals_finite_differences(normalization: LevelNormalization) -> None:
    case, ids = Case(), (4, 1, 0, 3, 2)

    def total(logits_AV: torch.Tensor) -> torch.Tensor:
        config = LossConfig(kl=1)
        terms, _ = token_focused_terms(logits_AV, case.targets, ids, VALUES, config, normalization)
        return torch.stack(list(terms.values())).sum()

    logits_AV = torch.tensor(Case(scale=1.0).logits_AV[:, :8], requires_grad=True)
    assert torch.autograd.gradcheck(total, logits_AV)


def test_half_precision_is_computed_in_float32() -> None:
    case = Case()
    logits = torch.tensor(case.logits_AV, dtype=torch.bfloat16)
    labels = (case.probs_AK, case.means_A, case.weights_A)
    targets = Targets(*(torch.tensor(x, dtype=torch.float32) for x in labels))
    config = LossConfig(kl=1)
    got, _ = token_focused_terms(logits, targets, IDS, VALUES, config)
    wanted, _ = token_focused_terms(logits.double(), case.targets, IDS, VALUES, config)
    for name, value in got.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(wanted[name].item(), rel=1e-5)


def test_no_answers() -> None:
    """A micro-batch of samples without elements."""
    targets = Targets(torch.zeros(0, 5), torch.zeros(0), torch.zeros(0))
    logits_AV = torch.zeros(0, VOCABULARY, requires_grad=True)
    terms, expected_A = token_focused_terms(logits_AV, targets, IDS, VALUES, LossConfig(kl=1))
    assert {name: value.item() for name, value in terms.items()} == {
        "first_token": 0,
        "regression": 0,
        "kl": 0,
    }
    assert expected_A.shape == (0,)


def test_ranked_pairs() -> None:
    """Within a prompt only, higher first; equal and missing means make no pair."""
    groups, means = [0, 1, 0, 0, 1, 0, 0], [2.0, 3.0, 4.0, math.nan, 3.0, 2.0, 3.0]
    assert ranked_pairs(groups, means) == [(2, 0), (2, 5), (2, 6), (6, 0), (6, 5)]


@pytest.mark.parametrize("seed", range(3))
def test_ranked_pairs_equal_every_combination(seed: int) -> None:
    random = np.random.default_rng(seed)
    groups, means = random.integers(0, 4, 20).tolist(), random.integers(1, 6, 20).tolist()
    wanted = set()
    for a, b in itertools.combinations(range(20), 2):
        if groups[a] == groups[b] and means[a] != means[b]:
            wanted.add((a, b) if means[a] > means[b] else (b, a))
    found = ranked_pairs(groups, means)
    assert len(found) == len(wanted)
    assert set(found) == wanted


def test_rank_term_is_the_logistic_loss_of_the_order() -> None:
    expected_A = np.random.default_rng(0).uniform(1, 5, 6)
    pairs = [(0, 1), (1, 2), (5, 0), (3, 4)]
    wanted = sum(math.log1p(math.exp(-(expected_A[a] - expected_A[b]))) for a, b in pairs)
    got = rank_term(torch.tensor(expected_A), pairs)
    assert got.item() == pytest.approx(wanted, abs=TOLERANCE)


def test_rank_term_without_pairs_is_zero() -> None:
    assert rank_term(torch.ones(3, dtype=torch.float64), []).item() == 0


def test_whole_answer_is_the_weighted_cross_entropy_of_its_tokens() -> None:
    random = np.random.default_rng(0)
    logits_LV, weights_L = random.normal(0, 3, (8, VOCABULARY)), random.uniform(0, 1, 8)
    tokens_L = random.integers(0, VOCABULARY, 8)
    weights_L[3] = 0
    log_p_LV = scipy.special.log_softmax(logits_LV, axis=1)
    wanted = -(weights_L * log_p_LV[range(8), tokens_L]).sum()
    logits = torch.tensor(logits_LV, requires_grad=True)
    got = whole_answer_term(logits, torch.tensor(tokens_L), torch.tensor(weights_L))
    assert got.item() == pytest.approx(wanted, abs=TOLERANCE)
    got.backward()
    assert logits.grad is not None
    assert (logits.grad[3] == 0).all()


def test_rank_slopes_are_the_derivatives_of_the_mean() -> None:
    """Against differences, in float64; a score in no pair has none."""
    random = np.random.default_rng(4)
    expected, groups = random.uniform(1, 5, 9).tolist(), [0, 1, 0, 0, 1, 2, 0, 1, 3]
    means = [3.0, 2.0, 3.0, 5.0, 4.5, 1.0, math.nan, 2.5, 2.0]
    pairs = ranked_pairs(groups, means)
    assert len(pairs) == 5

    def mean(values: list[float]) -> float:
        return math.fsum(math.log1p(math.exp(values[b] - values[a])) for a, b in pairs) / 5

    value, slopes = rank_slopes(expected, groups, means)
    assert value == pytest.approx(mean(expected), rel=1e-12)
    for i, slope in enumerate(slopes):
        up, down = ([e + h * (k == i) for k, e in enumerate(expected)] for h in (1e-5, -1e-5))
        assert slope == pytest.approx((mean(up) - mean(down)) / 2e-5, abs=1e-9)
    assert slopes[5] == slopes[6] == slopes[8] == 0
    assert sum(slopes) == pytest.approx(0, abs=1e-15)


def test_rank_slopes_without_pairs_are_zero() -> None:
    assert rank_slopes([3.0, 2.0], [0, 1], [1.0, 2.0]) == (0.0, [0.0, 0.0])
    assert rank_slopes([], [], []) == (0.0, [])
