from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from tokenfocus_ray.evaluation import element_figures

NAN = math.nan


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, size=200) / 3
    scores = np.clip(np.round(labels * 0.5 + generator.uniform(0, 0.6, size=200), 2), 0, 1)
    own = (scores >= 0.4).astype(float)
    present = labels >= 0.5
    found = element_figures(scores, labels, own)
    assert (found.n, found.n_dropped, found.n_own, found.reason) == (200, 0, 200, None)
    assert found.accuracy == pytest.approx(accuracy_score(present, scores >= 0.5), abs=1e-10)
    assert found.accuracy_own == pytest.approx(accuracy_score(present, own), abs=1e-10)
    assert found.auc == pytest.approx(roc_auc_score(present, scores), abs=1e-10)
    assert found.f1 == pytest.approx(f1_score(present, scores >= 0.5), abs=1e-10)


def test_hand_made_case() -> None:
    found = element_figures([0.9, 0.5, 0.5, 0.2, NAN, 0.7], [1, 0.5, 0, 0, 1, NAN], [1, 0] * 3)
    # the two present beat two absent ones each, but for the tie of .5 with .5
    assert (found.n, found.n_dropped) == (4, 2)
    assert found.auc == 3.5 / 4
    assert (found.accuracy, found.f1) == (3 / 4, 2 * 2 / (2 * 2 + 1))
    # decided 1 0 1 0 1 against labelled 1 1 0 0 1
    assert (found.n_own, found.accuracy_own) == (5, 3 / 5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([1, 1], "all 2 elements are labelled present; AUC and F1 need both"),
        ([0, 0], "all 2 elements are labelled absent; AUC and F1 need both"),
        ([NAN, NAN], "no element has both a score and a label"),
    ],
)
def test_one_class_has_neither_auc_nor_f1(labels: list[float], reason: str) -> None:
    found = element_figures([0.9, 0.1], labels, [NAN, NAN])
    assert found.reason == reason
    assert math.isnan(found.auc)
    assert math.isnan(found.f1)
    assert math.isnan(found.accuracy_own)
    assert math.isnan(found.accuracy) == (found.n == 0)
