"""DataComp's list of a subset: the kept samples' 128-bit uids, sorted, as ``.npy``.

One record of dtype ``u8,u8`` a uid: its first and its last 16 hexadecimal digits. Format:
https://github.com/mlfoundations/datacomp (resharder.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tokenfocus_ray.errors import ManifestError, shown
from tokenfocus_ray.exports.ranking import sorting_memory
from tokenfocus_ray.exports.sql import batches, engine, one_row

if TYPE_CHECKING:
    import duckdb

DTYPE = np.dtype("u8,u8")
#: Columns that hold uids, the first that is there.
UIDS = ("uid", "sample_id")


def halves(uids: Any, column: str, where: str) -> NDArray[np.uint64]:
    """[N, 2] the halves of uids of 32 hexadecimal digits.

    Args:
        uids: [N] text.
        column: Of the uids, for the message.
        where: The table, likewise.

    Raises:
        ManifestError: naming the first value that is no uid.
    """
    text: Any = uids.cast(pa.string())
    good: Any = pc.fill_null(pc.match_substring_regex(text, r"\A[0-9a-fA-F]{32}\z"), False)
    if not pc.all(good).as_py():
        first = text.filter(pc.invert(good))[0].as_py()
        raise ManifestError(
            f"{where}: column {column!r} holds {shown(first)}, which is no uid of 32 hexadecimal "
            f"digits, as --npy needs; leave --npy out, or name the column of uids with --uid"
        )
    joined = "".join(text.to_pylist())
    return np.frombuffer(bytes.fromhex(joined), ">u8").astype(np.uint64).reshape(-1, 2)


@dataclass(slots=True)
class Subset:
    """Uids of a subset, sorted on disk where they are many.

    Attributes:
        database: What sorts them.
    """

    database: duckdb.DuckDBPyConnection

    def add(self, halves_N2: NDArray[np.uint64]) -> None:
        """Takes uids."""
        high, low = (pa.array(halves_N2[:, i].copy()) for i in range(2))
        batch = pa.table({"high": high, "low": low})
        self.database.register("batch", batch)
        self.database.execute("INSERT INTO uids SELECT * FROM batch")
        self.database.unregister("batch")

    def write(self, file: BinaryIO) -> tuple[int, int]:
        """Writes the file.

        Returns:
            Uids, and how many rows repeat one.
        """
        self.database.execute("CREATE TABLE single AS SELECT DISTINCT high, low FROM uids")
        n, rows = one_row(
            self.database, "SELECT (SELECT count(*) FROM single), (SELECT count(*) FROM uids)"
        )
        header = {"descr": np.lib.format.dtype_to_descr(DTYPE), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (n,)})
        for batch in batches(self.database, "SELECT high, low FROM single ORDER BY high, low"):
            both = np.stack([batch.column(i).to_numpy() for i in range(2)], axis=1)
            file.write(np.ascontiguousarray(both, np.uint64).tobytes())
        return int(n), int(rows - n)


@contextmanager
def subset(rows: int) -> Iterator[Subset]:
    """An empty list of uids.

    Args:
        rows: The most that will be in it.
    """
    with engine(sorting_memory(rows)) as database:
        database.execute("CREATE TABLE uids(high UBIGINT, low UBIGINT)")
        yield Subset(database)
