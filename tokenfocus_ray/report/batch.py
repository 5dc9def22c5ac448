"""A few rows of a score table as arrays, however its columns are typed.

Legend: N rows, E elements of them together.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tokenfocus_ray.datasets.scored import ScoredColumns, ScoredTable
from tokenfocus_ray.report.binned import Kind
from tokenfocus_ray.report.picked import HashArray, IntArray, hashes
from tokenfocus_ray.schema import parse_elements
from tokenfocus_ray.tables.columns import FloatArray, numbers
from tokenfocus_ray.tables.dependencies import with_parents
from tokenfocus_ray.tables.prompts import prompt_group

#: Prompts are dealt into so many groups by their hash; intervals resample these.
GROUPS = 256
#: What rows may have wrong with them, which the page tells with their number.
UNREADABLE = "scored rows have elements that cannot be read"
UNEQUAL = "scored rows have other numbers of elements and element scores"
CIRCULAR = "scored rows have element parents that cannot be read, so that none of them counts"

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Elements:
    """Of the scored rows.

    Attributes:
        rows_E: Place of each one's row in the batch.
        kinds_E: Number of each one's type.
        kinds: The types; empty text of elements without.
        scores_E: NaN where unknown.
    """

    rows_E: IntArray
    kinds_E: IntArray
    kinds: list[str]
    scores_E: FloatArray


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows.

    Attributes:
        table: As it was read.
        columns: Which of its columns is what.
        start: Number of the first row.
        hashes_N: Of the sample ids.
        scores_N: NaN where there is none.
    """

    table: pa.Table
    columns: ScoredColumns
    start: int
    hashes_N: HashArray
    scores_N: FloatArray

    @classmethod
    def of(cls, table: pa.Table, columns: ScoredColumns, start: int) -> Self:
        """Takes rows; arguments as the attributes."""
        scores_N = numbers(table["score"])
        ok_N = np.array([status == "ok" for status in texts(table["status"])], np.bool_)
        scores_N = np.where(ok_N, scores_N, np.nan)
        return cls(table, columns, start, hashes(texts(table["sample_id"])), scores_N)

    @property
    def rows_N(self) -> IntArray:
        """Numbers of the rows."""
        return self.start + np.arange(self.table.num_rows)

    @property
    def kind(self) -> Kind:
        """How scores are kept."""
        return (
            np.float32 if pa.types.is_float32(self.table.schema.field("score").type) else np.float64
        )

    @property
    def scored_N(self) -> BoolArray:
        """Whether a row has a score."""
        found: BoolArray = np.isfinite(self.scores_N)
        return found

    def codes(self) -> tuple[list[str], list[str]]:
        """Code and message of each row without a score, in their order."""
        bare = self.table.filter(pa.array(~self.scored_N))
        each = zip(texts(bare["error_code"]), texts(bare["error_message"]), strict=True)
        pairs = [(code or "score_not_finite", message or "") for code, message in each]
        return [code for code, _ in pairs], [message for _, message in pairs]

    def makers(self) -> tuple[IntArray, list[str]]:
        """[N] number of each row's generator, and their names; empty where it is not known."""
        return _numbered(self._texts(self.columns.generator))

    def maker_names_N(self) -> NDArray[np.object_]:
        """[N] each row's generator."""
        numbers_N, names = self.makers()
        return np.array([*names, ""], object)[numbers_N]

    def groups_N(self) -> IntArray:
        """[N] group of each row's prompt, below :data:`GROUPS`; without a prompt one by chance."""
        numbers_N, prompts = _numbered(self._texts(self.columns.prompt))
        of_prompts = np.array(
            [zlib.crc32(prompt_group(p).encode("utf-8", "surrogatepass")) for p in prompts]
        )
        known_N = np.array([bool(p) for p in prompts], np.bool_)[numbers_N]
        found_N = np.where(known_N, of_prompts[numbers_N], self.hashes_N % np.uint64(2**31))
        return found_N.astype(np.int64) % GROUPS

    def disagreement_N(self) -> FloatArray:
        """[N] standard deviation of the members' scores; NaN where fewer than two scored."""
        n = self.table.num_rows
        if "member_scores" not in self.table.column_names:
            return np.full(n, np.nan)
        flat, owners_N = _flat(self.table["member_scores"])
        values = numbers(flat)
        known = np.isfinite(values)
        values, owners_N = values[known], owners_N[known]
        counts_N = np.bincount(owners_N, minlength=n)
        several_N = (counts_N > 1) & self.scored_N
        with np.errstate(invalid="ignore", divide="ignore"):
            means_N = np.bincount(owners_N, values, n) / counts_N
            squares_N = np.bincount(owners_N, (values - means_N[owners_N]) ** 2, n) / counts_N
        return np.where(several_N, np.sqrt(squares_N), np.nan)

    def elements(self, *, dependencies: bool) -> tuple[Elements, Counter[str]]:
        """Elements of the scored rows, and how many rows have none that can be used, and why.

        Args:
            dependencies: Whether an element is as weak as those that it depends on.
        """
        name = self.columns.elements
        if name is None:
            return Elements(_INTS, _INTS, [], np.zeros(0)), Counter()
        places = np.flatnonzero(self.scored_N)
        table = self.table.filter(pa.array(self.scored_N))
        parents = self.columns.element_parents if dependencies else None
        if parents is None and _is_plain(table.schema.field(name).type):
            return self._plain_elements(table, places, name)
        return self._parsed_elements(table, places, name, parents)

    def _plain_elements(
        self, table: pa.Table, places: IntArray, name: str
    ) -> tuple[Elements, Counter[str]]:
        """Of lists of structs, as jobs of this package write them: no row is looked at alone."""
        lengths = [
            pc.fill_null(pc.list_value_length(table[column]), 0).to_numpy()
            for column in (name, "element_scores")
        ]
        equal = lengths[0] == lengths[1]
        problems = Counter({UNEQUAL: int((~equal & (lengths[0] > 0)).sum())})
        is_equal: Any = pa.array(equal)
        table, places = table.filter(is_equal), places[equal]
        flat, owners = _flat(table[name])
        kinds: Any = pc.struct_field(flat, "type")
        kinds_E, names = _numbered(texts(kinds))
        scores_E = numbers(_flat(table["element_scores"])[0])
        return Elements(places[owners], kinds_E, names, scores_E), +problems

    def _parsed_elements(
        self, table: pa.Table, places: IntArray, name: str, parents: str | None
    ) -> tuple[Elements, Counter[str]]:
        problems: Counter[str] = Counter()
        owners: list[int] = []
        kinds: list[str | None] = []
        scores: list[float] = []
        above = table[parents].to_pylist() if parents else [None] * table.num_rows
        each = zip(
            places, plain_values(table[name]), table["element_scores"].to_pylist(), above,
            strict=True,
        )  # fmt: skip
        for place, value, own, on in each:
            found, values, problem = row_elements(value, own, on)
            problems.update([problem] if problem else [])
            owners += [place] * len(found)
            kinds += [kind for _, kind in found]
            scores += values
        kinds_E, names = _numbered(kinds)
        return Elements(np.array(owners, np.int64), kinds_E, names, np.array(scores)), problems

    def _texts(self, name: str | None) -> list[str | None]:
        return [None] * self.table.num_rows if name is None else texts(self.table[name])


_INTS = np.zeros(0, np.int64)


def row_elements(
    value: Any, scores: Sequence[float | None] | None, parents: Any = None
) -> tuple[list[tuple[str, str]], list[float], str | None]:
    """Text and type of a row's elements, their scores, and what is wrong with them.

    Args:
        value: Elements in any form that :func:`~tokenfocus_ray.schema.parse_elements` reads.
        scores: [E] of the row.
        parents: As for :func:`~tokenfocus_ray.tables.dependencies.with_parents`; None: no matter.
    """
    try:
        found = [(one.text, one.type) for one in parse_elements(value) or ()]
    except ValueError:
        return [], [], UNREADABLE
    own = [math.nan if score is None else float(score) for score in scores or ()]
    if len(found) != len(own):
        return [], [], UNEQUAL if found else None
    if parents is None:
        return found, own, None
    try:
        return found, with_parents(own, parents), None
    except (ValueError, TypeError, RecursionError):
        return found, own, CIRCULAR


def needed_columns(scored: ScoredTable) -> list[str | None]:
    """What :class:`Batch` reads of a table."""
    names, roles = scored.rows.schema.names, scored.columns
    return [
        "sample_id", "status", "error_code", "error_message", "score", "element_scores",
        "member_scores" if "member_scores" in names else None,
        roles.prompt, roles.elements, roles.element_parents, roles.generator,
    ]  # fmt: skip


def plain_values(column: Any) -> list[Any]:
    """The column as Python values; text that is not UTF-8 as escapes, rather than an error."""
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            return [None] * len(column)
        values = column.cast(pa.binary()).to_pylist()
    return [v.decode(errors="backslashreplace") if isinstance(v, bytes) else v for v in values]


def texts(column: Any) -> list[str | None]:
    """Likewise, as text: numbers and lists as Python writes them."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return [
        None if v is None else v if isinstance(v, str) else str(v) for v in plain_values(column)
    ]


def _numbered(values: Sequence[str | None]) -> tuple[IntArray, list[str]]:
    """[N] number of each text, and the different texts; None is the empty one."""
    known: dict[str, int] = {}
    numbers_N = np.array([known.setdefault(v or "", len(known)) for v in values], np.int64)
    return numbers_N, list(known)


def _is_plain(kind: Any) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    inner = kind.value_type
    return pa.types.is_struct(inner) and inner.get_field_index("type") >= 0


def _flat(column: Any) -> tuple[Any, IntArray]:
    """Entries of lists, one after another, and the place of each one's list."""
    one = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    owners: Any = pc.list_parent_indices(one)
    flat: Any = pc.list_flatten(one)
    return pa.chunked_array([flat]), owners.to_numpy().astype(np.int64)
