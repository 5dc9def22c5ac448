"""Rows of finished parts that are to be scored again."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.distributed.layout import part_name
from tokenfocus_ray.distributed.score.commits import RETRIED, Piece, read_table
from tokenfocus_ray.distributed.score.ledger import Ledger
from tokenfocus_ray.distributed.score.publish import PIECES_KEY
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.parquet import to_parquet


def reopen(ledger: Ledger) -> int:
    """Opens finished pieces again, of which some rows are to be scored again; parts come apart.

    Everything that stays is written as commits before the part goes, so nothing is lost on the way.

    Returns:
        Number of rows that will be scored again.
    """
    store, commits, count = ledger.store, ledger.commits, 0
    for unit, state in ledger.states.items():
        for number in state.pieces:
            piece = Piece(unit, number, state.n_pieces == number + 1)
            if again := len(_retried(commits.child(piece.name))):
                count += again
                commits.write_bytes(replace(piece, kept=True).name, commits.read_bytes(piece.name))
                commits.delete(piece.name)
    for part in sorted(ledger.published):
        at = store.child(part_name(part))
        if not (rows := _retried(at)):
            continue
        count += len(rows)
        table = read_table(at)
        start, layout = 0, _layout(at)
        lasts = {unit: number for unit, number, _ in layout}
        for unit, number, n_rows in layout:
            redo = any(start <= i < start + n_rows for i in rows)
            piece = Piece(unit, number, number == lasts[unit], kept=redo)
            commits.write_bytes(piece.name, to_parquet(table.slice(start, n_rows)))
            start += n_rows
        store.delete(part_name(part))
    return count


def _layout(part: Store) -> list[list[int]]:
    """Unit, number and rows of each piece in a part."""
    footer = pq.read_metadata(pa.BufferReader(part.read_bytes()))
    layout: list[list[int]] = json.loads((footer.metadata or {})[PIECES_KEY])
    return layout


def _retried(at: Store) -> list[int]:
    codes = read_table(at, ["error_code"])["error_code"].to_pylist()
    return [i for i, code in enumerate(codes) if code in RETRIED]
