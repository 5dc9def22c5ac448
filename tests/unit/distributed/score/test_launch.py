"""How one launch tells where it stands, and ends where Ray Data gives up."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, NoReturn

import pyarrow as pa
import pytest
from ray.data.exceptions import ExecutionTimeoutError

from tokenfocus_ray.config import JobConfig
from tokenfocus_ray.distributed.score import launch
from tokenfocus_ray.distributed.score.launch import BatchRun
from tokenfocus_ray.distributed.score.ledger import UnitState
from tokenfocus_ray.errors import JobError
from tokenfocus_ray.progress import Progress


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


def test_a_launch_tells_where_it_stands_at_each_piece() -> None:
    """Of 11 rows in pieces of 4, those of an earlier launch counted as done."""
    told: list[Progress] = []
    unit = SimpleNamespace(number=0, n_rows=11)
    state = UnitState(pieces={1: None})
    ledger: Any = SimpleNamespace(
        states={0: state}, pending=lambda stop: [unit], add=lambda piece, ids: None
    )
    source: Any = SimpleNamespace(n_rows=11)
    scorers: Any = [SimpleNamespace(name="pixels")]
    pieces = [committed(0, ok=3, image_missing=1), committed(2, ok=3)]

    class Run(BatchRun):
        def _pipeline(self, run: range, *rest: Any) -> Any:
            self._workers = {"pixels": 1}
            batches = [pa.Table.from_pylist([piece]) for piece in pieces]
            blocks = (batch for batch in batches)  # which can be closed, as Ray Data's
            return SimpleNamespace(context=SimpleNamespace(), iter_batches=lambda **_: blocks)

        def _publish_ready(self) -> bool:
            return False

    lease: Any = None
    job = JobConfig(commit_rows=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "Attempts", SimpleNamespace(remote=lambda: None))
        patch.setattr(launch, "unit_table", lambda *_: None)
        Run(lease, source, scorers, job, ledger, str, watch=told.append)._pass(range(1))
    assert [(p.done, p.total, p.new, p.codes) for p in told] == [
        (4, 11, 0, {}),
        (8, 11, 4, {"ok": 3, "image_missing": 1}),
        (11, 11, 7, {"ok": 6, "image_missing": 1}),
    ]


def committed(piece: int, **codes: int) -> dict[str, Any]:
    """What a commit tells the driver."""
    return {
        "unit": 0, "piece": piece, "last": piece == 2, "n_rows": sum(codes.values()),
        "codes": json.dumps(codes), "ids": b"", "passed_over": "{}", "score_s": [0.0],
        "read_s": 0.0, "prepare_s": 0.0, "commit_s": 0.0,
    }  # fmt: skip
