"""What an importer is: a plan of units on the driver, and a conversion of each in a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from tokenfocus_ray.datasets.manifest import CONVENTIONS
from tokenfocus_ray.datasets.units import Unit
from tokenfocus_ray.errors import ConfigError, did_you_mean
from tokenfocus_ray.say import Say, silent
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import PLAIN, TextOptions

#: Rows that a task holds of the input at a time: with image bytes, and without.
ROWS_WITH_BYTES, ROWS = 64, 8_192
#: A role beside those of manifests.
GENERATOR = "generator"


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be imported.

    Attributes:
        src: File, folder or prefix.
        keep: Where small inputs will lie as Parquet, for tasks to read.
        images: Folder of the images, or pattern of their names.
        mapping: Role -> column, beside a format's own names.
        text: How text is read.
        say: Takes lines of what is passed over.
    """

    src: str
    keep: Store
    images: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    text: TextOptions = PLAIN
    say: Say = silent

    def roles(self) -> tuple[dict[str, str], str | None]:
        """Columns of roles that manifests have, and that of the generator.

        Raises:
            ConfigError: an unknown role.
        """
        known = (*CONVENTIONS, GENERATOR)
        for role, name in self.mapping.items():
            if role not in known:
                raise ConfigError(f"--map {role}={name}: no such role. {did_you_mean(role, known)}")
        mapping = dict(self.mapping)
        return mapping, mapping.pop(GENERATOR, None)

    def refuse(self, format_: str, *, images: str = "", mapping: str = "") -> None:
        """Refuses options that a format has no use for.

        Args:
            format_: Its name.
            images: Why it takes no ``--images``; empty: it does.
            mapping: Likewise of ``--map``.

        Raises:
            ConfigError: naming the option.
        """
        if images and self.images is not None:
            raise ConfigError(f"--images {self.images}: {format_} takes none, {images}")
        if mapping and self.mapping:
            role, name = next(iter(self.mapping.items()))
            raise ConfigError(f"--map {role}={name}: {format_} takes none, {mapping}")


class Convert(Protocol):
    """Reads a unit as rows of a manifest; pickles, for tasks."""

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        """Yields tables of one schema, whose metadata may say what was passed over."""
        ...


class Index(Protocol):
    """What has to be known of all units before any can be converted; pickles."""

    def scan(self, unit: Unit) -> pa.Table:
        """What a unit adds to it; in a task."""
        ...

    def settle(self, scanned: pa.Table) -> tuple[dict[int, pa.Table], list[str]]:
        """What each unit is given, by its number, and lines to say; on the driver."""
        ...

    def convert(self, unit: Unit, given: pa.Table | None) -> Iterator[pa.Table]:
        """Yields rows of a manifest."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read, and how.

    Attributes:
        units: In the order of the input.
        convert: Makes rows of a unit.
        fingerprint: Changes with the input.
        inputs: Parquet files that are to be written before units are read, by name.
        has_bytes: Whether rows carry image bytes.
        only_prompts: Whether rows have no images, since none were given.
        together: Units of unknown size that one task writes.
        index: In place of ``convert``, where all units have to be looked at first.
    """

    units: tuple[Unit, ...]
    convert: Convert | None
    fingerprint: dict[str, Any]
    inputs: dict[str, bytes] = field(default_factory=dict)
    has_bytes: bool = False
    only_prompts: bool = False
    together: int = 1
    index: Index | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """A format that can be imported.

    Attributes:
        what: In a few words.
        plan: Finds what there is to read.
    """

    what: str
    plan: Callable[[Request], Plan]
