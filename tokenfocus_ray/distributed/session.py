"""One Ray session: joins a cluster that is there, else starts a local one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

#: Fewest logical CPUs of a local session. Readers, decoders, scorers and writers each hold a share
#: at the same time; with fewer, a pipeline can wait for itself for ever.
LOCAL_CPUS = 4


@contextmanager
def ray_session() -> Iterator[None]:
    """Connects to the cluster that ``RAY_ADDRESS`` names, to a session already open, or starts one.

    A session that was started here is shut down at the end.
    """
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.WARNING, log_to_driver=False)
    else:
        # uv's or make's environment is the workers' environment: no packaging of the folder
        ray.init(
            num_cpus=max(LOCAL_CPUS, os.cpu_count() or 1),
            include_dashboard=False,
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
    try:
        yield
    finally:
        ray.shutdown()


def cluster_gpus() -> int:
    """Number of GPUs that the session offers."""
    return int(ray.cluster_resources().get("GPU", 0))
