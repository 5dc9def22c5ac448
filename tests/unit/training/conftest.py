from __future__ import annotations

import pytest
import torch

from tests.support.folders import TINY
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.base import Backbone


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=TINY)
def bare(request: pytest.FixtureRequest) -> Backbone:
    """A backbone without weights, for what depends on shapes and names only."""
    return loading.skeleton(registry.resolve(request.param))
