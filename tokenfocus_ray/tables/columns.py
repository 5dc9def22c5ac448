"""Columns of an Arrow table: there, and as numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tokenfocus_ray.errors import ManifestError

FloatArray = NDArray[np.float64]


def require_columns(
    table: pa.Table, wanted: Sequence[str], source: str, description: str | None = None
) -> None:
    """Checks that a table has the wanted columns.

    Args:
        table: The table.
        wanted: Names of the columns that must be there.
        source: Where the table comes from, for the message.
        description: What to name as wanted, where it is more than a list of names.

    Raises:
        ManifestError: naming the missing, wanted and found columns.
    """
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise ManifestError(
            f"{source}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}; wanted "
            f"{description or ', '.join(wanted)}; found {', '.join(table.column_names) or 'none'}"
        )


def unlike(name: str, taken: Collection[str], prefix: str = "input_") -> str:
    """A name that is not taken yet.

    >>> unlike("a", ["a", "input_a"]), unlike("b", ["a"])
    ('input_input_a', 'b')

    Args:
        name: That is wanted.
        taken: Names that are.
        prefix: What is put before it, as often as need be.
    """
    while name in taken:
        name = f"{prefix}{name}"
    return name


def to_rows(table: pa.Table, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows as mappings, of those columns only, so that images that passed through stay packed."""
    return table.select([name for name in columns if name in table.column_names]).to_pylist()


def matching(columns: Sequence[str], pattern: str) -> list[str]:
    """The columns that a name or pattern means; a column of that very name wins.

    >>> matching(["m[1]", "m1", "m2"], "m[1]"), matching(["m1", "m2"], "m[1]")
    (['m[1]'], ['m1'])
    """
    return [pattern] if pattern in columns else [c for c in columns if fnmatchcase(c, pattern)]


def numbers(column: pa.ChunkedArray[Any]) -> FloatArray:
    """[N] float64; NaN for null, infinity, and text that is no number, such as a refusal.

    Where no text is a number, ``true`` and ``false`` are 1 and 0.
    """
    if pa.types.is_run_end_encoded(column.type):
        column = pc.call_function("run_end_decode", [column])
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_text(column.type):
        column = pa.chunked_array([_parsed(column.to_pylist())], pa.float64())
    else:
        try:
            column = column.cast(pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            column = pa.chunked_array([pa.nulls(len(column), pa.float64())])
    values_N = column.to_numpy()
    return np.where(np.isfinite(values_N), values_N, np.nan)


def _is_text(kind: Any) -> bool:
    return any(
        is_it(kind)
        for is_it in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _parsed(texts: list[str | None]) -> list[float | None]:
    found = [_number(text) for text in texts]
    if all(value is None for value in found):
        truth = {"true": 1.0, "false": 0.0}
        return [None if text is None else truth.get(text.strip().lower()) for text in texts]
    return found


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
