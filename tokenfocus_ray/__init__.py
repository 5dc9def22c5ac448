"""Text-to-image alignment scores from vision-language models, on Ray.

The public names load when they are first used: importing this package imports neither torch nor
ray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tokenfocus_ray.version import __version__

if TYPE_CHECKING:
    from tokenfocus_ray.config import (
        JobConfig,
        PoolConfig,
        ScoringConfig,
        Selection,
        StackConfig,
        TrainConfig,
        load_score_config,
    )
    from tokenfocus_ray.datasets.synthetic.files import write_benchmark
    from tokenfocus_ray.distributed.elements.job import make_elements
    from tokenfocus_ray.distributed.elements.summary import ElementsSummary
    from tokenfocus_ray.distributed.importing import ImportSummary, import_manifest
    from tokenfocus_ray.distributed.merge import MergeSummary, merge_scores
    from tokenfocus_ray.distributed.outcomes.pair_options import PairsSummary
    from tokenfocus_ray.distributed.outcomes.pairs import export_pairs
    from tokenfocus_ray.distributed.outcomes.select import select_scores
    from tokenfocus_ray.distributed.outcomes.summary import SelectSummary
    from tokenfocus_ray.distributed.report.job import ReportSummary, write_report
    from tokenfocus_ray.distributed.score.job import RunSummary, score_manifest
    from tokenfocus_ray.distributed.session import ray_session
    from tokenfocus_ray.distributed.train.job import plan_training, train_members
    from tokenfocus_ray.distributed.train.results import TrainSummary
    from tokenfocus_ray.elements.endpoint import Endpoint
    from tokenfocus_ray.ensemble.bundle import Ensemble
    from tokenfocus_ray.ensemble.fit import FittedEnsemble, fit_ensemble
    from tokenfocus_ray.errors import ConfigError, RowError, TokenFocusError, UserError
    from tokenfocus_ray.evaluation.evaluate import Evaluation, evaluate_scores
    from tokenfocus_ray.exports.submission import SubmissionSummary, write_submission
    from tokenfocus_ray.plan.outcome import ScoringPlan
    from tokenfocus_ray.plan.scoring import plan_scoring
    from tokenfocus_ray.progress import Progress
    from tokenfocus_ray.schema import Element, ScoreRow
    from tokenfocus_ray.scoring.scorer import AlignmentScorer

#: Room -> what of it is public.
_ROOMS = {
    "config": (
        "JobConfig", "PoolConfig", "ScoringConfig", "Selection", "StackConfig", "TrainConfig",
        "load_score_config",
    ),
    "datasets.synthetic.files": ("write_benchmark",),
    "distributed.elements.job": ("make_elements",),
    "distributed.elements.summary": ("ElementsSummary",),
    "distributed.importing": ("ImportSummary", "import_manifest"),
    "distributed.merge": ("MergeSummary", "merge_scores"),
    "distributed.outcomes.pair_options": ("PairsSummary",),
    "distributed.outcomes.pairs": ("export_pairs",),
    "distributed.outcomes.select": ("select_scores",),
    "distributed.outcomes.summary": ("SelectSummary",),
    "distributed.report.job": ("ReportSummary", "write_report"),
    "distributed.score.job": ("RunSummary", "score_manifest"),
    "distributed.session": ("ray_session",),
    "distributed.train.job": ("plan_training", "train_members"),
    "distributed.train.results": ("TrainSummary",),
    "elements.endpoint": ("Endpoint",),
    "ensemble.bundle": ("Ensemble",),
    "ensemble.fit": ("FittedEnsemble", "fit_ensemble"),
    "errors": ("ConfigError", "RowError", "TokenFocusError", "UserError"),
    "evaluation.evaluate": ("Evaluation", "evaluate_scores"),
    "plan.outcome": ("ScoringPlan",),
    "plan.scoring": ("plan_scoring",),
    "exports.submission": ("SubmissionSummary", "write_submission"),
    "progress": ("Progress",),
    "schema": ("Element", "ScoreRow"),
    "scoring.scorer": ("AlignmentScorer",),
}  # fmt: skip
_HOME = {name: f"{__name__}.{room}" for room, names in _ROOMS.items() for name in names}

__all__ = [
    "AlignmentScorer",
    "ConfigError",
    "Element",
    "ElementsSummary",
    "Endpoint",
    "Ensemble",
    "Evaluation",
    "FittedEnsemble",
    "ImportSummary",
    "JobConfig",
    "MergeSummary",
    "PairsSummary",
    "PoolConfig",
    "Progress",
    "ReportSummary",
    "RowError",
    "RunSummary",
    "ScoreRow",
    "ScoringConfig",
    "ScoringPlan",
    "SelectSummary",
    "Selection",
    "StackConfig",
    "SubmissionSummary",
    "TokenFocusError",
    "TrainConfig",
    "TrainSummary",
    "UserError",
    "__version__",
    "evaluate_scores",
    "export_pairs",
    "fit_ensemble",
    "import_manifest",
    "load_score_config",
    "make_elements",
    "merge_scores",
    "plan_scoring",
    "plan_training",
    "ray_session",
    "score_manifest",
    "select_scores",
    "train_members",
    "write_benchmark",
    "write_report",
    "write_submission",
]


def __getattr__(name: str) -> object:
    """Loads a public name (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value  # from now on found without this function
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
