"""One local Ray session for all integration tests: starting one takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenfocus_ray.datasets.synthetic_files import write_benchmark
from tokenfocus_ray.distributed.session import ray_session


@pytest.fixture(scope="session", autouse=True)
def _session() -> Iterator[None]:
    with ray_session():
        yield


@pytest.fixture(scope="session")
def benchmark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in benchmark, small: 24 images, 6 of them in the test split."""
    folder = tmp_path_factory.mktemp("benchmark")
    write_benchmark(str(folder), n_samples=24, seed=5)
    return folder
