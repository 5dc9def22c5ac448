"""Manifests: which column is what, by convention or by ``--map``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from tokenfocus_ray.errors import ManifestError, did_you_mean
from tokenfocus_ray.schema import SCORE_SCHEMA

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
    taken = set(SCORE_SCHEMA.names)
    keep = [n for n in names if n not in (columns.image, columns.sample_id)]
    return {n: f"input_{n}" if n in taken else n for n in keep}


def read_small(path: Path) -> pa.Table:
    """Reads a text manifest (``.csv``, ``.tsv``, ``.jsonl``) whole.

    Raises:
        ManifestError: the file cannot be parsed.
    """
    try:
        if path.suffix in (".csv", ".tsv"):
            parse = pa.csv.ParseOptions(
                delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True
            )
            # prompts such as "null" or "1984" are text, so strings are never nulls
            convert = pa.csv.ConvertOptions(strings_can_be_null=False)
            return pa.csv.read_csv(path, parse_options=parse, convert_options=convert)
        return pa.json.read_json(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ManifestError(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from error
