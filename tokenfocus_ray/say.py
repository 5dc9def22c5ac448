"""How a long job tells whoever waits for it how far it is: a line at a time."""

from __future__ import annotations

from collections.abc import Callable

#: Takes a line of progress.
Say = Callable[[str], None]


def silent(line: str) -> None:
    """For a caller who wants no lines."""
