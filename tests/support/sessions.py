"""One local Ray session for all tests that need one: starting one takes seconds."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.support.s3 import S3Server
from tokenfocus_ray.distributed.session import ray_session


@pytest.fixture(scope="session", autouse=True)
def session(s3_server: S3Server) -> Iterator[None]:
    """Workers take the settings of S3 from the environment in which the session starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        with ray_session():
            yield


@pytest.fixture(autouse=True)
def actors_end() -> Iterator[None]:
    """Actors of a job that failed end with what pytest kept of it, so that CPUs are free again."""
    yield
    gc.collect()
