"""PLCC after the challenge's logistic fit, in both directions."""

from __future__ import annotations

from tokenfocus_ray.evaluation.challenge import ChallengeScore, Variant, challenge_score
from tokenfocus_ray.evaluation.figures.figure import Evidence, Figure


def official(rows: Evidence) -> ChallengeScore:
    """The challenge's score as its script computes it."""
    return _score(rows, "official")


def corrected(rows: Evidence) -> ChallengeScore:
    """The challenge's score with the fit from prediction to label."""
    return _score(rows, "corrected")


def _score(rows: Evidence, variant: Variant) -> ChallengeScore:
    elements = rows.joined.elements
    return challenge_score(rows.scores, rows.labels, elements.scores, elements.labels, variant)


def plcc_official(rows: Evidence) -> Figure:
    """Pearson's correlation after the script's fit."""
    return _plcc(rows, rows.once(official))


def plcc_corrected(rows: Evidence) -> Figure:
    """Pearson's correlation after the fit from prediction to label."""
    return _plcc(rows, rows.once(corrected))


def _plcc(rows: Evidence, score: ChallengeScore) -> Figure:
    return Figure(
        f"{score.variant}.plcc",
        f"PLCC ({score.variant} fit)",
        score.plcc,
        len(rows.scores),
        reason=fit_reason(rows, score),
        details={score.variant: score},
    )


def fit_reason(rows: Evidence, score: ChallengeScore) -> str | None:
    """What is missing of the challenge's score, of both fits in one line where it is the same."""
    if score.reason is None:
        return None
    same = rows.once(official).reason == rows.once(corrected).reason
    which = "both fits" if same else f"{score.variant} fit"
    return f"challenge score, {which}: {score.reason}"
