"""Manifests: which column is what, by convention or by ``--map``."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import csv

from tokenfocus_ray.errors import ManifestError, did_you_mean
from tokenfocus_ray.schema import SCORE_SCHEMA
from tokenfocus_ray.storage import Store, public

#: Role -> column names tried in this order.
CONVENTIONS: dict[str, tuple[str, ...]] = {
    "sample_id": ("sample_id",),
    "prompt": ("prompt", "caption", "text"),
    "image": ("image", "jpg", "png", "webp", "image_bytes"),
    "image_uri": ("image_uri", "image_path", "img_path", "file_name", "path", "url"),
    "elements": ("elements",),
    "prompt_type": ("prompt_type",),
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Name of the manifest's column for each role; None where it has none.

    Attributes:
        prompt: The text prompt.
        image: Encoded bytes, or a struct of bytes and path.
        image_uri: Path or URI of the image.
        sample_id: Id of the sample.
        elements: Elements in any form that ``parse_elements`` reads.
        prompt_type: ``"real"`` or ``"synthetic"``.
    """

    prompt: str
    image: str | None
    image_uri: str | None
    sample_id: str | None
    elements: str | None
    prompt_type: str | None


def find_columns(names: Sequence[str], mapping: Mapping[str, str], where: str) -> Columns:
    """Finds the columns of a manifest.

    Args:
        names: The manifest's column names.
        mapping: Role -> column name, before any convention.
        where: The manifest, for messages.

    Raises:
        ManifestError: an unknown role, a mapped column that is not there, or no prompt or image
            column; with the columns found and wanted.
    """
    for role, name in mapping.items():
        if role not in CONVENTIONS:
            raise ManifestError(
                f"--map {role}={name}: no such role. {did_you_mean(role, CONVENTIONS)}"
            )
        if name not in names:
            raise ManifestError(
                f"--map {role}={name}: {where} has no column {name!r}. {did_you_mean(name, names)}"
            )
    found = {
        role: mapping.get(role) or next((n for n in tried if n in names), None)
        for role, tried in CONVENTIONS.items()
    }
    if "image_uri" in mapping and "image" not in mapping:
        found["image"] = None  # what the user mapped wins over a convention
    prompt = found["prompt"]
    if prompt is None or (found["image"] is None and found["image_uri"] is None):
        tried = CONVENTIONS
        raise ManifestError(
            f"{where}: found columns {list(names)}; wanted a prompt (one of "
            f"{list(tried['prompt'])}) and an image (bytes in one of {list(tried['image'])}, or a "
            f"path or URI in one of {list(tried['image_uri'])}). Name them with --map, for example "
            f"--map prompt={names[0] if names else 'COLUMN'}"
        )
    return Columns(
        prompt=prompt,
        image=found["image"],
        image_uri=found["image_uri"],
        sample_id=found["sample_id"],
        elements=found["elements"],
        prompt_type=found["prompt_type"],
    )


def passthrough(names: Sequence[str], columns: Columns) -> dict[str, str]:
    """Output name of every input column that travels on.

    Image bytes stay behind (the output would be a second copy of the data set); a name that a score
    column needs gets the prefix ``input_``.
    """
    roles = {columns.prompt, columns.image_uri, columns.elements, columns.prompt_type}
    left = {columns.image, columns.sample_id} - roles
    keep = [n for n in names if n not in left]
    taken = {*SCORE_SCHEMA.names, *keep}
    out: dict[str, str] = {}
    for name in keep:
        new = name
        if name in SCORE_SCHEMA.names:
            while new in taken:
                new = f"input_{new}"
        out[name] = new
        taken.add(new)
    return out


def read_small(source: Path | Store, mapping: Mapping[str, str] | None = None) -> pa.Table:
    """Reads a text manifest (``.csv``, ``.tsv``, ``.jsonl``) whole.

    Columns that have a role are read as text: an id keeps its zeros, and a prompt may be ``null``
    or a date.

    Args:
        source: The file.
        mapping: Role -> column name, as for :func:`find_columns`.

    Raises:
        ManifestError: the file cannot be read or parsed.
    """
    store = source if isinstance(source, Store) else Store.of(source)
    suffix = PurePosixPath(store.root).suffix
    try:
        content = store.read_bytes()
        if suffix == ".jsonl":
            return _read_jsonl(content)
        texts = [
            *(mapping or {}).values(),
            *(name for tried in CONVENTIONS.values() for name in tried),
        ]
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(texts, pa.string()), strings_can_be_null=False
        )
        parse = csv.ParseOptions(
            delimiter="\t" if suffix == ".tsv" else ",", newlines_in_values=True
        )
        data = io.BytesIO(content)
        return csv.read_csv(data, parse_options=parse, convert_options=convert)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError, ValueError) as error:
        where = public(store.uri)
        raise ManifestError(f"{where}: cannot be read as {suffix[1:]}: {error}") from error


def _read_jsonl(content: bytes) -> pa.Table:
    rows: list[dict[str, Any]] = []
    with io.TextIOWrapper(io.BytesIO(content), encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                where = f"line {number}, character {error.pos + 1}"
                raise ValueError(f"{where}: {error.msg}") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: wanted an object, got {type(row).__name__}")
            # objects of different keys would become one struct with the keys of all rows
            rows.append({k: json.dumps(v) if isinstance(v, dict) else v for k, v in row.items()})
    if not rows:
        raise ValueError("it has no rows")
    columns: dict[str, pa.Array[Any]] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            columns[name] = pa.array([row.get(name) for row in rows])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(f"column {name!r}: {error}") from None
    return pa.table(columns)
