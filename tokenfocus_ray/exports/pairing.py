"""Which images of a prompt make a pair: rules over arrays, a count for each reason.

Legend: N rows, P pairs, M members, B voters, G prompts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.exports.confidence import Certainty, paired_variance
from tokenfocus_ray.exports.pair_rows import group_of
from tokenfocus_ray.exports.scored_rows import member_matrix
from tokenfocus_ray.tables.columns import FloatArray

Ints = NDArray[np.int64]

#: Why two images of one prompt make no pair, in the order in which it is asked.
REASONS = {
    "same_image": "they are the same image",
    "tie": "their scores are equal",
    "tag_in_prompt": "the prompt holds a tag that means an image to the format's readers",
    "small_margin": "their scores are closer than --min-margin",
    "low_confidence": "the order is less sure than --min-confidence",
    "no_majority": "no majority of voters has the order (--majority)",
    "over_cap": "other pairs of the prompt come first (--per-prompt)",
    "not_in_ranking": "the ranking has no room for one of them",
    "not_considered": "the prompt has very many images, and one of them is in the middle",
}
#: Of a prompt with more images than twice this, so many of the best and of the worst are compared;
#: without a cap, more images are refused.
ENDS = 128
MOST_UNCAPPED = 512
MOST_PER_PROMPT = 10_000
#: Pairs in memory at a time, but for those of one prompt.
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Rules:
    """Which pairs are wanted.

    Attributes:
        min_margin: Least difference of the scores.
        min_confidence: Least probability that the order is right; None: any.
        majority: Whether more than half of the voters must have the order.
        per_prompt: Most pairs of a prompt: the surest, or where nothing tells, those of the largest
            margin; None: all. Of rankings, most images.
        tag: What no prompt may hold; empty: nothing.
    """

    min_margin: float = 0.0
    min_confidence: float | None = None
    majority: bool = False
    per_prompt: int | None = None
    tag: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.min_margin) and self.min_margin >= 0):
            raise ConfigError(f"--min-margin {self.min_margin}: wanted a number, 0 or more")
        sure = self.min_confidence
        if sure is not None and not 0.5 <= sure < 1:
            raise ConfigError(
                f"--min-confidence {sure}: wanted a probability of at least 0.5 and below 1"
            )
        most = self.per_prompt
        if most is not None and not 1 <= most <= MOST_PER_PROMPT:
            raise ConfigError(f"--per-prompt {most}: wanted 1 to {MOST_PER_PROMPT:,}")


@dataclass(frozen=True, slots=True)
class Found:
    """Pairs of some rows.

    Attributes:
        prompt_P: Number of the prompt.
        chosen_P: Row of the better image.
        rejected_P: Of the other one.
        margin_P: Difference of the scores, above 0.
        confidence_P: Probability that the order is right; NaN where nothing tells.
        for_P: Members that score the better image higher.
        against_P: That score it lower.
    """

    prompt_P: Ints
    chosen_P: Ints
    rejected_P: Ints
    margin_P: FloatArray
    confidence_P: FloatArray
    for_P: Ints
    against_P: Ints


@dataclass(frozen=True, slots=True)
class Sorted:
    """Rows of whole prompts, the best image of each first.

    Attributes:
        table: The rows, without those in the middle of prompts with very many.
        start_G: First row of each prompt.
        n_G: Rows of each that are there.
        images_G: Rows of each in all.
    """

    table: pa.Table
    start_G: Ints
    n_G: Ints
    images_G: Ints

    @classmethod
    def of(cls, rows: pa.Table, ends: int = ENDS, most: int = 2 * ENDS) -> Sorted:
        """Sorts rows; equal scores by id, so that the order of the rows does not matter.

        Args:
            rows: Of whole prompts.
            ends: How many of the best, and of the worst, stay of a prompt that has more than
            most: So many.
        """
        # by the prompt's first row, so that pairs stand in the order of the table
        group_N = group_of(rows)
        number_N = rows["row"].to_numpy()
        first_G = np.full(group_N.max(initial=-1) + 1, np.iinfo(np.int64).max)
        np.minimum.at(first_G, group_N, number_N)
        first_N = first_G[group_N]
        table = rows.append_column("first", pa.array(first_N))
        by: list[Any] = [("first", "ascending"), ("score", "descending")]
        by += [(name, "ascending") for name in ("id", "image", "row")]
        table = table.take(pc.sort_indices(table, sort_keys=by)).combine_chunks()
        first_N = table["first"].to_numpy()
        start_G = np.flatnonzero(np.diff(first_N, prepend=-1))
        images_G = np.diff(start_G, append=len(first_N))
        if images_G.max(initial=0) > most:
            place_N = np.arange(len(first_N)) - np.repeat(start_G, images_G)
            size_N = np.repeat(images_G, images_G)
            keep_N = (size_N <= most) | (place_N < ends) | (place_N >= size_N - ends)
            table = table.filter(pa.array(keep_N)).combine_chunks()
        n_G = np.where(images_G > most, 2 * ends, images_G)
        return cls(table, np.cumsum(n_G) - n_G, n_G, images_G)

    def prompts(self) -> Iterator[tuple[int, int]]:
        """First and last prompt of each chunk, of which all pairs fit in memory."""
        pairs_G = self.n_G * (self.n_G - 1) // 2
        first = total = 0
        for g, pairs in enumerate(pairs_G.tolist()):
            if total and total + pairs > _CHUNK:
                yield first, g
                first, total = g, 0
            total += pairs
        if first < len(pairs_G):
            yield first, len(pairs_G)


def find_pairs(
    rows: Sorted,
    rules: Rules,
    certainty: Certainty,
    voters: Mapping[str, Sequence[int]],
    counts: Counter[str],
) -> Iterator[Found]:
    """All pairs that the rules let pass, of some prompts at a time, before any cap.

    Args:
        rows: Of whole prompts.
        rules: Which pairs are wanted.
        certainty: How sure orders are.
        voters: Names -> places of their members.
        counts: Is told how many pairs there could be (``candidates``), and how many each reason
            left out.

    Yields:
        Pairs by prompt, the surest of each first; where nothing tells, that of the largest margin.
    """
    everyone_NM = member_matrix(rows.table)
    score_N = rows.table["score"].to_numpy()
    image_N, id_N = (_codes(rows.table[name]) for name in ("image", "id"))
    tagged_N = np.zeros(len(score_N), np.bool_)
    if rules.tag:
        has = pc.match_substring(rows.table["prompt"], rules.tag)
        tagged_N = np.asarray(has.to_numpy(zero_copy_only=False), np.bool_)
    possible_G = rows.images_G * (rows.images_G - 1) // 2
    left_out = int((possible_G - rows.n_G * (rows.n_G - 1) // 2).sum())
    counts["candidates"] += int(possible_G.sum())
    counts["not_considered"] += left_out
    for start, stop in rows.prompts():
        i_P, j_P, group_P = _all_pairs(rows.start_G[start:stop], rows.n_G[start:stop])
        if not len(i_P):
            continue
        margin_P = score_N[i_P] - score_N[j_P]
        first_PM, second_PM = everyone_NM[i_P], everyone_NM[j_P]
        z_P = certainty.deviations(margin_P, paired_variance(first_PM, second_PM))
        sure_P = certainty.probability(z_P)
        same_P = (image_N[i_P] == image_N[j_P]) & (image_N[i_P] >= 0)
        same_P |= (id_N[i_P] == id_N[j_P]) & (id_N[i_P] >= 0)
        tests = {
            "same_image": same_P,
            "tie": margin_P <= 0,
            "tag_in_prompt": tagged_N[i_P] | tagged_N[j_P],
            "small_margin": margin_P < rules.min_margin,
        }
        if rules.min_confidence is not None:
            tests["low_confidence"] = ~(sure_P >= rules.min_confidence)
        if rules.majority:
            votes_PB = np.stack(
                [first_PM[:, at].mean(1) > second_PM[:, at].mean(1) for at in voters.values()], 1
            )
            tests["no_majority"] = 2 * votes_PB.sum(axis=1) <= len(voters)
        keep_P = np.ones(len(i_P), np.bool_)
        for reason, out_P in tests.items():
            counts[reason] += int((keep_P & out_P).sum())
            keep_P &= ~out_P
        kept = np.flatnonzero(keep_P)
        rank_P = margin_P if not certainty.is_known else z_P
        order = np.lexsort((j_P[kept], i_P[kept], -margin_P[kept], -rank_P[kept], group_P[kept]))
        kept = kept[order]
        first_PM, second_PM = first_PM[kept], second_PM[kept]
        yield Found(
            start + group_P[kept], i_P[kept], j_P[kept], margin_P[kept], sure_P[kept],
            (first_PM > second_PM).sum(1), (first_PM < second_PM).sum(1),
        )  # fmt: skip


def capped(found: Found, most: int, counts: Counter[str]) -> Found:
    """The first pairs of each prompt.

    Args:
        found: By prompt, the first choice of each first.
        most: Of a prompt.
        counts: Is told how many are left out.
    """
    start_P = np.searchsorted(found.prompt_P, found.prompt_P)
    keep_P = np.arange(len(start_P)) - start_P < most
    counts["over_cap"] += int((~keep_P).sum())
    return Found(*(getattr(found, name)[keep_P] for name in Found.__slots__))


def rankings(
    found: Found, rows: Sorted, most: int | None, counts: Counter[str]
) -> list[tuple[int, list[int]]]:
    """Of each prompt the images, best first, of which every two are a pair.

    From the best image that is in a pair on, each that makes a pair with all those before it is
    taken, so a ranking states no order that a rule left out.

    Args:
        found: Pairs by prompt.
        rows: What was paired.
        most: Images of a ranking; None: any number.
        counts: Is told how many pairs no ranking states.

    Returns:
        Prompt and rows of each ranking.
    """
    lists = []
    edges = np.flatnonzero(np.diff(found.prompt_P, prepend=-1)).tolist()
    chosen, rejected = found.chosen_P.tolist(), found.rejected_P.tolist()
    for start, stop in zip(edges, [*edges[1:], len(chosen)], strict=True):
        pairs = {*zip(chosen[start:stop], rejected[start:stop], strict=True)}
        prompt = int(found.prompt_P[start])
        taken: list[int] = []
        for row in range(min(chosen[start:stop]), int(rows.start_G[prompt] + rows.n_G[prompt])):
            if all((one, row) in pairs for one in taken):
                taken.append(row)
            if len(taken) == most:
                break
        counts["not_in_ranking"] += stop - start - len(taken) * (len(taken) - 1) // 2
        lists.append((prompt, taken))
    return lists


def _all_pairs(start_G: Ints, n_G: Ints) -> tuple[Ints, Ints, Ints]:
    """[P] first row, second row and prompt of all pairs of rows of one prompt."""
    group_N = np.repeat(np.arange(len(n_G)), n_G)
    place_N = np.arange(len(group_N)) - np.repeat(np.cumsum(n_G) - n_G, n_G)
    row_N = np.repeat(start_G, n_G) + place_N
    after_N = n_G[group_N] - 1 - place_N
    i_P = np.repeat(row_N, after_N)
    ahead_P = np.arange(len(i_P)) - np.repeat(np.cumsum(after_N) - after_N, after_N)
    return i_P, i_P + 1 + ahead_P, np.repeat(group_N, after_N)


def _codes(column: Any) -> Ints:
    """[N] equal numbers for equal texts; -1 where there is none."""
    found: Any = pc.fill_null(column.combine_chunks().dictionary_encode().indices, -1)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)
