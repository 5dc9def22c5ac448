"""A selection: every row of a score table is kept, or dropped for one reason.

Rows are read once where each is judged by itself; where they are ranked, first a few narrow columns
of all, then the whole rows. So a table of any size needs the memory of a batch of rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokenfocus_ray.config.selection import Selection
from tokenfocus_ray.datasets.scored import BATCH_ROWS, ScoredTable
from tokenfocus_ray.errors import ManifestError, did_you_mean
from tokenfocus_ray.exports.criteria import CODES, Criteria, Judged
from tokenfocus_ray.exports.ranking import SCHEMA, SEPARATOR, Ranking, prompt_hashes, ranking
from tokenfocus_ray.exports.reasons import explain
from tokenfocus_ray.progress import Pace, Watch
from tokenfocus_ray.tables.element_lists import element_lists

#: What ``balance`` may name beside columns.
GROUPS = ("generator", "prompt_type", "element_type")
#: Types of Arrow whose values name groups.
_NAMES = (
    "is_string", "is_large_string", "is_string_view", "is_integer", "is_boolean", "is_null",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chosen:
    """A batch of rows, each kept or dropped.

    Attributes:
        start: Number of the first row.
        table: The rows.
        kept_N: Which are kept.
        reasons: Of the dropped ones, in order.
        messages: Likewise.
    """

    start: int
    table: pa.Table
    kept_N: NDArray[np.bool_]
    reasons: list[str]
    messages: list[str]


@dataclass(slots=True)
class Counts:
    """What a selection did; rows are kept or dropped, and nothing else.

    Attributes:
        rows: Rows of the table.
        kept: Rows that were kept.
        dropped: Reason -> rows that were dropped, most frequent first.
        notes: What is worth saying.
    """

    rows: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def count(self, chosen: Chosen) -> None:
        """Adds a batch."""
        self.rows += chosen.table.num_rows
        self.kept += int(chosen.kept_N.sum())
        self.dropped.update(chosen.reasons)


def choose(
    scored: ScoredTable,
    options: Selection,
    counts: Counts,
    watch: Watch,
    columns: list[str] | None = None,
) -> Iterator[Chosen]:
    """Decides about all rows, in their order.

    Args:
        scored: The score table.
        options: What is kept.
        counts: Takes what was done.
        watch: Is told where it stands.
        columns: To read; None: all. Those that decide are read in any case.

    Raises:
        ManifestError: the table lacks what is asked for, or cannot be read.
        ConfigError: no row has an element that is named.
    """
    criteria = Criteria.of(scored, options)
    group = group_column(scored, options.balance)
    if options.best_of is not None and scored.columns.prompt is None:
        raise ManifestError(
            f"{scored.where}: has no column of prompts, which --best-of goes by; name it with "
            f"--map prompt=COLUMN"
        )
    with ExitStack() as stack:
        ranks: Ranking | None = None
        if options.ranks:
            ranks = stack.enter_context(ranking(options, group == "element_type", scored.n_rows))
            _rank(scored, criteria, group, ranks, watch)
            criteria.check_seen()
            ranks.rank()
            counts.notes += ranks.notes
        decisions = _Decisions(ranks)
        wanted = None if columns is None else [*dict.fromkeys([*columns, *criteria.needed])]
        pace, start = Pace(), 0
        for table in scored.read(wanted, rows=BATCH_ROWS):
            judged = criteria.judge(table, start)
            ranked = decisions.until(start, start + table.num_rows)
            for row, fact in ranked.items():
                judged.codes_N[row] = CODES[fact["reason"]]
            chosen = _chosen(start, criteria, judged, ranks, ranked)
            counts.count(chosen)
            yield chosen
            start += table.num_rows
            pace.count({"rows": table.num_rows})
            watch(pace.progress("selecting", scored.n_rows))
        criteria.check_seen()
    assert counts.rows == scored.n_rows == counts.kept + counts.dropped.total()


def _chosen(
    start: int,
    criteria: Criteria,
    judged: Judged,
    ranks: Ranking | None,
    ranked: Mapping[int, dict[str, Any]],
) -> Chosen:
    reasons, messages = explain(criteria, judged, ranks, dict(ranked))
    return Chosen(start, judged.table, judged.codes_N == 0, reasons, messages)


class _Decisions:
    """What a ranking drops, in the order of the rows."""

    def __init__(self, ranks: Ranking | None) -> None:
        self._batches = iter(()) if ranks is None else ranks.decisions()
        self._waiting: list[pa.RecordBatch] = []

    def until(self, start: int, stop: int) -> dict[int, dict[str, Any]]:
        """Those of some rows, by place from ``start`` on; called for rising rows."""
        found: dict[int, dict[str, Any]] = {}
        while True:
            if not self._waiting:
                batch = next(self._batches, None)
                if batch is None:
                    return found
                self._waiting = [batch] if batch.num_rows else []
                continue
            (batch,) = self._waiting
            n = int(np.searchsorted(batch.column(0).to_numpy(), stop))
            for fact in batch.slice(0, n).to_pylist():
                found[fact["row"] - start] = fact
            if n < batch.num_rows:
                self._waiting = [batch.slice(n)]
                return found
            self._waiting = []


def group_column(scored: ScoredTable, name: str | None) -> str | None:
    """The column that ``balance`` means; ``element_type`` where a row's elements are meant.

    Raises:
        ManifestError: there is no such column, or its values are no names.
    """
    if name is None:
        return None
    schema, columns = scored.rows.schema, scored.columns
    roles = {"generator": columns.generator, "prompt_type": columns.prompt_type}
    found = name if name in schema.names else roles.get(name)
    if found is None and name == "element_type" and columns.elements is not None:
        return name
    if found is None:
        raise ManifestError(
            f"{scored.where}: --balance {name}: no such column. "
            f"{did_you_mean(name, {*schema.names, *GROUPS})}"
        )
    kind: Any = schema.field(found).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(getattr(pa.types, test)(kind) for test in _NAMES):
        raise ManifestError(
            f"{scored.where}: --balance {name}: column {found!r} is of type {kind}; wanted text, "
            f"whole numbers or booleans, whose values name groups"
        )
    return found


def _rank(
    scored: ScoredTable, criteria: Criteria, group: str | None, ranks: Ranking, watch: Watch
) -> None:
    """Reads what rows are ranked by, of those that pass."""
    options, columns = criteria.options, scored.columns
    prompt = columns.prompt if options.best_of is not None else None
    by = columns.elements if ranks.by_types else group
    names = [n for n in (*criteria.needed, prompt, by) if n is not None]
    pace, start = Pace(), 0
    for table in scored.read(names, rows=4 * BATCH_ROWS):
        judged = criteria.judge(table, start)
        alive = np.flatnonzero(judged.codes_N == 0)
        own = table.take(alive)
        rows: dict[str, Any] = {
            "row": alive + start,
            "id": own["sample_id"].cast(pa.string()),
            "score": judged.score_N[alive].astype(np.float64),
        }
        if prompt is not None:
            text = table[prompt].cast(pa.string()).combine_chunks()
            high, low = prompt_hashes(text, start)
            rows |= {"prompt_high": high[alive], "prompt_low": low[alive]}
        if by is not None and ranks.by_types:
            rows["grp"] = _type_sets(own[by])
        elif by is not None:
            rows["grp"] = own[by].cast(pa.string())
        null = {f.name: pa.nulls(len(alive), f.type) for f in SCHEMA if f.name not in rows}
        ranks.add(pa.table({name: (rows | null)[name] for name in SCHEMA.names}, schema=SCHEMA))
        start += table.num_rows
        pace.count({"rows": table.num_rows})
        watch(pace.progress("looking at scores", scored.n_rows))


def _type_sets(column: Any) -> list[str | None]:
    """[N] the types of each row's elements, sorted and joined; None without any."""
    lists = element_lists(column)
    types: list[Any] = lists.types.to_pylist()
    stops = np.cumsum(lists.counts_N).tolist()
    found: list[str | None] = []
    for n, stop in zip(lists.counts_N.tolist(), stops, strict=True):
        own: list[str] = sorted({t for t in types[stop - n : stop] if t})
        found.append(SEPARATOR.join(own) if own else None)
    return found
