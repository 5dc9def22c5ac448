"""Records of a JSON file, with what is wrong with one in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenfocus_ray.datasets.importers.base import Request
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store, public
from tokenfocus_ray.tables.text import decode_file


def read_records(request: Request, wanted: str) -> list[Any]:
    """The records of a ``.json`` file that is a list, or of a ``.jsonl`` file.

    Args:
        request: Of which the source is read.
        wanted: What the file should be, for messages.

    Raises:
        ManifestError: it is none of the two, or an item is no object.
    """
    where = public(request.src)
    value: Any
    text = read_text(request, request.src)
    try:
        if request.src.lower().endswith(".jsonl"):
            value = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not JSON ({error}); give {wanted}") from None
    if not isinstance(value, list):
        raise ManifestError(f"{where}: holds a {type(value).__name__}; give {wanted}")
    for number, record in enumerate(value):
        if not isinstance(record, Mapping):
            raise ManifestError(
                f"{where}: record {number} is {record!r:.80}; a record must be an object with "
                f"named fields"
            )
    return value


def read_text(request: Request, uri: str) -> str:
    """Text of a whole file.

    Raises:
        ManifestError: it cannot be read.
    """
    try:
        return decode_file(Store.of(uri).read_bytes(), request.text.encoding, public(uri))
    except FileNotFoundError:
        raise ManifestError(f"{public(uri)!r} does not exist; check the path") from None


def text_of(record: Mapping[str, Any], name: str, where: str, *, empty: bool = False) -> str:
    """A field that is one text, or a whole number.

    Args:
        record: What has it.
        name: Of the field.
        where: The record, for messages.
        empty: Whether it may be missing.

    Raises:
        ManifestError: it is missing or of another type.
    """
    value = record.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and (value.strip() or empty):
        return value
    if value is None and empty:
        return ""
    raise ManifestError(f"{where}: {name} is {value!r:.80}; give a text")
