"""The rows of a score table that can be paired, grouped by prompt, in bounded memory.

Legend: N rows, M members, G prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.exports.confidence import Certainty, sigma_of
from tokenfocus_ray.exports.scored_rows import ScoredRows, member_matrix
from tokenfocus_ray.exports.spill import Buckets, buckets_for
from tokenfocus_ray.tables.columns import FloatArray

#: Rows of a bucket, about.
BUCKET_ROWS = 32_768


@dataclass(slots=True)
class Survey:
    """What was put aside, by prompt.

    Attributes:
        prompts: In all.
        alone: With one scored image.
        pairs: Of images of one prompt.
        variances: Sum of their paired variances, in members' units.
        largest: Most images of a prompt.
        largest_prompt: Which that is.
    """

    prompts: int = 0
    alone: int = 0
    pairs: int = 0
    variances: float = 0.0
    largest: int = 0
    largest_prompt: str = ""


class PairRows:
    """Rows put aside by prompt.

    Args:
        rows: Of the score table.
        folder: Of the local disk; it is made.
    """

    def __init__(self, rows: ScoredRows, folder: str) -> None:
        self.rows = rows
        self.buckets = Buckets(folder, buckets_for(rows.scored.n_rows, BUCKET_ROWS), rows.schema)

    def put_aside(self) -> None:
        """Reads the table once.

        Raises:
            ManifestError: it cannot be read, or a row has another number of members.
        """
        with self.buckets:
            for table in self.rows.batches():
                keys: list[Any] = table["key"].to_pylist()
                half_N = np.frombuffer(b"".join(keys), ">u8")[::2]
                self.buckets.add(table, (half_N % np.uint64(self.buckets.n)).astype(np.int64))

    def survey(self) -> Survey:
        """Reads the prompts and the members' scores of what was put aside."""
        found = Survey()
        for bucket in range(self.buckets.n):
            table = self.buckets.read(bucket, ["key", "members"])
            if not table.num_rows:
                continue
            group_N = group_of(table)
            n_G, sum_G = variance_sums(group_N, member_matrix(table))
            found.prompts += len(n_G)
            found.alone += int((n_G == 1).sum())
            found.pairs += int((n_G * (n_G - 1) / 2).sum())
            found.variances += float(sum_G.sum())
            if (largest := int(n_G.max())) > found.largest:
                at = int(np.flatnonzero(group_N == n_G.argmax())[0])
                prompts = self.buckets.read(bucket, ["prompt"])["prompt"]
                found.largest, found.largest_prompt = largest, str(prompts[at].as_py())
        return found

    def certainty(self, survey: Survey) -> Certainty:
        """How sure orders are, from what was seen."""
        facts, info = self.rows.facts, self.rows.scored.info
        if not self.rows.has_intervals or info is None or info.ensemble is None:
            return Certainty(facts.members)
        if facts.spans:  # the members of an ensemble do not say how sure its own score is
            return Certainty(0)
        sigma = sigma_of(facts.radius, info.ensemble.coverage)
        mean = survey.variances / survey.pairs if survey.pairs else 0.0
        # rounded, so that the order in which rows were summed up does not show
        slope, mean = (float(f"{value:.9g}") for value in (facts.slope, mean))
        return Certainty.calibrated(facts.members, sigma, slope, mean)

    def check_known(self) -> None:
        """Refuses to ask how sure orders are where nothing says it; asked again once rows are read.

        Raises:
            ConfigError: with why.
        """
        where, facts = self.rows.scored.where, self.rows.facts
        if self.rows.has_intervals and facts.spans and facts.scored > 1:
            raise ConfigError(
                f"--min-confidence: the intervals of {where} span the whole scale in every row, so "
                f"nothing says how sure an order is; stack with more labels, or give --min-margin"
            )
        if not self.rows.has_intervals and facts.members < 2:
            raise ConfigError(
                f"--min-confidence: {where} has neither the intervals of an ensemble nor several "
                f"members, so nothing says how sure an order is; score with several members or "
                f"--ensemble, or give --min-margin"
            )


def group_of(table: pa.Table) -> NDArray[np.int64]:
    """[N] number of each row's prompt."""
    keys: Any = table["key"].combine_chunks().dictionary_encode()
    found: NDArray[np.int64] = keys.indices.to_numpy().astype(np.int64)
    return found


def variance_sums(
    group_N: NDArray[np.int64], members_NM: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Paired variances summed over all pairs of each prompt, without going through the pairs.

    With e_im member m's deviation from the mean of row i, the sum over the pairs of n rows is
    n / (M (M - 1)) * sum over m and i of (e_im - mean over i)^2.

    Returns:
        [G] rows, and [G] sums.
    """
    n_rows, n_members = members_NM.shape
    n_G = np.bincount(group_N).astype(np.float64) if n_rows else np.zeros(0)
    sum_G = np.zeros(len(n_G))
    if n_members > 1:
        apart_NM = members_NM - members_NM.mean(axis=1, keepdims=True)
        for m in range(n_members):
            mean_G = np.bincount(group_N, apart_NM[:, m], len(n_G)) / n_G
            square_N = (apart_NM[:, m] - mean_G[group_N]) ** 2
            sum_G += np.bincount(group_N, square_N, len(n_G))
        sum_G *= n_G / (n_members * (n_members - 1))
    return n_G, sum_G
