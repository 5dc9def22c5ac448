"""A table of prompts beside a folder of images, as DiffusionDB's.

``metadata.parquet`` has ``image_name, prompt, part_id, seed, step, cfg, sampler, width, height,
user_name, timestamp, image_nsfw, prompt_nsfw``; the image lies in ``part-000001/`` by ``part_id``.
Any other table with a prompt and a path does too: Parquet, .csv, .tsv or .jsonl. Of a folder
without one, :mod:`~tokenfocus_ray.datasets.importers.diffusiondb_parts` reads the parts.
Source: https://arxiv.org/abs/2210.14896 and its data card.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from tokenfocus_ray.datasets.footers import read_footers
from tokenfocus_ray.datasets.importers.base import ROWS, Format, Plan, Request
from tokenfocus_ray.datasets.importers.diffusiondb_parts import plan_parts
from tokenfocus_ray.datasets.importers.hf_parquet import check_generator
from tokenfocus_ray.datasets.importers.rows import row_names, to_manifest
from tokenfocus_ray.datasets.sources import files_of, plan_source
from tokenfocus_ray.datasets.units import Source, Unit, read_unit
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.say import silent
from tokenfocus_ray.storage import public

_NAME, _PART = "image_name", "part_id"


def plan(request: Request) -> Plan:
    """Finds the table and its columns.

    Raises:
        ManifestError: there is no table.
    """
    parts = plan_parts(request)
    if parts is not None:
        return parts
    mapping, generator = request.roles()
    where = public(request.src)
    files = files_of(request.src, request.images, mapping, request.keep, request.text, silent)
    if any(file.uri.lower().endswith(".tar") for file in files):
        raise ManifestError(f"{where}: these are tar shards; import them as webdataset")
    names = read_footers(files)[1].names
    if _NAME in names and not {"image", "image_uri"} & set(mapping):
        mapping["image_uri"] = _NAME
    source = plan_source(
        [request.src], request.images, mapping, request.keep, request.text, request.say
    )
    check_generator(generator, names, where)
    in_parts = _PART in names and source.columns.image_uri == _NAME
    convert = FromTable(replace(source, units=(), inputs={}), generator, in_parts)
    return Plan(
        source.units,
        convert,
        dict(source.fingerprint),
        dict(source.inputs),
        has_bytes=source.has_bytes,
    )


@dataclass(frozen=True, slots=True)
class FromTable:
    """Rows of a table of names.

    Attributes:
        source: What is read.
        generator: Column of the generator's name, where it is called otherwise.
        in_parts: Whether an image lies in the folder of its ``part_id``.
    """

    source: Source
    generator: str | None
    in_parts: bool

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        """Yields tables of a manifest."""
        source, names = self.source, row_names(unit)
        for table in read_unit(source.schema, unit, ROWS, source.encoding):
            if self.in_parts:
                table = below_parts(table)
            yield to_manifest(
                table, source.columns, unit.base, source.encoding, self.generator, names
            )


def below_parts(table: pa.Table) -> pa.Table:
    """The table with the folder in which each image lies before its name."""
    names: list[Any] = table[_NAME].to_pylist()
    parts: list[Any] = table[_PART].to_pylist()
    paths = [
        f"part-{int(part):06d}/{name}"
        if name and "/" not in name and str(part or "").isdigit()
        else name
        for name, part in zip(names, parts, strict=True)
    ]
    at = table.column_names.index(_NAME)
    return table.set_column(at, _NAME, pa.array(paths, pa.string()))


DIFFUSIONDB = Format("table of image names and prompts, with --images", plan)
