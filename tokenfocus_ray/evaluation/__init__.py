"""How well scores follow human labels: correlations and the challenge's score; no torch, no ray."""

from tokenfocus_ray.evaluation.challenge import (
    ChallengeScore,
    ElementAccuracy,
    challenge_score,
    element_accuracy,
    fit_logistic,
    logistic,
)
from tokenfocus_ray.evaluation.correlation import Correlations, correlations, krcc, plcc, srcc
from tokenfocus_ray.evaluation.labels import Label, read_labels
from tokenfocus_ray.evaluation.report import EvaluationReport, evaluate_scores

__all__ = [
    "ChallengeScore",
    "Correlations",
    "ElementAccuracy",
    "EvaluationReport",
    "Label",
    "challenge_score",
    "correlations",
    "element_accuracy",
    "evaluate_scores",
    "fit_logistic",
    "krcc",
    "logistic",
    "plcc",
    "read_labels",
    "srcc",
]
