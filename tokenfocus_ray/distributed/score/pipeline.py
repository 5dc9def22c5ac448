"""The scoring actors, and the pipeline that feeds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from tokenfocus_ray.distributed.score.actors import ScorePieces
from tokenfocus_ray.distributed.score.guard import Guard
from tokenfocus_ray.distributed.score.tasks import CommitPieces, PreparePieces, ReadPieces
from tokenfocus_ray.scoring.stage import ScoreStage

#: Logical CPUs of a task.
READ_CPUS, PREPARE_CPUS, COMMIT_CPUS = 0.25, 1.0, 0.25


@dataclass(frozen=True, slots=True)
class ScorePool:
    """The actors of one backbone.

    Attributes:
        name: Of the backbone.
        index: Its place among several.
        make: Makes the stage; runs in an actor.
        guard: Against rows that kill the process.
        actors: How many.
        options: What each takes of the cluster.
    """

    name: str
    index: int
    make: Callable[[], ScoreStage]
    guard: Guard
    actors: ray.data.ActorPoolStrategy
    options: Mapping[str, Any]


def piece_pipeline(
    units: Sequence[pa.Table],
    read: ReadPieces,
    prepare: PreparePieces | None,
    pools: Sequence[ScorePool],
    commit: CommitPieces,
) -> ray.data.Dataset:
    """Reading, preparing, scoring and committing as one streaming data set."""
    # a reader of a manifest without images feeds more than one actor, and Ray would start as many
    # as a quarter of a CPU each allows
    actors = sum(int(pool.actors.max_size) for pool in pools)
    readers = None if read.prepare else min(actors, len(units))
    # reading and preparing take different shares of a CPU, so that Ray does not fuse them: one unit
    # would then be prepared by one task
    dataset = ray.data.from_arrow(list(units)).map_batches(
        _on_arrow(read),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=PREPARE_CPUS if read.prepare else READ_CPUS,
        compute=ray.data.TaskPoolStrategy(readers),
    )
    if prepare is not None:
        dataset = dataset.map_batches(
            _on_arrow(prepare), batch_size=1, batch_format="pyarrow", num_cpus=PREPARE_CPUS
        )
    for pool in pools:
        dataset = dataset.map_batches(
            ScorePieces,
            fn_constructor_args=(pool.name, pool.index, pool.make, pool.guard),
            batch_size=1,
            batch_format="pyarrow",
            compute=pool.actors,
            **pool.options,
        )
    return dataset.map_batches(
        _on_arrow(commit), batch_size=None, batch_format="pyarrow", num_cpus=COMMIT_CPUS
    )


def _on_arrow(stage: Any) -> Any:
    """Ray's types know of batches of any format; ours take Arrow tables only."""
    return stage
