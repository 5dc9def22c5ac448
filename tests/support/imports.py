"""Imports in this process, by the same functions that a job's tasks call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from tokenfocus_ray.datasets.importers.base import Plan, Request
from tokenfocus_ray.datasets.importers.registry import format_of
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import TextOptions


def planned(
    format_: str,
    src: Path | str,
    keep: Path,
    *,
    images: str | None = None,
    lines: list[str] | None = None,
    encoding: str | None = None,
    **mapping: str,
) -> Plan:
    """The plan, whose inputs are written."""
    say = (lambda line: None) if lines is None else lines.append
    store = Store.of(keep / "kept")
    request = Request(str(src), store, images, mapping, TextOptions(encoding), say)
    plan = format_of(format_).plan(request)
    for name, data in plan.inputs.items():
        store.write_bytes(name, data)
    return plan


def rows_of(plan: Plan, lines: list[str] | None = None) -> pa.Table:
    """All rows of the manifest."""
    tables: list[pa.Table] = []
    if plan.index is None:
        assert plan.convert is not None
        for unit in plan.units:
            tables += plan.convert(unit)
    else:
        scanned = pa.concat_tables([plan.index.scan(unit) for unit in reversed(plan.units)])
        given, said = plan.index.settle(scanned)
        if lines is not None:
            lines += said
        for unit in plan.units:
            tables += plan.index.convert(unit, given.get(unit.number))
    schemas = {table.schema.remove_metadata() for table in tables}
    assert len(schemas) == 1, "all tables of an import have one schema"
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])


def imported(format_: str, src: Path | str, keep: Path, **options: Any) -> pa.Table:
    """All rows of the manifest."""
    return rows_of(planned(format_, src, keep, **options), options.get("lines"))
