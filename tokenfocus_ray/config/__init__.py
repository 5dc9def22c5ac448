"""Frozen configuration: what is scored, trained, stacked and selected with, and how a job runs."""

from tokenfocus_ray.config.scoring import JobConfig, PoolConfig, ScoringConfig, load_score_config
from tokenfocus_ray.config.selection import Selection
from tokenfocus_ray.config.stacking import StackConfig
from tokenfocus_ray.config.training import (
    BackboneRun,
    BagsConfig,
    LoraOptions,
    LossConfig,
    OptimizerConfig,
    TrainConfig,
)

__all__ = [
    "BackboneRun",
    "BagsConfig",
    "JobConfig",
    "LoraOptions",
    "LossConfig",
    "OptimizerConfig",
    "PoolConfig",
    "ScoringConfig",
    "Selection",
    "StackConfig",
    "TrainConfig",
    "load_score_config",
]
