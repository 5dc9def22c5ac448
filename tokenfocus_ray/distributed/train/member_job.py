"""What names a member's run, for the driver, Ray Train's own processes and the workers.

Light on purpose: a run has half a dozen processes, and only the workers need torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.backbones.images import ImageSpec
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.storage import Store
from tokenfocus_ray.training.bags import Bag
from tokenfocus_ray.training.schedule import Schedule

if TYPE_CHECKING:
    from tokenfocus_ray.training.validation import Selection

#: Written last into a member's folder: it is finished.
MEMBER_FILE = "member.json"
METRICS_FILE = "metrics.jsonl"
HELD_OUT_FILE = "held_out.parquet"
ADAPTER = "adapter"


@dataclass(frozen=True, slots=True)
class MemberJob:
    """All that a member's workers need.

    Attributes:
        name: Of the member, also of its folder.
        backbone: A key of ``config.backbones``.
        source: What the key was resolved to by the driver, so that all workers load the same.
        spec: How the backbone wants its images.
        config: The fan-out's configuration.
        bag: Whose samples are whose.
        schedule: Its steps.
        run: The run's folder.
        selection: What chooses its best epoch.
    """

    name: str
    backbone: str
    source: Source
    spec: ImageSpec
    config: TrainConfig
    bag: Bag
    schedule: Schedule
    run: Store
    selection: Selection

    @property
    def folder(self) -> Store:
        """The member's folder."""
        return self.run.child("members", self.name)
