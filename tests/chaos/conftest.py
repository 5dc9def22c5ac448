"""One local Ray session for all chaos tests; killed drivers have sessions of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tokenfocus_ray.distributed.session import ray_session


@pytest.fixture(scope="session", autouse=True)
def _session() -> Iterator[None]:
    with ray_session():
        yield
