"""DuckDB, for what needs rows of all files at once: sorting, and grouping by prompt.

It sorts and joins on disk what does not fit into its memory, so tables of any size do. Ray Data's
shuffle would hold the rows in the memory of its workers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

#: What DuckDB may hold before it goes to disk.
MEMORY = "512MB"
THREADS = 2


@contextmanager
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of its own in memory, which spills to a temporary folder, as ``TMPDIR`` says.

    The result of a query that has no ``ORDER BY`` is in no order.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="tokenfocus-") as folder:
        options: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY,
            "threads": THREADS,
            "temp_directory": folder,
            "preserve_insertion_order": False,
            # nothing is fetched from the network, whatever a query names
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        with duckdb.connect(":memory:", config=options) as connection:
            yield connection
