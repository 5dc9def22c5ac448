"""Which rows are dropped for what they are themselves, a batch of rows at a time.

Legend: N rows of a batch, M members, V who votes, E elements of all rows together.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tokenfocus_ray.config.selection import Selection
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.errors import ConfigError, ManifestError, did_you_mean
from tokenfocus_ray.exports.asked_elements import Asked, AskedElements
from tokenfocus_ray.tables.element_lists import flat_lists
from tokenfocus_ray.tables.members import ScoreTableInfo

#: Why rows are dropped, in the order in which it is asked; a row's reason is the first.
REASONS = (
    "", "unscored", "min_score", "min_low", "max_spread", "min_agreement", "elements_present",
    "element_type", "element", "best_of", "top", "balance", "budget",
)  # fmt: skip
CODES = {name: code for code, name in enumerate(REASONS)}

Codes = NDArray[np.int8]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch, judged.

    Attributes:
        table: Its rows.
        codes_N: Place in :data:`REASONS` of why each row is dropped; 0: it is not.
        score_N: As stored.
        low_N: Likewise; None unless asked for.
        spread_N: Likewise.
        agreement_N: Likewise.
        asked: What was found of the elements; None unless asked for.
    """

    table: pa.Table
    codes_N: Codes
    score_N: NDArray[Any]
    low_N: NDArray[Any] | None = None
    spread_N: NDArray[Any] | None = None
    agreement_N: NDArray[Any] | None = None
    asked: Asked | None = None


@dataclass(frozen=True, slots=True)
class Criteria:
    """What is asked of each row.

    Attributes:
        options: What is kept.
        where: The table, for messages.
        n_members: Of the table; 0 unless members decide.
        voters: [V] places of the members of each.
        elements: What is asked of elements; None where they do not decide.
        needed: Columns that are looked at.
        seen: Types of elements, and how many rows have which named one.
    """

    options: Selection
    where: str
    n_members: int
    voters: tuple[tuple[int, ...], ...]
    elements: AskedElements | None
    needed: tuple[str, ...]
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, scored: ScoredTable, options: Selection) -> Self:
        """Checks that the table has what is asked for.

        Raises:
            ManifestError: it has not, with what gives it.
        """
        needed = ["sample_id", "status", "error_code", "error_message", "score"]
        names, where = scored.rows.schema.names, scored.where
        if options.min_low is not None:
            if scored.info is None or scored.info.ensemble is None or "score_low" not in names:
                raise ManifestError(
                    f"{where}: its scores have no interval (column 'score_low'), which --min-low "
                    f"goes by; an ensemble gives it: score with --ensemble, or `tokenfocus merge`"
                )
            needed.append("score_low")
        voters: tuple[tuple[int, ...], ...] = ()
        n_members = 0
        if options.max_spread is not None or options.min_agreement is not None:
            voters, n_members = _voters(scored, options)
            needed.append("member_scores")
        elements = None
        if options.asks_elements:
            elements = AskedElements.of(scored, options)
            needed += elements.needed
        return cls(options, where, n_members, voters, elements, tuple(needed))

    def judge(self, table: pa.Table, start: int) -> Judged:
        """The first reason of each row.

        Args:
            table: With the columns :attr:`needed`.
            start: Number of its first row.

        Raises:
            ManifestError: scores and their columns do not fit together.
        """
        options = self.options
        score_N: NDArray[Any] = table["score"].to_numpy()
        is_ok: Any = pc.equal(table["status"].cast(pa.string()), pa.scalar("ok"))
        status: Any = pc.fill_null(is_ok, False)
        codes_N: Codes = np.zeros(table.num_rows, np.int8)
        scored_N = status.to_numpy(zero_copy_only=False).astype(bool) & np.isfinite(score_N)
        _drop(codes_N, "unscored", ~scored_N)
        low_N = spread_N = agreement_N = asked = None
        if options.min_score is not None:
            _drop(codes_N, "min_score", ~_reaches(score_N, options.min_score))
        if options.min_low is not None:
            low_N = table["score_low"].to_numpy()
            _drop(codes_N, "min_low", ~_reaches(low_N, options.min_low))
        if self.voters:
            members_NM = self._members(table, scored_N, start)
            if options.max_spread is not None:
                spread_N = members_NM.max(axis=1) - members_NM.min(axis=1)
                _drop(codes_N, "max_spread", ~_reaches(-spread_N, -options.max_spread))
            if options.min_agreement is not None and options.min_score is not None:
                each = [members_NM[:, list(v)].mean(axis=1) for v in self.voters]
                votes_NV = _reaches(np.stack(each, axis=1), options.min_score)
                agreement_N = votes_NV.mean(axis=1)
                _drop(codes_N, "min_agreement", agreement_N < options.min_agreement)
        if self.elements is not None:
            asked = self.elements.ask(table, start, scored_N, self.seen)
            for reason in REASONS:
                if reason in asked.fails:
                    _drop(codes_N, reason, asked.fails[reason])
        return Judged(table, codes_N, score_N, low_N, spread_N, agreement_N, asked)

    def _members(self, table: pa.Table, scored_N: Bools, start: int) -> NDArray[Any]:
        """[N, M] the members' scores; NaN of unscored rows."""
        counts_N, flat = flat_lists(table["member_scores"])
        has_N = counts_N == self.n_members
        if (wrong := np.flatnonzero(scored_N & ~has_N)).size:
            at = int(wrong[0])
            raise ManifestError(
                f"{self.where}: row {start + at:,} has {counts_N[at]} member scores, and the table "
                f"{self.n_members} members; give the scores as they were written"
            )
        values = flat.to_numpy(zero_copy_only=False)
        members_NM = np.full((table.num_rows, self.n_members), np.nan, values.dtype)
        members_NM[has_N] = values[np.repeat(has_N, counts_N)].reshape(-1, self.n_members)
        return members_NM

    def check_seen(self) -> None:
        """Called once all rows were judged.

        Raises:
            ConfigError: no row has an element, or a type, that is asked for.
        """
        types = {name for kind, name in self.seen if kind == "type" and name}
        for wanted in self.options.element_types:
            if wanted.strip().casefold() not in types:
                known = did_you_mean(wanted, types) if types else "No element has a type."
                raise ConfigError(f"{self.where}: no element is of the type {wanted!r}. {known}")
        for wanted in self.options.elements:
            if not self.seen["element", wanted]:
                raise ConfigError(
                    f"{self.where}: no scored row has the element {wanted!r}; case and white space "
                    f"aside it must be the whole text of an element"
                )
        if self.options.elements_present and not any(kind == "type" for kind, _ in self.seen):
            raise ConfigError(
                f"{self.where}: no scored row has elements; `tokenfocus data elements` makes them "
                f"of prompts, and `tokenfocus score` scores them"
            )


def _drop(codes_N: Codes, reason: str, fails_N: Bools) -> None:
    """Notes a reason for rows that have none yet."""
    codes_N[fails_N & (codes_N == 0)] = CODES[reason]


def _reaches(values: NDArray[Any], least: float) -> Bools:
    """Whether numbers are at least as large, in their own precision; NaN is not.

    >>> import numpy as np
    >>> _reaches(np.array([3.1, np.nan], np.float32), 3.1).tolist()
    [True, False]
    """
    return np.asarray(values >= values.dtype.type(least))


def _voters(scored: ScoredTable, options: Selection) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Places of the members of each backbone; of each member, where there is one backbone."""
    option = "--max-spread" if options.max_spread is not None else "--min-agreement"
    info = ScoreTableInfo.of(scored.rows.schema, scored.where)
    if len(info.members) < 2:
        raise ManifestError(
            f"{scored.where}: has the scores of one member, {info.members[0]!r}, and {option} "
            f"compares several; score with several adapters or backbones"
        )
    if "member_scores" not in scored.rows.schema.names:
        raise ManifestError(
            f"{scored.where}: has no column 'member_scores', which {option} goes by; give the "
            f"scores as they were written"
        )
    places = info.places()
    return tuple(tuple(places[name]) for name in info.stacked()), len(info.members)
