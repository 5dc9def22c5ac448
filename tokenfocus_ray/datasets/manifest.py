"""Manifests: which column is what, by convention or by ``--map``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


def find_columns(
    names: Sequence[str], mapping: Mapping[str, str], where: str, *, needs_images: bool = True
) -> Columns:
    """Finds the columns of a manifest.

    Args:
        names: The manifest's column names.
        mapping: Role -> column name, before any convention.
        where: The manifest, for messages.
        needs_images: Whether an image column must be there too.

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
    found = roles_of(names, mapping)
    prompt = found["prompt"]
    tried = CONVENTIONS
    if prompt is None and not needs_images:
        raise ManifestError(
            f"{where}: found columns {list(names)}; wanted a prompt (one of "
            f"{list(tried['prompt'])}). Name it with --map, for example --map "
            f"prompt={names[0] if names else 'COLUMN'}"
        )
    has_image = found["image"] is not None or found["image_uri"] is not None
    if prompt is None or (needs_images and not has_image):
        if prompt is not None and {"elements", "element_questions"} & set(names):
            raise ManifestError(
                f"{where}: found columns {list(names)}, of which {prompt!r} is the prompt and none "
                f"is an image. Add bytes in one of {list(tried['image'])}, or a path or URI in one "
                f"of {list(tried['image_uri'])}; a benchmark's prompts are imported with yours by "
                f"`tokenfocus data import ... --images FOLDER/{{id}}.png`"
            )
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


def roles_of(names: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str | None]:
    """The column of each role, as far as there is one."""
    found = {
        role: mapping.get(role) or next((n for n in tried if n in names), None)
        for role, tried in CONVENTIONS.items()
    }
    if "image_uri" in mapping and "image" not in mapping:
        found["image"] = None  # what the user mapped wins over a convention
    return found


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
