"""DiffusionDB's folders as they are downloaded: images, and a ``.json`` beside them.

``part-000001/part-000001.json`` is ``{"UUID.png": {"p": prompt, "se": seed, "c": guidance scale,
"st": steps, "sa": sampler}}``. Source: https://arxiv.org/abs/2210.14896 and its data card.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tokenfocus_ray.datasets.files import File, unreadable
from tokenfocus_ray.datasets.folders import find_input
from tokenfocus_ray.datasets.footers import digest
from tokenfocus_ray.datasets.importers.base import ROWS, Plan, Request
from tokenfocus_ray.datasets.importers.rows import to_manifest
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.datasets.units import Unit
from tokenfocus_ray.datasets.watch import stamps
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store, public
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE, decode_file, make_valid

_PART = re.compile(r"(?:.*/)?part-\d+\.json")
#: Key of the file -> column, and its type.
_FIELDS: dict[str, tuple[str, pa.DataType]] = {
    "p": ("prompt", pa.string()),
    "se": ("seed", pa.int64()),
    "c": ("cfg", pa.float64()),
    "st": ("step", pa.int64()),
    "sa": ("sampler", pa.string()),
}
_COLUMNS = Columns("prompt", None, "image_name", None, None, None)


def plan_parts(request: Request) -> Plan | None:
    """The parts in a folder; None where it has none, or tables too."""
    folder = Store.of(request.src)
    try:
        if not folder.is_folder():
            return None
        found = find_input(folder)
    except OSError as error:
        raise unreadable(folder, error) from error
    names = sorted(name for name in found.sizes if _PART.fullmatch(name))
    if not names or found.form:
        return None
    request.refuse("diffusiondb", mapping="where its parts say what is what")
    base = Store.of(request.images).absolute if request.images else None
    files, units = [], []
    for number, name in enumerate(names):
        uri, own = folder.child(name).absolute, posixpath.dirname(name)
        files.append(File(uri, folder.absolute, found.sizes[name]))
        where = f"{base}/{own}".rstrip("/") if base else folder.child(own).absolute
        units.append(Unit(number, uri, (), 0, None, where))
    fingerprint = {
        "files": len(files),
        **stamps(files),
        "content": digest((f.name, f.size) for f in files),
    }
    return Plan(tuple(units), FromPart(request.text.encoding), fingerprint, together=32)


@dataclass(frozen=True, slots=True)
class FromPart:
    """Rows of a part.

    Attributes:
        encoding: Of its text; None: UTF-8.
    """

    encoding: str | None

    def __call__(self, unit: Unit) -> Iterator[pa.Table]:
        """Yields tables of a manifest."""
        store = Store.of(unit.uri)
        try:
            data = store.read_bytes()
        except OSError as error:
            raise unreadable(store, error) from error
        rows = rows_of(decode_file(data, self.encoding, public(unit.uri)), public(unit.uri))
        kinds = {"image_name": pa.string(), **dict(_FIELDS.values())}
        for start in range(0, len(rows), ROWS):
            some = [make_valid(row, ("prompt", "image_name")) for row in rows[start : start + ROWS]]
            schema = pa.schema({**kinds, **dict.fromkeys((ERROR_CODE, ERROR_MESSAGE), pa.string())})
            yield to_manifest(pa.Table.from_pylist(some, schema=schema), _COLUMNS, unit.base)


def rows_of(text: str, where: str) -> list[dict[str, Any]]:
    """Rows of a part's file, in its order.

    Raises:
        ManifestError: it is no such file; naming the image and the field.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not JSON ({error}); fetch it again") from None
    if not isinstance(value, dict):
        raise ManifestError(f"{where}: holds a {type(value).__name__}; wanted images by name")
    return [_row(name, fields, f"{where}: {name!r}") for name, fields in value.items()]


def _row(name: str, fields: Any, where: str) -> dict[str, Any]:
    if not isinstance(fields, Mapping):
        raise ManifestError(f"{where} is {fields!r:.80}; wanted its prompt as p")
    row: dict[str, Any] = {"image_name": name}
    for key, (column, kind) in _FIELDS.items():
        value: Any = fields.get(key)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = isinstance(value, str) if kind == pa.string() else is_number
        if kind == pa.int64():
            fits = fits and value == int(value) and abs(value) < 2**63
        if value is not None and not fits:
            raise ManifestError(f"{where}: {key} is {value!r:.80}; wanted a {kind}")
        row[column] = value
    return row
