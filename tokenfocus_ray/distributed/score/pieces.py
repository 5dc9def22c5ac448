"""Pieces: runs of rows that are read, scored and committed together.

For Ray Data a piece is one row whose ``table`` holds the samples as an Arrow stream. However Ray
merges or splits blocks, a piece stays whole, and with it what is committed at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tokenfocus_ray.datasets.units import Unit
from tokenfocus_ray.distributed.score.ledger import UnitState
from tokenfocus_ray.scoring.wire import scores_column, structs

#: What the stages hand on, but ``table``, in which each puts its own result.
_HEAD: dict[str, pa.DataType] = {
    "unit": pa.int32(),
    "piece": pa.int32(),
    "last": pa.bool_(),
    "positions": pa.list_(pa.int32()),
    "base": pa.string(),
    "passed_over": pa.string(),  # JSON of what the source passed over: reason -> count
    "read_s": pa.float64(),
    "prepare_s": pa.float64(),
    "score_s": pa.list_(pa.float64()),  # of each backbone
}
_PIECE: dict[str, pa.DataType] = {**_HEAD, "table": pa.large_binary()}
PIECE = pa.schema(_PIECE)
#: What the driver hears of a piece once it is written.
_COMMITTED: dict[str, pa.DataType] = {
    **_HEAD,
    "commit_s": pa.float64(),
    "n_rows": pa.int32(),
    "codes": pa.string(),
    "ids": pa.binary(),
}
COMMITTED = pa.schema(_COMMITTED)
_UNIT_COLUMNS: dict[str, pa.DataType] = {
    "number": pa.int32(),
    "uri": pa.string(),
    "groups": pa.list_(pa.int32()),
    "start": pa.int64(),
    "n_rows": pa.int64(),
    "base": pa.string(),
    "done": pa.list_(pa.int32()),
    "kept": pa.list_(pa.int32()),
}
_UNIT = pa.schema(_UNIT_COLUMNS)


def unit_table(unit: Unit, state: UnitState, backbones: int | None = None) -> pa.Table:
    """A unit with what is done of it: one row, the input of ``ReadPieces``.

    Args:
        unit: Which.
        state: What is done.
        backbones: How many of several are to score in this pass and before; None: all.
    """
    row = {name: getattr(unit, name) for name in Unit.__slots__}
    done = {"done": sorted(state.done(backbones)), "kept": sorted(state.kept)}
    return pa.Table.from_pylist([row | done], schema=_UNIT)


def pack(head: Mapping[str, Any], table: pa.Table) -> pa.Table:
    """A piece as one row."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    data = sink.getvalue()
    offsets = pa.py_buffer(np.array([0, data.size], np.int64).tobytes())
    column = pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data])  # no copy
    return pa.table({name: [head[name]] for name in _HEAD} | {"table": column}, schema=PIECE)


def unpack(batch: pa.Table) -> Iterator[tuple[dict[str, Any], pa.Table]]:
    """Head and samples of each piece; nothing is copied."""
    heads: Sequence[dict[str, Any]] = batch.select(list(_HEAD)).to_pylist()
    for head, data in zip(heads, batch["table"], strict=True):
        yield head, pa.ipc.open_stream(data.as_buffer()).read_all()


def codes_of(scored: pa.Table, backbone: int) -> Counter[str]:
    """Number of rows by error code of one backbone; ``ok`` for those that it scored."""
    return count_codes(structs(scored[scores_column(backbone)]).field("error_code"))


def count_codes(codes: Any) -> Counter[str]:
    """Number of rows by error code; ``ok`` for those with a score."""
    return Counter(code or "ok" for code in codes.to_pylist())
