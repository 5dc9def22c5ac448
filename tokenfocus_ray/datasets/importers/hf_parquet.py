"""Hugging Face's image data sets as Parquet: an image is ``struct<bytes, path>``."""

from __future__ import annotations

from tokenfocus_ray.datasets.importers.base import Format, Plan, Request
from tokenfocus_ray.datasets.importers.rows import FromSource
from tokenfocus_ray.datasets.sources import TEXTS, plan_source
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import public


def plan(request: Request) -> Plan:
    """Finds the files and their columns.

    Raises:
        ManifestError: there is no Parquet.
    """
    mapping, generator = request.roles()
    none = ManifestError(
        f"{public(request.src)}: it is no Parquet; import tar shards as webdataset, and a table "
        f"with a folder of images as diffusiondb"
    )
    if request.src.lower().endswith((*TEXTS, ".tar")):
        raise none
    source = plan_source(
        [request.src], request.images, mapping, request.keep, request.text, request.say
    )
    if source.inputs or not all(unit.groups for unit in source.units):
        raise none
    check_generator(generator, source.schema.names, public(request.src))
    return Plan(
        source.units,
        FromSource.of(source, generator),
        dict(source.fingerprint),
        has_bytes=source.has_bytes,
    )


def check_generator(name: str | None, names: list[str], where: str) -> None:
    """Refuses a column of generators that is not there.

    Raises:
        ManifestError: naming the columns that are.
    """
    if name is not None and name not in names:
        raise ManifestError(
            f"--map generator={name}: {where} has no column {name!r}; found {', '.join(names)}"
        )


HF_PARQUET = Format("Hugging Face Parquet", plan)
