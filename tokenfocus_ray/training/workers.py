"""What the workers of one member tell each other; one worker alone tells itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from tokenfocus_ray.backbones.base import Backbone

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Workers:
    """This worker among its member's; every method is called by all of them.

    Attributes:
        rank: Which one this is.
        count: How many there are.
        backbone: Whose device the tensors lie on that are sent.
    """

    rank: int
    count: int
    backbone: Backbone

    @classmethod
    def here(cls, backbone: Backbone) -> Workers:
        """Those of the process group, if this process is in one."""
        if not dist.is_initialized():
            return cls(0, 1, backbone)
        return cls(dist.get_rank(), dist.get_world_size(), backbone)

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over all workers; keys are the same on each."""
        if self.count == 1:
            return dict(values)
        tensor = torch.tensor(list(values.values()), dtype=torch.float64)
        tensor = tensor.to(self.backbone.device)
        dist.all_reduce(tensor)
        return dict(zip(values, tensor.tolist(), strict=True))

    def gather(self, values: Sequence[_T]) -> list[list[_T]]:
        """The values of every worker, in the workers' order."""
        if self.count == 1:
            return [list(values)]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, list(values))
        return found

    def most(self, value: int) -> int:
        """The largest value of all workers, 1 at the least."""
        if self.count == 1:
            return max(1, value)
        tensor = torch.tensor(value, device=self.backbone.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return max(1, int(tensor))
