"""Applies an ensemble to tables of scores; rows do not depend on each other.

Legend: N rows, F feature columns, E elements of all rows together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tokenfocus_ray.ensemble.bundle import Ensemble
from tokenfocus_ray.ensemble.inputs import ScoreColumns
from tokenfocus_ray.errors import ConfigError, ManifestError, did_you_mean
from tokenfocus_ray.schema import ENSEMBLE_COLUMNS, SCORE_SCHEMA
from tokenfocus_ray.tables.columns import FloatArray, numbers
from tokenfocus_ray.tables.features import TOTAL
from tokenfocus_ray.tables.members import EnsembleInfo, ScoreTableInfo

#: Left out where several tables are merged: they stand in these.
_OF_MEMBERS = ("member_scores", "level_probs", "level_mass", "entropy", "member_element_scores")


def merge(ensemble: Ensemble, tables: Mapping[str, pa.Table]) -> pa.Table:
    """The first table with the ensemble's scores.

    Of a score table ``score`` and ``element_scores`` are filled anew, and ``score_low``,
    ``score_high``, ``element_low``, ``element_high`` and ``element_present`` come beside them; rows
    that are unscored stay so, and columns that pass through under one of these names get the prefix
    ``input_``. Columns of members are left out where there are several tables. Of
    any other table a column ``score`` comes with its interval; a row without any of the features
    has NaN.

    Args:
        ensemble: What to apply.
        tables: Where they come from -> tables of the same rows in the same order.

    Raises:
        ManifestError: a column that the ensemble takes is missing, or rows of two tables differ.
    """
    (where, first), *rest = tables.items()
    for other, table in rest:
        _check_rows(where, first, other, table)
    columns = {at: ScoreColumns.of(t, at) for at, t in tables.items() if is_score_table(t)}
    values_NF = _features(ensemble.total.features, tables, columns)
    found = ensemble.total.predict(values_NF)
    if where not in columns:
        plain = {"score": found.score, "score_low": found.low, "score_high": found.high}
        return _beside(first, plain)
    own = columns[where]
    for other, one in columns.items():
        if not np.array_equal(one.counts_N, own.counts_N):
            raise ManifestError(
                f"{where} and {other} have different numbers of elements in a row; score the same "
                f"manifest with both backbones, or both in one job"
            )
    first = first.drop_columns(list(_OF_MEMBERS)) if len(columns) > 1 else first
    new = _reasons([tables[at] for at in columns])
    scored_N = _is_scored(new["status"])
    elements = None
    if (stack := ensemble.elements) is not None:
        elements = stack.predict(_features(stack.features, {}, columns))
    given_N = np.isfinite(found.score.astype(np.float32))
    if elements is not None:
        given_N &= own.all_finite(elements.score[:, None])
    new, scored_N = _without_nan(new, scored_N, columns, given_N, ensemble)
    new |= {
        "score": _floats(found.score, scored_N),
        "score_low": _floats(found.low, scored_N),
        "score_high": _floats(found.high, scored_N),
    }
    threshold = None if stack is None else stack.threshold
    if stack is not None and elements is not None:
        if threshold is None:
            raise ConfigError("the ensemble's elements have no threshold; fit them as elements")
        scored_E = np.repeat(scored_N, own.counts_N)
        values = {
            "element_scores": _floats(elements.score, scored_E),
            "element_low": _floats(elements.low, scored_E),
            "element_high": _floats(elements.high, scored_E),
            "element_present": pa.array(elements.score >= threshold, mask=~scored_E),
        }
        new |= {name: as_lists(flat, own.counts_N) for name, flat in values.items()}
    by = EnsembleInfo(
        fingerprint=ensemble.fingerprint(),
        coverage=ensemble.total.coverage,
        element_threshold=threshold,
    )
    info = ScoreTableInfo.joined(one.info for one in columns.values())
    is_merged_again = own.info.ensemble is not None
    merged = _with_scores(first, new, is_merged_again)
    about = info.model_copy(update={"ensemble": by}).to_metadata(merged.schema.metadata)
    return merged.replace_schema_metadata(dict(about))


def is_score_table(table: pa.Table) -> bool:
    """Whether `tokenfocus score` wrote it."""
    return set(SCORE_SCHEMA.names) <= set(table.column_names)


def _features(
    names: Sequence[str], tables: Mapping[str, pa.Table], columns: Mapping[str, ScoreColumns]
) -> FloatArray:
    """[N, F] or [E, F]: made from members' scores, or a column of a table."""
    found = []
    for name in names:
        made = [v for one in columns.values() if (v := one.column(name)) is not None]
        given = [numbers(t[name]) for t in tables.values() if name in t.column_names]
        if not made and not given:
            known = [c for t in tables.values() for c in t.column_names]
            known += [f"{TOTAL}{n}" for one in columns.values() for n in one.info.places()]
            raise ManifestError(
                f"{' + '.join(tables) or ' + '.join(columns)}: the ensemble takes a column "
                f"{name!r}, which is not there. {did_you_mean(name, known)}"
            )
        if len(made) > 1:
            raise ManifestError(
                f"{' + '.join(columns)}: more than one of them has the members of {name!r}, which "
                f"the ensemble takes; give each backbone once"
            )
        found.append((made or given)[0])
    return np.column_stack(found)


def _check_rows(where: str, first: pa.Table, other: str, table: pa.Table) -> None:
    for at, one in ((where, first), (other, table)):
        if "sample_id" not in one.column_names:
            raise ManifestError(f"{at}: there is no column 'sample_id' to join {where} and {other}")
    mine, theirs = (one["sample_id"].cast(pa.string()) for one in (first, table))
    if first.num_rows == table.num_rows and mine.equals(theirs):
        return
    what = f"{first.num_rows} and {table.num_rows} rows"
    if first.num_rows == table.num_rows:
        pairs = zip(mine.to_pylist(), theirs.to_pylist(), strict=True)
        this, that = next(pair for pair in pairs if pair[0] != pair[1])
        what = f"{this!r} in one stands where {that!r} stands in the other"
    raise ManifestError(
        f"{where} and {other} do not have the same samples in the same order: {what}; score the "
        f"same manifest with both backbones, or both in one job"
    )


def _is_scored(status: Any) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.equal(status, pa.scalar("ok")).to_numpy(zero_copy_only=False)
    return found


def _reasons(tables: Sequence[pa.Table]) -> dict[str, Any]:
    """Status and reason of each row: of the first table that could not score it."""
    names = ("status", "error_code", "error_message")
    each = [{name: table[name].cast(pa.string()) for name in names} for table in tables]
    columns: dict[str, Any] = dict(each[0])
    for own in reversed(each):
        bad = pa.array(~_is_scored(own["status"]))
        columns = {name: pc.if_else(bad, own[name], old) for name, old in columns.items()}
    return columns


def _without_nan(
    reasons: Mapping[str, Any],
    scored_N: NDArray[np.bool_],
    columns: Mapping[str, ScoreColumns],
    given_N: NDArray[np.bool_],
    ensemble: Ensemble,
) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """Rows that claim to be scored, but of which a member's or the merged score is not finite.

    Args:
        reasons: Status, code and message of each row.
        scored_N: Which rows have the status ``ok``.
        columns: Of the tables.
        given_N: Of which rows the ensemble's scores are finite.
        ensemble: For messages.

    Returns:
        The reasons with theirs, and which rows are still scored.
    """
    bad_N = scored_N & ~given_N
    none = ", ".join(ensemble.total.features)
    why = np.full(len(bad_N), None, object)
    why[bad_N] = f"the ensemble gives NaN: none of its columns ({none}) has a value in this row"
    for at, one in columns.items():
        good_N = np.isfinite(one.total_NM).all(axis=1) & one.all_finite(one.element_EM)
        stops = np.cumsum(one.counts_N)
        for i in np.flatnonzero(scored_N & ~good_N):
            own = np.vstack(
                [one.total_NM[i], one.element_EM[stops[i] - one.counts_N[i] : stops[i]]]
            )
            good_M = np.isfinite(own).all(axis=0)
            names = [n for n, good in zip(one.info.members, good_M, strict=True) if not good]
            why[i] = f"members {names} have NaN or infinity in {at}; score the row again"
            bad_N[i] = True
    bad, code = pa.array(bad_N), pa.scalar("score_not_finite")
    told = {"status": pa.scalar("unscored"), "error_code": code, "error_message": pa.array(why)}
    new = {
        name: pc.if_else(bad, told[name].cast(pa.string()), column)
        for name, column in reasons.items()
    }
    return new, scored_N & ~bad_N


def _floats(values: FloatArray, keep: NDArray[np.bool_]) -> pa.Array[Any]:
    return pa.array(np.where(keep, values, np.nan), pa.float32())


def as_lists(values: Any, counts_N: NDArray[np.int64]) -> pa.Array[Any]:
    """Values, list after list, as a column.

    Args:
        values: Of all lists together.
        counts_N: Length of each list.
    """
    offsets: Any = pa.array(np.concatenate([[0], np.cumsum(counts_N)]).astype(np.int32))
    found: pa.Array[Any] = pa.ListArray.from_arrays(offsets, values)
    return found


def _beside(table: pa.Table, new: Mapping[str, FloatArray]) -> pa.Table:
    table = _with_input_prefix(table, new)
    for name, values in new.items():
        table = table.append_column(name, pa.array(values))
    return table


def _with_input_prefix(table: pa.Table, wanted: Collection[str]) -> pa.Table:
    """The table with the prefix ``input_`` before names that are wanted for new columns."""
    taken = {*wanted, *table.column_names}
    schema = table.schema
    for i, name in enumerate(table.column_names):
        if name in wanted:
            while name in taken:
                name = f"input_{name}"
            schema = schema.set(i, schema.field(i).with_name(name))
            taken.add(name)
    return pa.Table.from_arrays(table.columns, schema=schema)  # metadata included


def _with_scores(table: pa.Table, new: Mapping[str, Any], is_merged_again: bool) -> pa.Table:
    if not is_merged_again:  # so columns of an ensemble's names are the input's
        table = _with_input_prefix(table, ENSEMBLE_COLUMNS)
    for name, values in new.items():
        if name in table.column_names:
            index = table.column_names.index(name)
            table = table.set_column(
                index, table.schema.field(index).with_type(values.type), values
            )
        else:
            table = table.append_column(pa.field(name, values.type), values)
    return table
