"""What Ray's tasks do for a page: summarise rows, and make what it shows of a few of them.

Summaries come back pickled, in a column of bytes: they are of bounded size whatever the rows.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import pyarrow as pa

from tokenfocus_ray.datasets.scored import BATCH_ROWS, ScoredTable
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.report.batch import Batch, needed_columns
from tokenfocus_ray.report.binned import Binned
from tokenfocus_ray.report.cards import detail_columns, details, no_thumbnail, thumbnail
from tokenfocus_ray.report.runs import Narrow, Runs
from tokenfocus_ray.report.summary import Summary
from tokenfocus_ray.scoring.originals import ROW, Originals

#: Rows of a task.
PART_ROWS = 65_536

#: A summary of one kind or another, and the scores of all rows that it is of.
WithScores: TypeAlias = tuple[Any, Binned]


def ranges(scored: ScoredTable) -> list[pa.Table]:
    """All rows of a table, a block a task."""
    n = scored.n_rows
    starts = range(0, n, PART_ROWS)
    return [pa.table({"start": [at], "stop": [min(n, at + PART_ROWS)]}) for at in starts]


@dataclass(frozen=True, slots=True)
class SummariseRows:
    """Rows -> their :class:`~tokenfocus_ray.report.summary.Summary`.

    Attributes:
        scored: The table.
        threshold: From which score on an element is present.
        dependencies: Whether elements fail with those that they depend on.
    """

    scored: ScoredTable
    threshold: float
    dependencies: bool

    def __call__(self, block: pa.Table) -> pa.Table:
        """Reads and summarises."""
        start, stop = _range(block)
        names = needed_columns(self.scored)
        parts = (
            Summary.of(own, self.threshold, dependencies=self.dependencies)
            for own in _batches(self.scored, names, start, stop)
        )
        return _packed(reduce(Summary.merged, parts), stop - start)


@dataclass(frozen=True, slots=True)
class CompareRows:
    """Rows of two tables that stand side by side -> how they differ; None where they do not.

    Attributes:
        first: The table.
        second: The other.
    """

    first: ScoredTable
    second: ScoredTable

    def __call__(self, block: pa.Table) -> pa.Table:
        """Reads and compares."""
        start, stop = _range(block)
        found: list[WithScores] = []
        tables = (self.first, self.second)
        both = (_batches(own, _narrow_columns(own), start, stop) for own in tables)
        for a, b in zip(*both, strict=True):
            if (a.hashes_N != b.hashes_N).any():
                return _packed(None, stop - start)
            runs = Runs.of(
                a.hashes_N, a.rows_N, a.scores_N, b.scores_N, a.groups_N(), a.maker_names_N()
            )
            found.append((runs, Binned.of(b.scores_N[b.scored_N])))
        return _packed(reduce(both_merged, found), stop - start)


@dataclass(frozen=True, slots=True)
class SampleRows:
    """Rows -> those of them that are looked for in another table.

    Attributes:
        scored: The table.
    """

    scored: ScoredTable

    def __call__(self, block: pa.Table) -> pa.Table:
        """Reads and picks."""
        start, stop = _range(block)
        parts = (
            (Narrow.of(own), Binned.of(own.scores_N[own.scored_N]))
            for own in _batches(self.scored, _narrow_columns(self.scored), start, stop)
        )
        return _packed(reduce(both_merged, parts), stop - start)


@dataclass(frozen=True, slots=True)
class MakeCards:
    """Numbers of rows -> what the page shows of them, with their images.

    Attributes:
        scored: The table.
        originals: Its images; or why there are none.
        threshold: From which score on an element is present.
        dependencies: Whether elements fail with those that they depend on.
        image_bytes: Of a small image, at the most.
    """

    scored: ScoredTable
    originals: Originals | str
    threshold: float
    dependencies: bool
    image_bytes: int

    def __call__(self, block: pa.Table) -> pa.Table:
        """Reads rows and images."""
        numbers: list[Any] = block["numbers"].to_pylist()
        needed = () if isinstance(self.originals, str) else self.originals.needed
        names = list(dict.fromkeys([*detail_columns(self.scored), *needed]))
        cards: dict[int, dict[str, Any]] = {}
        found: list[pa.Table] = []
        for own, table in _rows(self.scored, names, numbers[0]):
            each = details(table, self.scored, self.threshold, dependencies=self.dependencies)
            cards |= dict(zip(own, each, strict=True))
            found.append(table.select(list(needed)).append_column(ROW, pa.array(own)))
        thumbs = self._thumbnails(pa.concat_tables(found).replace_schema_metadata(None))
        made = [{"row": row, **card, "thumb": thumbs[row]} for row, card in cards.items()]
        return pa.table({"card": [json.dumps(card) for card in made], "rows": [1] * len(made)})

    def _thumbnails(self, rows: pa.Table) -> dict[int, dict[str, Any]]:
        numbers: list[Any] = rows[ROW].to_pylist()
        if isinstance(self.originals, str):
            return dict.fromkeys(numbers, no_thumbnail("unknown", self.originals))
        made: dict[int, dict[str, Any]] = {}
        try:
            for row, image in self.originals.read(rows):
                made[row] = thumbnail(image, self.image_bytes)
        except ManifestError as error:  # the page tells it in place of the images
            return dict.fromkeys(numbers, no_thumbnail("manifest", str(error))) | made
        return made


def unpacked(tables: Iterable[pa.Table]) -> Iterator[Any]:
    """What tasks of ours packed on this cluster, a moment ago."""
    for table in tables:
        parts: list[Any] = table["part"].to_pylist()
        yield from map(pickle.loads, parts)


def both_merged(one: WithScores, other: WithScores) -> WithScores:
    """Each with its like."""
    return one[0].merged(other[0]), one[1].merged(other[1])


def _packed(part: Any, rows: int) -> pa.Table:
    return pa.table({"part": pa.array([pickle.dumps(part)], pa.binary()), "rows": [rows]})


def _range(block: pa.Table) -> tuple[int, int]:
    (found,) = block.to_pylist()
    return found["start"], found["stop"]


def _narrow_columns(scored: ScoredTable) -> list[str | None]:
    return ["sample_id", "status", "score", scored.columns.prompt, scored.columns.generator]


def _batches(
    scored: ScoredTable, names: Sequence[str | None], start: int, stop: int
) -> Iterator[Batch]:
    for table in scored.read(names, start, stop):
        yield Batch.of(table, scored.columns, start)
        start += table.num_rows


def _rows(
    scored: ScoredTable, names: Sequence[str | None], numbers: Sequence[int]
) -> Iterator[tuple[list[int], pa.Table]]:
    """Some rows; what lies between those that are far from each other is not read."""
    groups: list[list[int]] = []
    for number in numbers:
        if not groups or number - groups[-1][-1] > 2 * BATCH_ROWS:
            groups.append([])
        groups[-1].append(number)
    for group in groups:
        start = group[0]
        for table in scored.read(names, start, group[-1] + 1):
            here = [number for number in group if start <= number < start + table.num_rows]
            if here:
                yield here, table.take([number - start for number in here])
            start += table.num_rows
