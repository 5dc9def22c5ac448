from __future__ import annotations

from typing import Any

import pytest

from tokenfocus_ray.config import StackConfig
from tokenfocus_ray.errors import ConfigError


def test_defaults() -> None:
    """Each new option is seen here, and so is each changed default: both change ensembles."""
    assert StackConfig().model_dump() == {
        "method": "auto",
        "metric": "mean",
        "label_range": None,
        "coverage": 0.9,
        "folds": 5,
        "seeds": 5,
    }


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"label_range": [5, 1]}, "label_range (5.0, 1.0) must rise"),
        ({"coverage": 1}, "coverage = 1: Input should be less than 1"),
        ({"folds": 1}, "folds = 1: Input should be greater than or equal to 2"),
        ({"seeds": 0}, "seeds = 0: Input should be greater than or equal to 1"),
    ],
    ids=repr,
)
def test_value_out_of_range(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        StackConfig.parse(values, "s.yaml")
    assert str(caught.value) == f"s.yaml: {problem}"
