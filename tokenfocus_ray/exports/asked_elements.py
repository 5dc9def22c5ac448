"""Which rows are dropped for their elements, a batch of rows at a time.

Legend: N rows of a batch, S scored rows of it, E elements of all of these together.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokenfocus_ray.config.selection import Selection
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.errors import ManifestError, shown
from tokenfocus_ray.tables.dependencies import with_parents
from tokenfocus_ray.tables.element_lists import ElementLists, element_lists, flat_lists
from tokenfocus_ray.tables.prompts import prompt_key

#: From which score on an element is present where no ensemble says: the same as in the figures of
#: `tokenfocus evaluate`.
DEFAULT_THRESHOLD = 0.5

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was found of a batch's elements.

    Attributes:
        fails: Criterion -> [N] whether a row fails it.
        rows_S: Numbers of the scored rows in the batch.
        lists: [S] their elements.
        scores_E: As stored.
        own_E: Whether each reaches the threshold itself.
        wrong: Criterion -> [E] whether an element fails it.
    """

    fails: dict[str, Bools]
    rows_S: NDArray[np.int64]
    lists: ElementLists
    scores_E: NDArray[Any]
    own_E: Bools
    wrong: dict[str, Bools]


@dataclass(frozen=True, slots=True)
class AskedElements:
    """What is asked of elements.

    Attributes:
        options: What is kept.
        where: The table, for messages.
        column: Of the elements.
        parents: Of what each depends on; None unless that counts.
        decided: Whether the ensemble's decisions are there and count.
        threshold: From which score on an element is present.
    """

    options: Selection
    where: str
    column: str
    parents: str | None
    decided: bool
    threshold: float

    @classmethod
    def of(cls, scored: ScoredTable, options: Selection) -> Self:
        """Checks that the table has what is asked for.

        Raises:
            ManifestError: it has not, with what gives it.
        """
        column, parents = scored.columns.elements, scored.columns.element_parents
        if column is None:
            raise ManifestError(
                f"{scored.where}: has no column of elements; name it with --map elements=COLUMN, "
                f"or make elements with `tokenfocus data elements` and score them"
            )
        if options.dependencies and parents is None:
            raise ManifestError(
                f"{scored.where}: has no column 'element_parents', which --dependencies goes by; "
                f"name it with --map element_parents=COLUMN (for each element, the places of those "
                f"that it depends on)"
            )
        ensemble = None if scored.info is None else scored.info.ensemble
        known = None if ensemble is None else ensemble.element_threshold
        threshold = options.element_threshold
        return cls(
            options,
            scored.where,
            column,
            parents if options.dependencies else None,
            threshold is None and known is not None
            and "element_present" in scored.rows.schema.names,
            next(t for t in (threshold, known, DEFAULT_THRESHOLD) if t is not None),
        )  # fmt: skip

    @property
    def needed(self) -> list[str]:
        """Columns that are looked at."""
        more = ["element_present"] if self.decided else []
        return [self.column, "element_scores", *more, *([self.parents] if self.parents else [])]

    def ask(
        self, table: pa.Table, start: int, scored_N: Bools, seen: Counter[tuple[str, str]]
    ) -> Asked:
        """What the scored rows' elements say.

        Args:
            table: With the columns :attr:`needed`.
            start: Number of its first row.
            scored_N: Which rows have scores.
            seen: Takes the types of elements, and which named elements rows have.

        Raises:
            ManifestError: elements cannot be read, or are not those that were scored.
        """
        rows_S = np.flatnonzero(scored_N)
        own = table.select(self.needed).filter(pa.array(scored_N))
        try:
            lists = element_lists(own[self.column])
        except ValueError as error:
            raise ManifestError(
                f"{self.where}: column {self.column!r}, rows from {start:,} on: {error}; name the "
                f"column of the elements that were scored with --map elements=COLUMN"
            ) from None
        scores_E = self._aligned(own, "element_scores", lists, start + rows_S)
        if self.decided:
            present_E = self._aligned(own, "element_present", lists, start + rows_S).astype(bool)
        else:
            present_E = scores_E >= scores_E.dtype.type(self.threshold)
        found_E = self._with_parents(own, lists, present_E, start + rows_S)
        options, fails, wrong = self.options, dict[str, Bools](), dict[str, Bools]()
        types, type_E = _folded(lists.types, lambda t: t.casefold())
        seen.update({("type", name): 1 for name in types})
        n_rows, rows_E = len(rows_S), lists.rows_E

        def drop(reason: str, wrong_E: Bools, lacks_S: Bools | None = None) -> None:
            bad_S = np.bincount(rows_E[wrong_E], minlength=n_rows) > 0
            bad_S = bad_S if lacks_S is None else bad_S | lacks_S
            wrong[reason] = wrong_E | wrong.get(reason, np.zeros_like(wrong_E))
            fails[reason] = np.zeros(len(scored_N), bool) | fails.get(reason, False)
            fails[reason][rows_S[bad_S]] = True

        if options.elements_present:
            drop("elements_present", ~found_E, lists.counts_N == 0)
        for name in options.element_types:
            is_meant = [t == name.strip().casefold() for t in types]
            drop("element_type", np.array([*is_meant, False])[type_E] & ~found_E)
        if options.elements:
            texts, text_E = _folded(lists.texts, prompt_key)
            for name in options.elements:
                meant_E = np.array([*(t == prompt_key(name) for t in texts), False])[text_E]
                has_S = np.bincount(rows_E[meant_E], minlength=n_rows) > 0
                seen["element", name] += int(has_S.sum())
                drop("element", meant_E & ~found_E, ~has_S)
        return Asked(fails, rows_S, lists, scores_E, present_E, wrong)

    def _aligned(
        self, own: pa.Table, name: str, lists: ElementLists, numbers_S: NDArray[np.int64]
    ) -> NDArray[Any]:
        counts_N, flat = flat_lists(own[name])
        if (wrong := np.flatnonzero(counts_N != lists.counts_N)).size:
            at = int(wrong[0])
            raise ManifestError(
                f"{self.where}: row {numbers_S[at]:,} has {lists.counts_N[at]} elements in column "
                f"{self.column!r} and {counts_N[at]} {name}; name the column of the elements that "
                f"were scored with --map elements=COLUMN"
            )
        if pa.types.is_boolean(flat.type):
            return np.asarray(flat.fill_null(False).to_numpy(zero_copy_only=False))
        values: NDArray[Any] = flat.to_numpy(zero_copy_only=False)
        return values

    def _with_parents(
        self, own: pa.Table, lists: ElementLists, present_E: Bools, numbers_S: NDArray[np.int64]
    ) -> Bools:
        """[E] whether each is there, and all that it depends on."""
        if self.parents is None:
            return present_E
        found_E, stops = present_E.copy(), np.cumsum(lists.counts_N)
        values: list[Any] = own[self.parents].to_pylist()
        for s, value in enumerate(values):
            try:
                parents = json.loads(value) if isinstance(value, str) else value
                if parents and any(parents):
                    at = slice(stops[s] - lists.counts_N[s], stops[s])
                    found_E[at] = np.array(with_parents(present_E[at].tolist(), parents)) > 0
            except (ValueError, TypeError) as error:
                raise ManifestError(
                    f"{self.where}: row {numbers_S[s]:,}, column {self.parents!r}: {error}, got "
                    f"{shown(value)}; wanted for each element a list of the places, from 0 on, of "
                    f"those that it depends on"
                ) from None
        return found_E

    def first_wrong(self, asked: Asked, reason: str) -> dict[int, str]:
        """Row of the batch -> what is wrong with its elements, for all rows that fail.

        Args:
            asked: Of the batch.
            reason: One of its criteria.
        """
        wrong_E = np.flatnonzero(asked.wrong[reason])
        rows_E = asked.lists.rows_E[wrong_E]
        rows, first, counts = np.unique(rows_E, return_index=True, return_counts=True)
        at = wrong_E[first]
        texts, types = (v.take(at).to_pylist() for v in (asked.lists.texts, asked.lists.types))
        found: dict[int, str] = {}
        for s, e, text, kind, n in zip(
            rows.tolist(), wrong_E[first].tolist(), texts, types, counts.tolist(), strict=True
        ):
            score = f"scores {asked.scores_E[e]:.6g}"
            why = "and what it depends on is absent" if asked.own_E[e] else self._below()
            more = f"; {n - 1} more likewise" if n > 1 else ""
            label = f"{text!r} ({kind})" if kind else repr(text)
            found[int(asked.rows_S[s])] = f"element {label} {score}, {why}{more}"
        return found

    def _below(self) -> str:
        if self.decided:
            return f"absent by the ensemble's threshold of {self.threshold:.4g}"
        return f"below {self.threshold:.4g}"


def _folded(values: Any, fold: Any) -> tuple[list[str], NDArray[np.int64]]:
    """Different values, folded, and each value's place among them."""
    encoded: Any = values.dictionary_encode()
    folded = [fold(value) for value in encoded.dictionary.to_pylist()]
    places: NDArray[np.int64] = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return folded, places
