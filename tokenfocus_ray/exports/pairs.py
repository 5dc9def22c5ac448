"""Pairs, or rankings, of a score table: grouped by prompt, then brought into the table's order.

Two passes over the local disk, each by buckets: by prompt, so that all images of one are together;
and by the prompt's first row, so that what comes out lies as near together as it does in the table,
where its images are read again.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.errors import ConfigError, ManifestError, shown
from tokenfocus_ray.exports.confidence import Certainty
from tokenfocus_ray.exports.pair_rows import PairRows, Survey
from tokenfocus_ray.exports.pairing import (
    MOST_UNCAPPED,
    Found,
    Rules,
    Sorted,
    capped,
    find_pairs,
    rankings,
)
from tokenfocus_ray.exports.scored_rows import ScoredRows
from tokenfocus_ray.exports.spill import Buckets, buckets_for

#: Rows of the table that one bucket of pairs comes from, at least.
_RANGE = 2_048
#: What is told of each of the two images.
SIDES = ("row", "id", "image", "generator", "seed", "score")


@dataclass(frozen=True, slots=True)
class PairTable:
    """The pairs of a score table.

    Attributes:
        scored: The table.
        rules: Which pairs are wanted.
        needed: Columns that are to travel along, as ``chosen_need_NAME``.
        by_path: Whether images are named by path.
        ranked: Whether rankings are wanted in place of pairs.
    """

    scored: ScoredTable
    rules: Rules
    needed: tuple[str, ...] = ()
    by_path: bool = True
    ranked: bool = False

    def prepare(self, folder: str) -> Prepared:
        """Reads the table, and puts its rows aside by prompt.

        Args:
            folder: Of the local disk, empty, for what is put aside.

        Raises:
            ManifestError: the table cannot be read, has no prompts, or a prompt has too many images
                for all pairs.
            ConfigError: a rule asks for what nothing tells.
        """
        source = ScoredRows(self.scored, needed=self.needed, by_path=self.by_path)
        voters = self._voters(source.facts.members)
        rows = PairRows(source, os.path.join(folder, "rows"))
        if self.rules.min_confidence is not None:
            rows.check_known()
        rows.put_aside()
        if self.rules.min_confidence is not None:
            rows.check_known()
        survey = rows.survey()
        self._check_size(survey)
        counts = Counter({"prompts": survey.prompts, "alone": survey.alone})
        return Prepared(self, folder, rows, rows.certainty(survey), voters, counts)

    def _voters(self, n_members: int) -> dict[str, Sequence[int]]:
        """Backbones; or members, where there is one backbone only."""
        info = self.scored.info
        places: Mapping[str, Sequence[int]] = {str(m): [m] for m in range(n_members)}
        if info is not None and n_members:
            every = info.places()
            places = {name: every[name] for name in info.stacked()}
        if self.rules.majority and len(places) < 2:
            n = "no members' scores" if not n_members else "one member"
            raise ConfigError(
                f"--majority: {self.scored.where} has {n}, and a majority needs several voters; "
                f"score with several backbones or members"
            )
        return dict(places)

    def _check_size(self, survey: Survey) -> None:
        n = survey.largest
        if self.rules.per_prompt is None and n > MOST_UNCAPPED:
            raise ManifestError(
                f"{self.scored.where}: the prompt {shown(survey.largest_prompt)} has {n:,} scored "
                f"images, which are {n * (n - 1) // 2:,} pairs; give --per-prompt N for the N best "
                f"of each prompt (without it, a prompt may have {MOST_UNCAPPED} images)"
            )


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows that were put aside, to be paired once.

    Attributes:
        pairs: What is wanted.
        folder: Of the local disk.
        rows: By prompt.
        certainty: How sure orders are.
        voters: Names -> places of their members.
        counts: ``prompts, alone``; :meth:`read` adds ``candidates, pairs`` and each reason.
    """

    pairs: PairTable
    folder: str
    rows: PairRows
    certainty: Certainty
    voters: Mapping[str, Sequence[int]]
    counts: Counter[str]

    @property
    def unscored(self) -> dict[str, int]:
        """Rows without a score, by reason."""
        return self.rows.rows.facts.unscored

    @property
    def notes(self) -> list[str]:
        """What is to be said."""
        return self.rows.rows.notes

    def read(self) -> Iterator[pa.Table]:
        """Pairs in the order of the table, by the first row of their prompt.

        Yields:
            Of pairs: ``prompt, margin, confidence, votes_for, votes_against, n_images`` and for
            each of ``chosen`` and ``rejected`` :data:`SIDES`. Of rankings: ``prompt`` and lists of
            these, best first.
        """
        n_rows = self.pairs.scored.n_rows
        n_ranges = buckets_for(n_rows, _RANGE)
        width = max(1, -(-n_rows // n_ranges))
        made: Buckets | None = None
        for bucket in range(self.rows.buckets.n):
            found = self.rows.buckets.read(bucket)
            self.rows.buckets.drop(bucket)
            for table in self._made(found):
                made = made or Buckets(os.path.join(self.folder, "made"), n_ranges, table.schema)
                made.add(table, table["first"].to_numpy() // width)
        if made is None:
            return
        with made:
            pass
        for bucket in range(made.n):
            table = made.read(bucket)
            made.drop(bucket)
            if table.num_rows:  # a prompt's own are together, and in their order
                order = np.argsort(table["first"].to_numpy(), kind="stable")
                yield table.take(order).drop_columns(["first"])

    def _made(self, table: pa.Table) -> Iterator[pa.Table]:
        if not table.num_rows:
            return
        rules, counts = self.pairs.rules, self.counts
        cap = rules.per_prompt
        rows = Sorted.of(table) if cap is not None else Sorted.of(table, most=MOST_UNCAPPED)
        for found in find_pairs(rows, rules, self.certainty, self.voters, counts):
            if not len(found.chosen_P):
                continue
            if self.pairs.ranked:
                lists = rankings(found, rows, cap, counts)
                counts["pairs"] += sum(len(own) * (len(own) - 1) // 2 for _, own in lists)
                yield _ranking_table(rows, lists)
            else:
                found = found if cap is None else capped(found, cap, counts)
                counts["pairs"] += len(found.chosen_P)
                yield _pair_table(rows, found)


def _pair_table(rows: Sorted, found: Found) -> pa.Table:
    table = rows.table
    chosen = table.take(found.chosen_P)
    confidence: Any = pa.array(found.confidence_P, from_pandas=True)
    columns: dict[str, Any] = {
        "first": chosen["first"],
        "prompt": chosen["prompt"],
        "margin": pa.array(found.margin_P),
        "confidence": confidence,
        "votes_for": pa.array(found.for_P),
        "votes_against": pa.array(found.against_P),
        "n_images": pa.array(rows.images_G[found.prompt_P]),
    }
    names = [*SIDES, *(n for n in table.column_names if n.startswith("need_"))]
    rejected = table.take(found.rejected_P)
    for side, own in (("chosen", chosen), ("rejected", rejected)):
        columns |= {f"{side}_{name}": own[name] for name in names}
    return pa.table(columns)


def _ranking_table(rows: Sorted, lists: Sequence[tuple[int, Sequence[int]]]) -> pa.Table:
    table = rows.table
    best = table.take([own[0] for _, own in lists])
    every = table.take([row for _, own in lists for row in own]).combine_chunks()
    stops: Any = np.cumsum([0, *(len(own) for _, own in lists)]).astype(np.int32)
    stops = pa.array(stops)
    columns: dict[str, Any] = {
        "first": best["first"],
        "prompt": best["prompt"],
        "n_images": pa.array(rows.images_G[[prompt for prompt, _ in lists]]),
    }
    for name in SIDES:
        values: Any = every[name].combine_chunks()
        columns[f"{name}s"] = pa.ListArray.from_arrays(stops, values)
    return pa.table(columns)
