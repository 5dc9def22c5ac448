"""Every member of a run: each backbone with each bag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.distributed.train.member_job import MemberJob
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.storage import Store
from tokenfocus_ray.training.bags import make_bags, member_name
from tokenfocus_ray.training.schedule import Schedule
from tokenfocus_ray.training.validation import select_criteria


def member_jobs(
    config: TrainConfig,
    samples: pa.Table,
    store: Store,
    sources: Mapping[str, Source],
    specs: Mapping[str, ImageSpec],
) -> list[MemberJob]:
    """What each member's workers need.

    Args:
        config: The fan-out.
        samples: What is trained on.
        store: The run's folder.
        sources: What each backbone was resolved to.
        specs: How each wants its images.

    Raises:
        ConfigError: fewer prompts than the bags need, or fewer samples than a member has workers.
    """
    groups: list[Any] = samples["group"].to_pylist()
    bags = make_bags(groups, config.bags)
    options = config.optimizer
    decided = select_criteria(samples, bags, config)
    jobs = [
        MemberJob(
            member_name(backbone, bag.index),
            backbone,
            sources[backbone],
            specs[backbone],
            config,
            bag,
            Schedule(
                bag.train,
                tuple(groups),
                options.epochs,
                options.batch_size,
                config.bags.seed * 1009 + bag.index,
                by_prompt=config.loss.rank > 0,
            ),
            store,
            choice,
        )
        for backbone in config.backbones
        for bag, choice in zip(bags, decided, strict=True)
    ]
    for job in jobs:
        workers = config.backbones[job.backbone].workers
        if len(job.bag.train) < workers:
            raise ConfigError(
                f"member {job.name} has {len(job.bag.train)} samples for {workers} workers; give "
                f"it fewer workers or more data"
            )
    return jobs
