"""On a GPU too, a score depends on its own request only."""

from __future__ import annotations

import pytest

from tests.support.folders import TINY
from tests.support.gpu import DEVICE, NEEDS_GPU
from tests.support.measure import MANY_COUNTS, UNLIMITED, Alone

pytestmark = NEEDS_GPU

#: Kernels are chosen by shape, so another batch adds in another order. bfloat16: rounding only.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}


@pytest.fixture(scope="module", params=[(name, dtype) for name in TINY for dtype in TOLERANCE])
def alone(request: pytest.FixtureRequest) -> tuple[Alone, float]:
    name, dtype = request.param
    return Alone.make(name, DEVICE, dtype), TOLERANCE[dtype]


@pytest.mark.parametrize("size", [1, 3, 16])
@pytest.mark.parametrize("budget", [UNLIMITED, 700])
def test_batch_size_and_budget(alone: tuple[Alone, float], size: int, budget: int) -> None:
    requests, tolerance = alone
    assert requests.gap(requests.in_batches(size, budget)) < tolerance


def test_order(alone: tuple[Alone, float]) -> None:
    requests, tolerance = alone
    order = list(range(len(MANY_COUNTS)))[::-1]
    rows = requests.scorer.score_requests([requests.requests[i] for i in order])
    assert requests.gap(rows, order) < tolerance


@pytest.mark.parametrize("budget", [1, 300])
def test_request_in_several_parts(alone: tuple[Alone, float], budget: int) -> None:
    requests, tolerance = alone
    index = MANY_COUNTS.index(20)
    rows = requests.with_budget(budget).score_requests([requests.requests[index]])
    assert requests.gap(rows, [index]) < tolerance
