"""What Ray Train calls on each worker of a member."""

from __future__ import annotations

from typing import Any


def train_worker(loop: dict[str, Any]) -> None:
    """What Ray Train calls on each worker: ``train_member``, imported there."""
    from tokenfocus_ray.distributed.train.member import train_member

    train_member(loop["job"])
