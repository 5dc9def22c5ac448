"""DuckDB, for what needs rows of all files at once: sorting, and grouping by prompt.

It sorts and joins on disk what does not fit into its memory, so tables of any size do. Ray Data's
shuffle would hold the rows in the memory of its workers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tokenfocus_ray.errors import OutputError

if TYPE_CHECKING:
    import duckdb

#: What DuckDB may hold before it goes to disk.
MEMORY = "512MB"
THREADS = 2


@contextmanager
def engine(memory: str = MEMORY) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of its own in memory, which spills to a temporary folder, as ``TMPDIR`` says.

    The result of a query that has no ``ORDER BY`` is in no order.

    Args:
        memory: What it may hold before it goes to disk.

    Raises:
        OutputError: neither memory nor disk are enough.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="tokenfocus-") as folder:
        options: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory,
            "threads": THREADS,
            "temp_directory": folder,
            "preserve_insertion_order": False,
            # nothing is fetched from the network, whatever a query names
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        try:
            with duckdb.connect(":memory:", config=options) as connection:
                yield connection
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise _failed(error) from error


def one_row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The row of a query that gives one."""
    (row,) = connection.execute(query).fetchall()
    return tuple(row)


def batches(
    connection: duckdb.DuckDBPyConnection, query: str, rows: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """The result of a query, a few rows at a time.

    Args:
        connection: Runs nothing else until the last row was taken.
        query: With an ``ORDER BY``, if the order matters.
        rows: Most rows of a batch.

    Raises:
        OutputError: neither memory nor disk are enough.
    """
    found: Any = connection.sql(query)
    # DuckDB 2 has another name for it
    read = getattr(found, "to_arrow_reader", None) or found.fetch_arrow_reader
    try:
        yield from read(rows)
    except OSError as error:  # as Arrow hands DuckDB's on
        raise _failed(error) from error


def _failed(error: Exception) -> OutputError:
    cause = str(error).splitlines()[0]
    return OutputError(
        f"rows cannot be sorted: {cause}; free memory, or space where temporary files go "
        f"({tempfile.gettempdir()}; TMPDIR names another place), and run again"
    )
