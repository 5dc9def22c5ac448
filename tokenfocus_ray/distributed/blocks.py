"""Work that the driver cuts: tasks of Ray Data over small tables that say what is to be made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import ray

from tokenfocus_ray.distributed.ray_errors import keep_exceptions, unwrapped_errors
from tokenfocus_ray.distributed.session import streamed


@contextmanager
def made_of(blocks: Sequence[pa.Table], task: Any, **options: Any) -> Iterator[Iterator[pa.Table]]:
    """What a task makes of blocks, one after another; a pipeline that ends with the block.

    Args:
        blocks: One a task.
        task: Function, or class of actors, from a table to tables.
        **options: Of ``map_batches``; by default a task takes a CPU.

    Raises:
        TokenFocusError: the task's own, as it was raised.
    """
    each: Any = list(blocks)
    dataset = ray.data.from_arrow(each).map_batches(
        task, batch_size=1, batch_format="pyarrow", **(options or {"num_cpus": 1})
    )
    dataset.context.enable_progress_bars = False
    keep_exceptions(dataset)
    with unwrapped_errors(), streamed(dataset) as tables:
        yield tables
