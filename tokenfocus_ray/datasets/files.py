"""One file of the input: where it lies, and what to say when it cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store, public


@dataclass(frozen=True, slots=True)
class File:
    """One file to read.

    Attributes:
        uri: For any process.
        base: Folder that relative image paths start from.
        size: In bytes.
        data: Its content, where it is yet to be written.
    """

    uri: str
    base: str
    size: int
    data: bytes | None = None

    @property
    def name(self) -> str:
        """The last part of its URI."""
        return self.uri.rpartition("/")[2]


def unreadable(store: Store, error: Exception) -> ManifestError:
    """Why an input file cannot be read, and what to do."""
    cause, remedy = store.explain(error)
    return ManifestError(f"{public(store.uri)!r} cannot be read: {cause}; {remedy}")
