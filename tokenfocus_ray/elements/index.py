"""The prompts of a manifest, each once, numbered in the order in which they first come.

DuckDB sorts them on this machine's disk, so that a driver holds no more than a part of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

#: Memory of the sort; more goes to the disk.
_MEMORY = "1GB"


class PromptIndex:
    """Takes the prompts of units, in any order of units, and numbers them.

    A context manager: what it keeps on the disk goes with it.
    """

    def __init__(self) -> None:
        import duckdb

        self._folder = tempfile.TemporaryDirectory(prefix="tokenfocus-elements-")
        self._db: Any = duckdb.connect(
            str(Path(self._folder.name, "prompts")),
            config={"memory_limit": _MEMORY, "temp_directory": self._folder.name},
        )
        self._db.execute("CREATE TABLE seen (unit BIGINT, place BIGINT, prompt VARCHAR)")

    def __enter__(self) -> PromptIndex:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()
        self._folder.cleanup()

    def add(self, prompts: pa.Table) -> None:
        """Takes prompts.

        Args:
            prompts: ``unit``, ``place`` (its number among the different prompts of the unit), and
                ``prompt``.
        """
        self._db.register("new_prompts", prompts)
        self._db.execute("INSERT INTO seen SELECT unit, place, prompt FROM new_prompts")
        self._db.unregister("new_prompts")

    def number(self) -> int:
        """Numbers all prompts; returns how many there are."""
        self._db.execute(
            "CREATE TABLE numbered AS SELECT prompt, row_number() OVER (ORDER BY came) - 1 AS n "
            "FROM (SELECT prompt, min((unit << 32) | place) AS came FROM seen GROUP BY prompt)"
        )
        return int(self._db.execute("SELECT count(*) FROM numbered").fetchone()[0])

    def prompts(self, rows: int) -> Iterator[list[str]]:
        """All prompts by number, so many at a time."""
        found = self._db.execute("SELECT prompt FROM numbered ORDER BY n")
        while batch := found.fetchmany(rows):
            yield [prompt for (prompt,) in batch]

    def units(self) -> Iterator[tuple[int, Any]]:
        """Each unit with the numbers of its different prompts, in the order of the unit."""
        found = self._db.execute(
            "SELECT unit, n FROM seen JOIN numbered USING (prompt) ORDER BY unit, place"
        )
        unit, numbers = -1, list[int]()
        while batch := found.fetchmany(65_536):
            for one, number in batch:
                if one != unit and numbers:
                    yield unit, np.array(numbers, np.int64)
                    numbers = []
                unit = one
                numbers.append(number)
        if numbers:
            yield unit, np.array(numbers, np.int64)
