"""``tokenfocus`` with scorers that take their time, so that a test can look on and stop them."""

from __future__ import annotations

import time

import pyarrow as pa

from tokenfocus_ray.cli import app
from tokenfocus_ray.distributed.score import job
from tokenfocus_ray.scoring.stage import ScoreStage

SECONDS = 0.7


class SlowStage(ScoreStage):
    """The scorer, after a pause."""

    def __call__(self, table: pa.Table, backbone: int = 0) -> pa.Table:
        """A piece."""
        time.sleep(SECONDS)
        return super().__call__(table, backbone)


if __name__ == "__main__":
    from tests.support import slow  # workers look it up by name

    setattr(job, "ScoreStage", slow.SlowStage)  # noqa: B010 - no name of that module's own
    app.main()
