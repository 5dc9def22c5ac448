"""Elements of many rows at once, as flat arrays.

Legend: N rows, E elements of all rows together, in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tokenfocus_ray.schema import Element, parse_elements


@dataclass(frozen=True, slots=True)
class ElementLists:
    """Elements of rows.

    Attributes:
        counts_N: How many each row has.
        texts: [E] their texts.
        types: [E] their types; empty where unknown.
    """

    counts_N: NDArray[np.int64]
    texts: pa.Array[Any]
    types: pa.Array[Any]

    @property
    def rows_E(self) -> NDArray[np.int64]:
        """[E] the row of each element."""
        return np.repeat(np.arange(len(self.counts_N)), self.counts_N)


def element_lists(column: pa.ChunkedArray[Any]) -> ElementLists:
    """Takes a column apart, in any form that ``parse_elements`` reads.

    Args:
        column: [N] elements.

    Raises:
        ValueError: a value cannot be read.
    """
    kind = column.type
    if _is_list(kind) and _has_text(kind.value_type):
        counts_N, flat = flat_lists(column)
        names = [field.name for field in kind.value_type]
        texts = _text(pc.struct_field(flat, "text"))
        empty = pa.array([""] * len(flat), pa.string())
        types = _text(pc.struct_field(flat, "type")) if "type" in names else empty
        if not flat.null_count and not texts.null_count:
            trimmed: Any = pc.utf8_trim_whitespace(texts)
            if not pc.any(pc.equal(trimmed, pa.scalar(""))).as_py():
                return ElementLists(counts_N, trimmed, pc.utf8_trim_whitespace(_filled(types)))
    known: dict[str, list[Element]] = {}
    each = [_parsed(value, known) for value in column.to_pylist()]
    counts_N = np.array([len(own) for own in each], np.int64)
    return ElementLists(
        counts_N,
        pa.array([e.text for own in each for e in own], pa.string()),
        pa.array([e.type for own in each for e in own], pa.string()),
    )


def flat_lists(column: pa.ChunkedArray[Any] | pa.Array[Any]) -> tuple[NDArray[np.int64], Any]:
    """Lists -> how long each is, a null being empty; and all values, one list after another."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    lengths: Any = pc.fill_null(pc.list_value_length(column), 0)
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64), pc.list_flatten(column)


def _parsed(value: Any, known: dict[str, list[Element]]) -> list[Element]:
    """Of one row; texts, which repeat, are read once."""
    if not isinstance(value, str):
        return parse_elements(value) or []
    if value not in known:
        if len(known) > 10_000:
            known.clear()
        known[value] = parse_elements(value) or []
    return known[value]


def _is_list(kind: Any) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _has_text(kind: Any) -> bool:
    return pa.types.is_struct(kind) and "text" in [field.name for field in kind]


def _text(values: Any) -> Any:
    return values.cast(pa.string())


def _filled(values: Any) -> Any:
    return pc.fill_null(values, "")
