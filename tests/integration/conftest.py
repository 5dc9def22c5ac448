"""One local Ray session for all integration tests: starting one takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.s3 import S3Server
from tokenfocus_ray.datasets.synthetic_files import write_benchmark
from tokenfocus_ray.distributed.session import ray_session


@pytest.fixture(scope="session", autouse=True)
def _session(s3_server: S3Server) -> Iterator[None]:
    """Workers take the settings of S3 from the environment in which the session starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        with ray_session():
            yield


@pytest.fixture(scope="session")
def benchmark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in benchmark, small: 24 images, 6 of them in the test split."""
    folder = tmp_path_factory.mktemp("benchmark")
    write_benchmark(str(folder), n_samples=24, seed=5)
    return folder
