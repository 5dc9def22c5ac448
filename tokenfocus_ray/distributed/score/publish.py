"""Pieces that are whole -> one part of the output."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tokenfocus_ray.distributed.layout import COMMITS, part_name
from tokenfocus_ray.distributed.score.commits import Piece, read_table
from tokenfocus_ray.schema import ENSEMBLE_COLUMNS, SCORE_SCHEMA
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.members import ScoreTableInfo

#: Key of a part's file metadata: unit, piece and number of rows of each piece in it.
PIECES_KEY = b"tokenfocus.pieces"


#: Most pieces in memory while a part is written, and fewest rows of its row groups.
_AHEAD, _GROUP_ROWS = 16, 8192


def publish(store: Store, part: int, pieces: Sequence[Piece], duplicates: Sequence[int]) -> None:
    """Writes an output file from its pieces, a few at a time, then deletes them.

    Args:
        store: The output folder.
        part: Number of the part.
        pieces: From :meth:`~tokenfocus_ray.distributed.score.ledger.Ledger.pieces_of`.
        duplicates: Rows whose id came before, in order: they get other ids, and lose their scores.
    """
    if not store.exists(part_name(part)):  # else a process died while it deleted the pieces
        _write_part(store, part, pieces, np.asarray(duplicates, np.int64))
    for piece in pieces:
        store.delete(f"{COMMITS}/{piece.name}")
    pa.default_memory_pool().release_unused()  # this process may be idle from here on


def _write_part(store: Store, part: int, pieces: Sequence[Piece], duplicates: Any) -> None:
    groups = _groups(store.child(COMMITS), pieces)
    first = next(groups)
    own = first[0][1].schema
    info = ScoreTableInfo.find(own, part_name(part))
    merged = ENSEMBLE_COLUMNS if info is not None and info.ensemble is not None else {}
    # a piece of an earlier release may say it by other keys; a part says it once
    about = dict((own.metadata if info is None else info.to_metadata()) or {})
    sink, layout, start = pa.BufferOutputStream(), [], 0
    with pq.ParquetWriter(sink, own.with_metadata(about), compression="zstd") as writer:
        for group in itertools.chain([first], groups):
            layout += [[p.unit, p.number, t.num_rows] for p, t in group]
            table = pa.concat_tables([t.replace_schema_metadata(None) for _, t in group])
            stop = start + table.num_rows
            here = duplicates[(start <= duplicates) & (duplicates < stop)] - start
            table = _without_duplicates(table, here.tolist(), f"{part}-", start, merged)
            writer.write_table(table.replace_schema_metadata(about))
            start = stop
        writer.add_key_value_metadata({PIECES_KEY.decode(): json.dumps(layout)})
    store.write_bytes(part_name(part), sink.getvalue())


def _groups(commits: Store, pieces: Sequence[Piece]) -> Iterator[list[tuple[Piece, pa.Table]]]:
    """The tables of consecutive pieces, together as large as a row group."""
    group: list[tuple[Piece, pa.Table]] = []
    with ThreadPoolExecutor(_AHEAD) as pool:
        for i in range(0, len(pieces), _AHEAD):
            some = pieces[i : i + _AHEAD]
            tables = pool.map(lambda piece: read_table(commits.child(piece.name)), some)
            group += zip(some, tables, strict=True)
            if sum(t.num_rows for _, t in group) >= _GROUP_ROWS:
                yield group
                group = []
    if group:
        yield group


def _without_duplicates(
    table: pa.Table,
    rows: Sequence[int],
    prefix: str,
    start: int,
    merged: Mapping[str, pa.DataType],
) -> pa.Table:
    """Gives rows whose id came before ids of their own; those with a score lose it.

    A row that failed keeps its own reason, which is what its reader needs to know.
    """
    if not rows:
        return table
    is_copy = np.zeros(table.num_rows, dtype=bool)
    is_copy[rows] = True
    ids: list[Any] = table["sample_id"].to_pylist()
    own = [f"{v}#{prefix}{start + i}" if is_copy[i] else v for i, v in enumerate(ids)]
    table = _set(table, "sample_id", pa.array(own, pa.string()))
    is_scored = [status == "ok" for status in table["status"].to_pylist()]
    mask = pa.array(is_copy & is_scored)
    values: dict[str, Any] = {
        "status": "unscored",
        "error_code": "duplicate_id",
        "error_message": pa.array(
            [
                f"sample_id {v!r} stands in an earlier row too, and is that row's; give each row "
                f"an id of its own"
                for v in ids
            ]
        ),
        "score": pa.scalar(math.nan, pa.float32()),
    }
    for name in _LISTS:
        values[name] = pa.scalar([], SCORE_SCHEMA.field(name).type)
    lists: list[Any] = table["element_scores"].to_pylist()
    nothing = [[math.nan] * len(v) for v in lists]
    values["element_scores"] = pa.array(nothing, SCORE_SCHEMA.field("element_scores").type)
    unknown = [[None] * len(v) for v in lists]
    for name, kind in merged.items():  # without an ensemble they are the input's
        if name in table.column_names:
            of_elements = unknown if name == "element_present" else nothing
            values[name] = (
                pa.array(of_elements, kind) if pa.types.is_list(kind) else pa.scalar(math.nan, kind)
            )
    for name, new in values.items():
        table = _set(table, name, pc.if_else(mask, new, table[name].combine_chunks()))
    return table


def _set(table: pa.Table, name: str, values: Any) -> pa.Table:
    """The table with other values in a column."""
    return table.set_column(table.column_names.index(name), table.schema.field(name), values)


_LISTS = ("member_scores", "level_probs", "level_mass", "entropy", "member_element_scores")
