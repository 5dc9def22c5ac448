from __future__ import annotations

import numpy as np
import pytest

from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.scoring.answers import Answers
from tokenfocus_ray.scoring.request import Request

IMAGE = PreparedImage(np.zeros((1, 28, 28, 3), np.uint8), 1, (1, 1), 28, 28)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("of", ["total", "element"])
def test_a_score_that_is_not_finite_as_it_is_written_is_no_score(of: str, value: float) -> None:
    """Columns are float32, in which 1e39 is infinite."""
    answers = Answers.empty(2, 5, 1)
    answers.score_M[:], answers.element_ME[:] = 3.0, 0.5
    request = Request("a", "a pig", IMAGE)
    assert answers.row(request, ["m0", "m1"]).status == "ok"
    (answers.score_M if of == "total" else answers.element_ME)[1] = value
    row = answers.row(request, ["m0", "m1"])
    assert (row.status, row.error_code) == ("unscored", "score_not_finite")
    assert row.error_message == (
        "members ['m1'] answered with NaN or infinity; try dtype=float32, and check that the "
        "adapter was trained without divergence"
    )
