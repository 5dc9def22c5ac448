"""How sure it is that of two images the one with the higher score is the better one.

Two images of one prompt have the scores s_1 > s_2, and the margin d = s_1 - s_2. Members m = 1..M
gave x_1m and x_2m. A member that scores everything too high does so for both images, so what counts
is how its *difference* d_m = x_1m - x_2m varies from member to member; the mean of M of these has
the variance

    u = b^2 / (M (M - 1)) * sum over m of (d_m - mean of d)^2,

where b carries members' units to the score's (the slope of the regression of score on the members'
mean; 1 where the score is that mean).

*With an ensemble's intervals* a label lies within a radius r of its score with the stated coverage
c. For normal residuals that is a standard deviation of sigma = r / z((1 + c) / 2). The difference
of two labels then has the variance 2 sigma^2 about d, which holds the members' part on average over
pairs, u_mean. What the members do not explain, rho^2 = max(0, 2 sigma^2 - u_mean), is the same for
all pairs, and what they do explain is each pair's own:

    P(label 1 > label 2) = Phi(d / sqrt(rho^2 + u)).

Residuals of two images are taken for independent. Where those of one prompt go together, P is too
low rather than too high.

*Without* there is no human label to tell anything from. P is then the probability that the mean of
ever more such members has the order: the d_m are a sample of size M, so d / sqrt(u) has Student's t
distribution with M - 1 degrees of freedom. What all members get wrong alike, it does not see.

Legend: P pairs, M members.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tokenfocus_ray.tables.columns import FloatArray


def paired_variance(first_PM: FloatArray, second_PM: FloatArray) -> FloatArray:
    """[P] variance of the mean over members of their differences, in members' units.

    >>> paired_variance(np.array([[3.0, 4.0]]), np.array([[2.0, 2.0]]))
    array([0.25])

    Args:
        first_PM: Scores of each pair's one image.
        second_PM: Scores of its other one.

    Returns:
        Zeros for a single member, or none.
    """
    n_pairs, n_members = first_PM.shape
    if n_members < 2:
        return np.zeros(n_pairs)
    found: FloatArray = (first_PM - second_PM).var(axis=1, ddof=1) / n_members
    return found


def sigma_of(radius: float, coverage: float) -> float:
    """Standard deviation of normal residuals of which a share lies within a radius.

    >>> round(sigma_of(1.96, 0.95), 3)
    1.0

    Args:
        radius: Half the width of an interval.
        coverage: Share of labels that it holds, between 0 and 1.
    """
    from scipy.special import ndtri

    return float(radius / ndtri((1 + coverage) / 2))


@dataclass(frozen=True, slots=True)
class Certainty:
    """From margins to confidence, for the pairs of one table.

    Attributes:
        n_members: M.
        residual: rho^2; None where no intervals are there.
        slope: b.
    """

    n_members: int
    residual: float | None = None
    slope: float = 1.0

    @classmethod
    def calibrated(cls, n_members: int, sigma: float, slope: float, u_mean: float) -> Certainty:
        """With an ensemble's intervals.

        Args:
            n_members: M.
            sigma: Of a score's residual.
            slope: b.
            u_mean: Mean of the paired variances over all pairs, in members' units.
        """
        return cls(n_members, max(0.0, 2 * sigma**2 - slope**2 * u_mean), slope)

    @property
    def is_known(self) -> bool:
        """Whether anything tells how sure an order is."""
        return self.residual is not None or self.n_members > 1

    def deviations(self, margin_P: FloatArray, variance_P: FloatArray) -> FloatArray:
        """[P] margins in standard deviations; NaN where nothing is known.

        Args:
            margin_P: d.
            variance_P: Of :func:`paired_variance`.
        """
        if not self.is_known:
            return np.full(len(margin_P), math.nan)
        variance_P = self.slope**2 * variance_P + (self.residual or 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: FloatArray = np.where(margin_P == 0, 0.0, margin_P / np.sqrt(variance_P))
        return found

    def probability(self, deviations_P: FloatArray) -> FloatArray:
        """[P] probability that the order is right; NaN where nothing is known."""
        from scipy.special import ndtr, stdtr

        if self.residual is not None:
            return np.asarray(ndtr(deviations_P), np.float64)
        return np.asarray(stdtr(max(1, self.n_members - 1), deviations_P), np.float64)
