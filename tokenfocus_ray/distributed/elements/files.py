"""What a job that makes elements keeps beside its output.

    __job/elements.json         what the output depends on; another launch must agree
    __job/prompts/NNNNNN.parquet  different prompts by number, an equal number of them a file
    __job/numbers/NNNNN.parquet   of each unit: the numbers of its different prompts, in its order
    __job/prompts.json          how many there are, and how many a file has; written last of these
    __job/made/NNNNNN.parquet   what became of a file of prompts
    __job/done/NNNNN.json       a unit whose rows are written: how many, in how many files

Each is written whole or not at all, so a relaunch makes those that are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tokenfocus_ray.distributed.layout import JOB
from tokenfocus_ray.elements.decomposed import Decomposed
from tokenfocus_ray.schema import ELEMENT_TYPE, Element
from tokenfocus_ray.storage import Store

RECORD, COUNTED = f"{JOB}/elements.json", f"{JOB}/prompts.json"
PROMPTS, NUMBERS, MADE, DONE = (f"{JOB}/{name}" for name in ("prompts", "numbers", "made", "done"))
_MADE = pa.schema(
    [("elements", pa.list_(ELEMENT_TYPE)), ("status", pa.string()), ("reason", pa.string())]
)


def prompts_name(chunk: int) -> str:
    """Name of a file of prompts."""
    return f"{PROMPTS}/{chunk:06d}.parquet"


def numbers_name(unit: int) -> str:
    """Name of the numbers of a unit's prompts."""
    return f"{NUMBERS}/{unit:05d}.parquet"


def made_name(chunk: int) -> str:
    """Name of what became of a file of prompts."""
    return f"{MADE}/{chunk:06d}.parquet"


def done_name(unit: int) -> str:
    """Name of the mark of a unit whose rows are written."""
    return f"{DONE}/{unit:05d}.json"


def rows_name(unit: int, part: int) -> str:
    """Name of an output file."""
    return f"part-{unit:05d}-{part:04d}.parquet"


def there(store: Store, folder: str) -> set[int]:
    """Numbers of the files of a folder."""
    return {int(name.partition(".")[0]) for name in store.names(folder)}


def write_column(store: Store, name: str, values: Any) -> None:
    """Writes a file of one column."""
    _write(store, name, pa.table({"value": values}))


def read_column(store: Store, name: str) -> Any:
    """Its values."""
    return pq.read_table(pa.BufferReader(store.read_bytes(name)))["value"]


def write_made(store: Store, chunk: int, results: Sequence[Decomposed]) -> None:
    """Writes what became of a file of prompts."""
    rows = [
        {
            "elements": [{"text": e.text, "type": e.type} for e in one.elements],
            "status": one.status,
            "reason": one.reason,
        }
        for one in results
    ]
    _write(store, made_name(chunk), pa.Table.from_pylist(rows, schema=_MADE))


def read_made(store: Store, numbers: NDArray[np.int64], chunk: int) -> pa.Table:
    """What became of prompts.

    Args:
        store: The output folder.
        numbers: [N] of the prompts.
        chunk: Prompts of a file; each file is read once.

    Returns:
        N rows, in the order of ``numbers``.
    """
    order = np.argsort(numbers, kind="stable")
    chunks_N, rows_N = np.divmod(numbers[order], chunk)
    pieces = [_MADE.empty_table()]
    for one in np.unique(chunks_N):
        made = pq.read_table(pa.BufferReader(store.read_bytes(made_name(int(one)))))
        pieces.append(made.take(pa.array(rows_N[chunks_N == one], pa.int64())).cast(_MADE))
    back = np.empty(len(numbers), np.int64)
    back[order] = np.arange(len(numbers))
    return pa.concat_tables(pieces).take(pa.array(back, pa.int64()))


def results_of(made: pa.Table) -> list[Decomposed]:
    """Rows as they were before they were written."""
    rows: list[Any] = made.to_pylist()
    return [
        Decomposed(
            tuple(Element(e["text"], e["type"]) for e in row["elements"]),
            row["status"],
            row["reason"],
        )
        for row in rows
    ]


def _write(store: Store, name: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    store.write_bytes(name, sink.getvalue())
