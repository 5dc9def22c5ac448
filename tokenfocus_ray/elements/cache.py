"""Answers that were paid for once: a file of this machine, shared by its processes."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from tokenfocus_ray.elements.decomposed import Decomposed
from tokenfocus_ray.elements.wording import wording
from tokenfocus_ray.schema import Element

logger = logging.getLogger(__name__)

_PATIENCE = 30.0
_AT_ONCE = 500


class AnswerCache:
    """Prompt -> elements, of one model and wording.

    A cache that cannot be read or written costs time, and so only a warning.

    Args:
        path: Of the file; its folder is made.
        model: What answered: a name with what changes when its answers do.
    """

    def __init__(self, path: Path, model: str) -> None:
        self._path, self._about = path, json.dumps([model, wording()])
        self._is_broken = False

    def get(self, prompts: Sequence[str]) -> dict[str, Decomposed]:
        """What is known of prompts."""
        keys = {self._key(prompt): prompt for prompt in prompts}
        found: dict[str, Decomposed] = {}

        def read(db: sqlite3.Connection) -> None:
            for start in range(0, len(keys), _AT_ONCE):
                some = list(keys)[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                query = f"SELECT key, answer FROM answers WHERE key IN ({marks})"
                for key, answer in db.execute(query, some):
                    elements, status, reason = json.loads(answer)
                    made = tuple(Element(text, kind) for text, kind in elements)
                    found[keys[key]] = Decomposed(made, status, reason)

        self._do(read)
        return found

    def put(self, results: Mapping[str, Decomposed]) -> None:
        """Keeps results, but for those that failed, which are asked for again."""
        rows = [
            (
                self._key(prompt),
                json.dumps([[[e.text, e.type] for e in one.elements], one.status, one.reason]),
            )
            for prompt, one in results.items()
            if one.status != "failed"
        ]
        insert = "INSERT OR REPLACE INTO answers VALUES (?, ?)"
        self._do(lambda db: db.executemany(insert, rows))

    def _key(self, prompt: str) -> str:
        return hashlib.sha256(f"{self._about}\0{prompt}".encode()).hexdigest()

    def _do(self, work: Callable[[sqlite3.Connection], object]) -> None:
        if self._is_broken:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=_PATIENCE)) as db, db:
                db.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT)")
                work(db)
        except (OSError, sqlite3.Error) as error:
            self._is_broken = True
            logger.warning(
                "answers are not kept between jobs: %s: %s (TOKENFOCUS_CACHE names the folder)",
                self._path, error,
            )  # fmt: skip
