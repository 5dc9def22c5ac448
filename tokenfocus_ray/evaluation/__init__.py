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
from tokenfocus_ray.evaluation.elements import ElementFigures, element_figures
from tokenfocus_ray.evaluation.labels import Label, read_labels
from tokenfocus_ray.evaluation.pairwise import PairwiseAccuracy, pairwise_accuracy
from tokenfocus_ray.evaluation.report import EvaluationReport, evaluate_tables
from tokenfocus_ray.evaluation.resampling.compare import Comparison, Difference, compare
from tokenfocus_ray.tables.prompts import prompt_group

__all__ = [
    "ChallengeScore",
    "Comparison",
    "Correlations",
    "Difference",
    "ElementAccuracy",
    "ElementFigures",
    "EvaluationReport",
    "Label",
    "PairwiseAccuracy",
    "challenge_score",
    "compare",
    "correlations",
    "element_accuracy",
    "element_figures",
    "evaluate_tables",
    "fit_logistic",
    "krcc",
    "logistic",
    "pairwise_accuracy",
    "plcc",
    "prompt_group",
    "read_labels",
    "srcc",
]
