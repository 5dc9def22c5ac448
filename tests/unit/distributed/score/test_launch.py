"""How one launch ends where Ray Data gives up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from ray.data.exceptions import ExecutionTimeoutError

from tokenfocus_ray.config import JobConfig
from tokenfocus_ray.distributed.score.launch import BatchRun
from tokenfocus_ray.errors import JobError


class StalledRun(BatchRun):
    """One in which nothing moves."""

    def _pass(self, run: range) -> NoReturn:
        raise ExecutionTimeoutError("Dataset execution made no progress")


def test_a_job_in_which_nothing_moves_ends_in_one_line() -> None:
    parts: Any = SimpleNamespace(out=None, is_finished=False)
    scorers: Any = [None]
    job = JobConfig(stall_minutes=2.5)
    with pytest.raises(JobError) as caught:
        StalledRun(parts, parts, scorers, job, parts, str).finish()
    assert str(caught.value) == (
        "nothing moved for 2.5 minutes. What is committed is kept; look at the workers' logs, and "
        "launch the same command again to go on"
    )
