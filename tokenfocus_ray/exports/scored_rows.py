"""The rows of a score table that have a score, a batch at a time, and what is seen on the way.

Legend: N rows, M members.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.exports.paths import ImagePaths
from tokenfocus_ray.tables.columns import FloatArray, numbers
from tokenfocus_ray.tables.prompts import prompt_key

#: Rows that are read at a time.
BATCH_ROWS = 16_384
_HELD = (
    "the manifest held the images themselves: their paths are written as they stand there, whether "
    "or not such files exist"
)
_KEY = pa.binary(16)


@dataclass(slots=True)
class Facts:
    """What was seen of a table.

    Attributes:
        rows: In all.
        unscored: Without a score, by reason.
        scored: With a score and a prompt.
        members: M; 0 where the table does not hold members' scores.
        radius: Half the width of the ensemble's intervals; NaN where there are none.
        spans: Whether each interval is the whole scale.
    """

    rows: int = 0
    unscored: dict[str, int] = field(default_factory=dict)
    scored: int = 0
    members: int = 0
    radius: float = math.nan
    spans: bool = True
    _ends: tuple[float, float] | None = None
    _sums: FloatArray = field(default_factory=lambda: np.zeros(5))

    def see(self, score_N: FloatArray, members_NM: FloatArray) -> None:
        """Takes note of how scores follow the members' means."""
        if members_NM.shape[1]:
            x_N, y_N = members_NM.mean(axis=1) - 3.0, score_N - 3.0
            sums = (len(x_N), x_N.sum(), y_N.sum(), (x_N * x_N).sum(), (x_N * y_N).sum())
            self._sums += np.array(sums)

    def see_intervals(self, score_N: FloatArray, low_N: FloatArray, high_N: FloatArray) -> None:
        """Takes note of intervals, which have one radius and are cut at the ends of the scale."""
        if not len(score_N):
            return
        widest = float(np.maximum(score_N - low_N, high_N - score_N).max())
        self.radius = widest if math.isnan(self.radius) else max(self.radius, widest)
        ends = float(low_N[0]), float(high_N[0])
        self._ends = self._ends or ends
        same = bool((low_N == self._ends[0]).all() and (high_N == self._ends[1]).all())
        self.spans = self.spans and same

    @property
    def slope(self) -> float:
        """Of the regression of score on the members' mean; 1 where the means do not vary."""
        n, x, y, xx, xy = self._sums.tolist()
        below = n * xx - x * x
        return 1.0 if below <= 1e-12 * n * n else abs((n * xy - x * y) / below)


class ScoredRows:
    """The rows that have a score and a prompt.

    Args:
        scored: The score table.
        needed: Further columns that are to travel along, as ``need_NAME``.
        by_path: Whether images are named by path, so that it matters where those lead.

    Attributes:
        facts: What was seen so far.
        notes: What is to be said of the images' paths.
        has_intervals: Whether the scores are an ensemble's, with intervals.
        schema: Of the rows: ``row, key`` (the prompt's hash), ``score, members, id, prompt, image,
            generator, seed``.
    """

    def __init__(
        self, scored: ScoredTable, *, needed: tuple[str, ...] = (), by_path: bool = True
    ) -> None:
        self.scored, self.needed = scored, needed
        if scored.columns.prompt is None:
            raise ManifestError(
                f"{scored.where}: has no column of prompts; name it with --map prompt=COLUMN"
            )
        self.paths, self.by_path = ImagePaths.of(scored), by_path
        self.notes: list[str] = []
        if by_path and scored.input is not None and scored.input.has_bytes:
            self.notes.append(_HELD)
        self.facts = Facts(members=_n_members(scored))
        info, names = scored.info, set(scored.rows.schema.names)
        is_ensembles = info is not None and info.ensemble is not None
        self.has_intervals = is_ensembles and {"score_low", "score_high"} <= names
        self.schema = self._schema()

    def _schema(self) -> pa.Schema:
        given, columns = self.scored.rows.schema, self.scored.columns
        fields: list[tuple[str, Any]] = [
            ("row", pa.int64()), ("key", _KEY), ("score", pa.float64()),
            ("members", pa.list_(pa.float32(), self.facts.members)),
            ("id", pa.string()), ("prompt", pa.string()), ("image", pa.string()),
        ]  # fmt: skip
        for name, column in (("generator", columns.generator), ("seed", columns.seed)):
            kind: Any = pa.string() if column is None else given.field(column).type
            fields.append((name, kind.value_type if pa.types.is_dictionary(kind) else kind))
        fields += [(f"need_{name}", given.field(name).type) for name in self.needed]
        return pa.schema(fields)

    def batches(self) -> Iterator[pa.Table]:
        """The rows, in their order.

        Raises:
            ManifestError: the table cannot be read, or a row has another number of members.
        """
        columns = self.scored.columns
        wanted = [
            "sample_id", "status", "error_code", "score", columns.prompt, columns.image_uri,
            columns.generator, columns.seed, *self.needed,
        ]  # fmt: skip
        wanted += ["member_scores"] if self.facts.members else []
        wanted += ["score_low", "score_high"] if self.has_intervals else []
        for table in self.scored.read(wanted, rows=BATCH_ROWS):
            if (kept := self._kept(table)) is not None:
                yield kept

    def _kept(self, table: pa.Table) -> pa.Table | None:
        """The rows with a score and a prompt; None where there are none."""
        facts, columns, first = self.facts, self.scored.columns, self.facts.rows
        facts.rows += table.num_rows
        paths: list[Any] = self._paths(table, first)
        score_N = numbers(table["score"])
        status: Any = table["status"].cast(pa.string())
        is_ok = pc.fill_null(pc.equal(status, pa.scalar("ok")), False)
        is_ok_N: NDArray[np.bool_] = is_ok.to_numpy(zero_copy_only=False) & np.isfinite(score_N)
        prompts: list[Any] = table[columns.prompt or ""].to_pylist()
        keys = [prompt_key(str(p)) if p is not None else "" for p in prompts]
        has_prompt_N = np.array([bool(key) for key in keys], np.bool_)
        self._count_unscored(table, is_ok_N, has_prompt_N)
        keep_N = np.flatnonzero(is_ok_N & has_prompt_N)
        if not len(keep_N):
            return None
        kept = table.take(keep_N)
        score_N, facts.scored = score_N[keep_N], facts.scored + len(keep_N)
        members_NM = self._members(kept, first, keep_N)
        facts.see(score_N, members_NM)
        if self.has_intervals:
            facts.see_intervals(score_N, numbers(kept["score_low"]), numbers(kept["score_high"]))
        digests = [_digest(keys[i]) for i in keep_N]
        arrays: dict[str, Any] = {
            "row": pa.array(first + keep_N),
            "key": pa.array(digests, _KEY),
            "score": pa.array(score_N),
            "members": pa.FixedSizeListArray.from_arrays(
                pa.array(members_NM.astype(np.float32).ravel()), facts.members
            ) if facts.members else pa.array([[]] * len(keep_N), pa.list_(pa.float32(), 0)),
            "id": kept["sample_id"].cast(pa.string()),
            "prompt": pa.array([str(prompts[i]) for i in keep_N], pa.string()),
            "image": pa.array([paths[i] for i in keep_N] if paths else [None] * len(keep_N),
                              pa.string()),
        }  # fmt: skip
        for name, column in (("generator", columns.generator), ("seed", columns.seed)):
            kind = self.schema.field(name).type
            arrays[name] = pa.nulls(len(keep_N), kind) if column is None else kept[column]
            if pa.types.is_floating(kind):  # whole numbers beside missing ones, as pandas has them
                missing = pc.is_nan(arrays[name])
                arrays[name] = pc.if_else(missing, pa.scalar(None, kind), arrays[name])
            arrays[name] = arrays[name].cast(kind)
        arrays |= {f"need_{name}": kept[name] for name in self.needed}
        return pa.table(arrays, schema=self.schema)

    def _paths(self, table: pa.Table, first: int) -> list[Any]:
        """Where the images of rows are; none where no column says it."""
        if (column := self.scored.columns.image_uri) is None:
            return []
        if self.by_path and not self.notes and (note := self.paths.unknown(table)):
            self.notes.append(note)
        found: list[Any] = self.paths.absolute(table.select([column]), first)[column].to_pylist()
        return [path if path is None else str(path) for path in found]

    def _count_unscored(
        self, table: pa.Table, is_ok_N: NDArray[np.bool_], has_prompt_N: NDArray[np.bool_]
    ) -> None:
        counts = self.facts.unscored
        if not is_ok_N.all():
            codes: list[Any] = table["error_code"].filter(pa.array(~is_ok_N)).to_pylist()
            for code in codes:
                name = str(code) if code is not None else "score_not_finite"
                counts[name] = counts.get(name, 0) + 1
        if n := int((is_ok_N & ~has_prompt_N).sum()):
            counts["prompt_empty"] = counts.get("prompt_empty", 0) + n

    def _members(self, kept: pa.Table, first: int, keep_N: NDArray[np.int64]) -> FloatArray:
        """[N, M] the members' scores."""
        n_members = self.facts.members
        if not n_members:
            return np.empty((len(keep_N), 0))
        lists: Any = kept["member_scores"].combine_chunks()
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        if (wrong := np.flatnonzero(lengths != n_members)).size:
            at = wrong[0]
            raise ManifestError(
                f"{self.scored.where}: row {first + keep_N[at]:,} has the scores of {lengths[at]} "
                f"members, and the table has {n_members}; give the scores as they were written"
            )
        found: FloatArray = numbers(pa.chunked_array([lists.flatten()])).reshape(-1, n_members)
        if not np.isfinite(found).all():
            at = np.flatnonzero(~np.isfinite(found).all(axis=1))[0]
            raise ManifestError(
                f"{self.scored.where}: row {first + keep_N[at]:,} is scored, and a member's score "
                f"of it is no number; score it again with --retry-unscored"
            )
        return found


def _n_members(scored: ScoredTable) -> int:
    if "member_scores" not in scored.rows.schema.names:
        return 0
    if scored.info is not None:
        return len(scored.info.members)
    for table in scored.read(["member_scores"]):
        lengths: list[Any] = pc.list_value_length(table["member_scores"]).to_pylist()
        if longest := max((n or 0 for n in lengths), default=0):
            return longest
    return 0


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def member_matrix(table: pa.Table) -> FloatArray:
    """[N, M] the members' scores of rows that were put aside."""
    lists: Any = table["members"].combine_chunks()
    found: FloatArray = np.asarray(lists.flatten().to_numpy(zero_copy_only=False), np.float64)
    return found.reshape(table.num_rows, lists.type.list_size)
