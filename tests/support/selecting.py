"""Score tables to select from, with all that a criterion can go by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.scores import info
from tokenfocus_ray.datasets.manifest import passthrough
from tokenfocus_ray.datasets.recorded import RUN_FILE, RecordedInput
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.units import read_unit
from tokenfocus_ray.schema import ELEMENT_TYPE, ENSEMBLE_COLUMNS, SCORE_SCHEMA
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.members import EnsembleInfo
from tokenfocus_ray.tables.text import PLAIN

#: Two backbones, the first of two members.
BACKBONES = {"q": ["m0", "m1"], "r": ["m0"]}
ELEMENTS = (("a dog", "animal"), ("brown dog", "color"), ("two cats", "count"))


def row(number: int, score: float | None, **more: Any) -> dict[str, Any]:
    """A row; without a score it is unscored. ``elements`` maps a text to its score."""
    elements: Mapping[str, float] = more.pop("elements", {})
    types = dict(ELEMENTS)
    found = {
        "sample_id": f"{number:032x}",
        "image_uri": f"images/{number}.png",
        "prompt": f"prompt {number}",
        "generator": "sim",
        "elements": [{"text": t, "type": types.get(t, "")} for t in elements],
        "status": "ok" if score is not None else "unscored",
        "error_code": None if score is not None else "image_missing",
        "error_message": None if score is not None else "no image",
        "score": math.nan if score is None else score,
        "member_scores": [] if score is None else [score] * 3,
        "element_scores": list(elements.values()),
    }
    return {**found, **more}


def table_of(
    rows: Sequence[Mapping[str, Any]], *, ensemble: float | None = None, **types: Any
) -> pa.Table:
    """The rows as a job would write them.

    Args:
        rows: Of :func:`row`.
        ensemble: Its threshold of elements; None: there is no ensemble.
        types: Of further columns.
    """
    columns = {
        "image_uri": pa.string(), "prompt": pa.string(), "generator": pa.string(),
        "elements": pa.list_(ELEMENT_TYPE), **{f.name: f.type for f in SCORE_SCHEMA},
    }  # fmt: skip
    about = info(BACKBONES)
    if ensemble is not None:
        columns |= ENSEMBLE_COLUMNS
        made = EnsembleInfo(fingerprint="f", coverage=0.9, element_threshold=ensemble)
        about = about.model_copy(update={"ensemble": made})
    found = pa.Table.from_pylist(list(rows), schema=pa.schema({**columns, **types}))
    return found.replace_schema_metadata(about.to_metadata())


def write(folder: Path, table: pa.Table, files: int = 1, group_rows: int = 1024) -> str:
    """Writes the table as a job's output folder, in so many files."""
    folder.mkdir(parents=True, exist_ok=True)
    each = -(-max(table.num_rows, 1) // files)
    for i in range(files):
        part = table.slice(i * each, each)
        pq.write_table(part, folder / f"part-{i:05d}.parquet", row_group_size=group_rows)
    return str(folder)


def opened(folder: Path, table: pa.Table, **options: Any) -> ScoredTable:
    """Likewise, read again."""
    return ScoredTable.open(write(folder, table), **options)


def scored_manifest(
    manifests: Sequence[str], out: str, images: str | None = None, **more: Any
) -> str:
    """Scores of what manifests hold, row i with 1 + i / 8, as a job would write them.

    Args:
        manifests: Of any form.
        out: Output folder, local or in a store.
        images: Folder that relative image paths start from.
        more: Of what the job writes down.
    """
    source = plan_source(manifests, images, {}, Store.of("."))
    names = passthrough(source.schema.names, source.columns)
    each: list[pa.Table] = []
    for unit in source.units:
        data = source.inputs.get(unit.uri.rpartition("/")[2])
        each += [t.select(list(names)) for t in read_unit(source.schema, unit, 99, data=data)]
    given = pa.concat_tables(each).rename_columns(list(names.values()))
    prompt = names[source.columns.prompt]
    scores = table_of(
        [row(i, 1 + i / 8, prompt=p) for i, p in enumerate(given[prompt].to_pylist())]
    )
    scores = scores.drop_columns(["image_uri", "prompt", "generator", "elements"])
    about = scores.schema.metadata
    for at, name in enumerate(given.column_names):
        scores = scores.add_column(at, name, given[name])
    sink = pa.BufferOutputStream()
    pq.write_table(scores.replace_schema_metadata(about), sink)
    store = Store.of(out)
    store.write_bytes("part-00000.parquet", sink.getvalue())
    recorded = RecordedInput.of(manifests, source, images, {}, PLAIN).model_copy(update=more)
    store.write_json(RUN_FILE, {"input": recorded.model_dump()})
    return out
