"""The ways to make elements, each with what Ray runs it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from tokenfocus_ray.distributed.elements.tasks import MakeElements
from tokenfocus_ray.distributed.lease import Lease
from tokenfocus_ray.elements.rules import decompose_by_rules, rules_identity
from tokenfocus_ray.errors import ConfigError, did_you_mean

#: Files of prompts that a job is cut into, as long as each is of a fair size.
_FILES = 64


@dataclass(slots=True)
class Pool:
    """What decomposes, as Ray Data takes it.

    Attributes:
        stage: Function or class over files of prompts.
        options: Of ``map_batches``.
    """

    stage: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    def account(self, batch: pa.Table) -> None:
        """Takes what the stage reports of a file."""

    def used(self) -> str:
        """What was used until now, in words."""
        return ""


class Method(Protocol):
    """One way."""

    def identity(self) -> dict[str, Any]:
        """What the elements depend on, flat."""
        ...

    def chunk_of(self, prompts: int) -> int:
        """Prompts of a file: what a killed process loses, and what is read at once."""
        ...

    def pool(self, lease: Lease) -> Pool:
        """What decomposes, within a session of Ray."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules over a parse, in tasks."""

    def identity(self) -> dict[str, Any]:
        """See :class:`Method`."""
        return {"method": "rules", **rules_identity()}

    def chunk_of(self, prompts: int) -> int:
        """See :class:`Method`."""
        return chunk_size(prompts, 128, 4096)

    def pool(self, lease: Lease) -> Pool:
        """See :class:`Method`."""
        return Pool(MakeElements(lease, decompose_by_rules), {"num_cpus": 1})


def chunk_size(prompts: int, fewest: int, most: int) -> int:
    """Prompts of a file.

    >>> chunk_size(100, 128, 4096), chunk_size(64_000, 128, 4096), chunk_size(10**7, 128, 4096)
    (128, 1000, 4096)
    """
    return max(fewest, min(most, prompts // _FILES))


_METHODS: dict[str, type[Rules]] = {"rules": Rules}


def method_of(name: str) -> Method:
    """The way of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in _METHODS:
        raise ConfigError(f"--with {name!r}: no such way. {did_you_mean(name, _METHODS)}")
    return _METHODS[name]()
