from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, special, stats

from tokenfocus_ray.evaluation import challenge, challenge_score, element_accuracy, logistic
from tokenfocus_ray.evaluation.challenge import Variant

NAN = math.nan
# Ten samples, S-shaped in both directions. The PLCCs come from naive_script and exact_optimum, the
# rest from pencil and paper; none from the code under test.
OFFICIAL_PLCC, CORRECTED_PLCC = 0.98394805122, 0.95964816556
SCORES = [1.9, 1.5, 2.1, 1.7, 2.6, 3.5, 4.4, 4.0, 4.5, 4.2]
LABELS = [1.0, 4 / 3, 5 / 3, 2.0, 8 / 3, 10 / 3, 4.0, 13 / 3, 14 / 3, 5.0]
# predicted present: 1 1 0 0 1; annotated present (0.5 counts): 1 1 0 1 0 -> 3 of 5 agree
ELEMENT_SCORES = [0.9, 0.5, 0.49, 0.2, 0.7]
ELEMENT_LABELS = [1.0, 0.5, 0.0, 2 / 3, 1 / 3]


def naive_script(x: np.ndarray, y: np.ndarray) -> float:
    """PLCC as the evaluation script writes it, with the fit from x to y."""

    def f(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
        return np.asarray(b2 + (b1 - b2) / (1 + np.exp(-(x - b3) / np.abs(b4))))

    start = [np.max(y), np.min(y), np.mean(x), np.std(x)]
    found, _ = optimize.curve_fit(f, x, y, p0=start, maxfev=100_000_000)
    return float(np.corrcoef(f(x, *found), y)[0, 1])


def exact_optimum(x: np.ndarray, y: np.ndarray) -> float:
    """Best PLCC of any logistic: a search over midpoint and width only.

    For these two fixed, b1 and b2 are a linear regression, which leaves PLCC alone; and least
    squares maximises it.
    """

    def loss(p: np.ndarray) -> float:
        return -abs(float(np.corrcoef(special.expit((x - p[0]) / np.exp(p[1])), y)[0, 1]))

    box = ((x.min(), x.max()), (-1.5, 2.0))
    best = optimize.brute(loss, box, Ns=30, finish=None)
    found = optimize.minimize(
        loss, best, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14}
    )
    return float(-found.fun)


def by_variant(variant: Variant) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.array(SCORES), np.array(LABELS)
    return (labels, scores) if variant == "official" else (scores, labels)


@pytest.mark.parametrize(
    ("variant", "plcc"), [("official", OFFICIAL_PLCC), ("corrected", CORRECTED_PLCC)]
)
def test_hand_made_case(variant: Variant, plcc: float) -> None:
    found = challenge_score(SCORES, LABELS, ELEMENT_SCORES, ELEMENT_LABELS, variant)
    # ranks of SCORES are 3 1 4 2 5 6 9 7 10 8, those of LABELS 1..10: sum d^2 = 20
    srcc = 1 - 6 * 20 / (10 * 99)
    assert found.srcc == pytest.approx(srcc, abs=1e-10)
    assert found.plcc == pytest.approx(plcc, abs=1e-10)
    assert found.plcc == pytest.approx(naive_script(*by_variant(variant)), abs=1e-10)
    assert found.plcc == pytest.approx(exact_optimum(*by_variant(variant)), abs=1e-10)
    assert found.element_accuracy == pytest.approx(0.6, abs=1e-10)
    assert found.final_score == pytest.approx(0.25 * srcc + 0.25 * plcc + 0.5 * 0.6, abs=1e-10)
    assert (found.variant, found.n, found.n_elements, found.reason) == (variant, 10, 5, None)


def test_the_variants_fit_in_opposite_directions() -> None:
    rng = np.random.default_rng(3)
    scores = rng.uniform(0, 6, size=400)
    labels = 1 + 4 * special.expit((scores - 3) / 0.4)  # an exact logistic of the scores
    corrected = challenge_score(scores, labels, [1], [1], "corrected")
    official = challenge_score(scores, labels, [1], [1], "official")
    assert corrected.plcc == pytest.approx(1.0, abs=1e-10)
    assert corrected.fit is not None
    assert np.allclose(corrected.fit[:3], (5, 1, 3), atol=1e-8)
    assert official.plcc < 0.99


@pytest.mark.parametrize("variant", ["official", "corrected"])
def test_equals_the_naive_script_on_random_data(variant: Variant) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(3, 16, size=500) / 3
    scores = np.clip(3 + 0.8 * (labels - 3) + rng.normal(0, 0.5, size=500), 1, 5)
    found = challenge_score(scores, labels, [1], [1], variant)
    pair = (labels, scores) if variant == "official" else (scores, labels)
    assert found.plcc == pytest.approx(naive_script(*pair), abs=1e-10)


@pytest.mark.filterwarnings("error")
def test_logistic_is_safe_where_the_formula_overflows() -> None:
    values = logistic([-1e6, 3.0, 1e6], 5.0, 1.0, 3.0, -1e-300)
    assert values.tolist() == [1.0, 3.0, 5.0]
    x = np.linspace(-2, 2, 9)
    expected = 1 + (5 - 1) / (1 + np.exp(-(x - 0.3) / 0.7))
    assert np.allclose(logistic(x, 5, 1, 0.3, -0.7), expected, atol=1e-10, rtol=0)


def test_fit_that_does_not_converge_falls_back_to_raw_plcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenge, "_MAX_EVALUATIONS", 5)
    found = challenge_score(SCORES, LABELS, ELEMENT_SCORES, ELEMENT_LABELS, "corrected")
    assert found.fit is None
    assert found.plcc == pytest.approx(stats.pearsonr(SCORES, LABELS).statistic, abs=1e-10)
    assert math.isfinite(found.final_score)
    assert found.reason == "the logistic fit did not converge in 5 evaluations; PLCC is raw"


def test_too_few_pairs_for_a_fit_keep_the_raw_plcc() -> None:
    found = challenge_score([1, 2, 4], [1, 3, 4], [1.0], [0.0], "official")
    assert found.plcc == pytest.approx(stats.pearsonr([1, 2, 4], [1, 3, 4]).statistic, abs=1e-10)
    assert found.reason == "3 pairs; the logistic fit needs 4; PLCC is raw"


@pytest.mark.parametrize("variant", ["official", "corrected"])
def test_nan_pairs_are_dropped_before_the_fit(variant: Variant) -> None:
    whole = challenge_score(SCORES, LABELS, ELEMENT_SCORES, ELEMENT_LABELS, variant)
    holed = challenge_score(
        [*SCORES, NAN, 2.0],
        [*LABELS, 3.0, NAN],
        [*ELEMENT_SCORES, NAN, 0.1],
        [*ELEMENT_LABELS, 1.0, NAN],
        variant,
    )
    assert holed == whole


def test_missing_elements_leave_no_final_score() -> None:
    found = challenge_score(SCORES, LABELS, [NAN], [1.0], "corrected")
    assert math.isnan(found.element_accuracy)
    assert math.isnan(found.final_score)
    assert math.isfinite(found.plcc)
    assert found.reason == "no element has both a score and a label"


def test_constant_scores_leave_no_final_score() -> None:
    found = challenge_score([3.0] * 10, LABELS, ELEMENT_SCORES, ELEMENT_LABELS, "official")
    assert math.isnan(found.plcc)
    assert math.isnan(found.final_score)
    assert found.reason == "all 10 scores equal 3; a correlation needs spread"


def test_element_accuracy_counts_what_it_drops() -> None:
    found = element_accuracy([0.5, 0.4999, NAN, 1.0], [0.5, 0.5, 1.0, NAN])
    assert (found.n, found.n_dropped, found.accuracy, found.reason) == (2, 2, 0.5, None)
