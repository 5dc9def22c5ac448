"""Answers of one request, gathered part by part and member by member, then made a row.

Legend: M members, K levels, E elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.errors import RowError
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.request import Request, unscored


@dataclass(slots=True)
class Answers:
    """NaN until filled; whatever stays NaN makes the row unscored.

    Attributes:
        level_probs_MK: Closed-set probabilities of the total question.
        score_M: Expected total score.
        mass_M: Level mass of the total question.
        entropy_M: Entropy of the total question.
        element_ME: Expected element scores.
    """

    level_probs_MK: NDArray[np.float64]
    score_M: NDArray[np.float64]
    mass_M: NDArray[np.float64]
    entropy_M: NDArray[np.float64]
    element_ME: NDArray[np.float64]

    @classmethod
    def empty(cls, members: int, levels: int, elements: int) -> Self:
        """All NaN."""
        shapes = ((members, levels), members, members, members, (members, elements))
        return cls(*(np.full(shape, np.nan) for shape in shapes))

    def row(self, request: Request, members: Sequence[str]) -> ScoreRow:
        """The row of a request: means over the members, or unscored if one is not finite."""
        with np.errstate(over="ignore"):  # as they are written
            total_M, element_ME = (a.astype(np.float32) for a in (self.score_M, self.element_ME))
        finite_M = np.isfinite(total_M) & np.isfinite(element_ME).all(axis=1)
        if not finite_M.all():
            bad = [name for name, good in zip(members, finite_M, strict=True) if not good]
            error = RowError(
                "score_not_finite",
                f"members {bad} answered with NaN or infinity; try dtype=float32, and check that "
                f"the adapter was trained without divergence",
            )
            return unscored(request, error)
        image = request.image
        assert isinstance(image, PreparedImage)
        return ScoreRow(
            request.sample_id,
            "ok",
            score=float(self.score_M.mean()),
            member_scores=self.score_M.tolist(),
            level_probs=self.level_probs_MK.tolist(),
            level_mass=self.mass_M.tolist(),
            entropy=self.entropy_M.tolist(),
            element_scores=self.element_ME.mean(axis=0).tolist(),
            member_element_scores=self.element_ME.tolist(),
            width=image.width,
            height=image.height,
            n_visual_tokens=image.n_visual_tokens,
        )
