"""webdataset: tar shards, in which the files of a key stand side by side.

Format: https://github.com/webdataset/webdataset; :mod:`~tokenfocus_ray.datasets.tars` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tokenfocus_ray.datasets.importers.base import ROWS_WITH_BYTES, Format, Plan, Request
from tokenfocus_ray.datasets.importers.rows import row_names, to_manifest
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.units import Source, Unit, read_unit
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import public


def plan(request: Request) -> Plan:
    """Finds the shards.

    Raises:
        ManifestError: there are none.
    """
    request.refuse("webdataset", images="since shards hold their images")
    mapping, generator = request.roles()
    source = plan_source([request.src], None, mapping, request.keep, request.text, request.say)
    if any(unit.groups for unit in source.units):
        raise ManifestError(
            f"{public(request.src)}: there are no tar shards; import it as hf-parquet, img2dataset "
            f"or diffusiondb"
        )
    return Plan(
        source.units, FromShards(source, generator), dict(source.fingerprint), has_bytes=True
    )


@dataclass(frozen=True, slots=True)
class FromShards:
    """Rows of shards.

    Attributes:
        source: What is read.
        generator: Field of ``KEY.json`` with the generator's name.
    """

    source: Source
    generator: str | None = None

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        """Yields tables of a manifest."""
        source, names = self.source, row_names(unit)
        for table in read_unit(source.schema, unit, ROWS_WITH_BYTES, source.encoding):
            column = None
            if self.generator is not None:
                column = f"generator of {self.generator}"
                table = table.append_column(column, _field(table, self.generator))
            yield to_manifest(table, source.columns, unit.base, source.encoding, column, names)


def _field(table: pa.Table, name: str) -> pa.Array[Any]:
    """A field of each ``KEY.json``; null where that cannot be read, which its row says."""
    found: list[str | None] = []
    texts: list[Any] = table["json"].to_pylist()
    for text in texts:
        try:
            known = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            known = {}
        value = known.get(name) if isinstance(known, dict) else None
        found.append(None if value is None else str(value))
    return pa.array(found, pa.string())


WEBDATASET = Format("tar shards", plan)
