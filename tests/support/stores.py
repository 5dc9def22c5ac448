"""A bucket of Google's in memory, so that tests reach stores of fsspec without a network."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry


class InMemory(MemoryFileSystem):  # type: ignore[misc]
    """fsspec's store in memory under the scheme of a real one."""

    protocol = "gs"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        found: str = super()._strip_protocol(path.partition("://")[2] or path)
        return found


@pytest.fixture
def gs_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URI of a new bucket."""
    in_memory("gs", monkeypatch)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    InMemory().mkdir(f"/{bucket}")
    yield f"gs://{bucket}"
    InMemory().rm(f"/{bucket}", recursive=True)


def in_memory(
    scheme: str, monkeypatch: pytest.MonkeyPatch, client: type[InMemory] = InMemory
) -> None:
    """Lets URIs of a scheme name what is in memory."""
    monkeypatch.setitem(_registry, scheme, client)
