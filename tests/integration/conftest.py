"""One local Ray session for all integration tests: starting one takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sessions import actors_end, session  # noqa: F401
from tokenfocus_ray.datasets.synthetic.files import write_benchmark


@pytest.fixture(scope="session")
def benchmark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in benchmark, small: 24 images, 6 of them in the test split."""
    folder = tmp_path_factory.mktemp("benchmark")
    write_benchmark(str(folder), n_samples=24, seed=5)
    return folder
