"""Tar shards of webdataset and img2dataset, where the files of a key stand side by side.

``KEY.jpg`` (or another ending) is the image, ``KEY.txt`` its prompt, ``KEY.json`` whatever else.
Format: https://github.com/webdataset/webdataset and https://github.com/rom1504/img2dataset.

:mod:`~tokenfocus_ray.datasets.tar_samples` reads them; here a sample becomes a row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from tokenfocus_ray.datasets.names import IMAGE_ENDINGS, is_image
from tokenfocus_ray.datasets.tar_samples import Sample, samples_of
from tokenfocus_ray.errors import RowError
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import (
    ERROR_CODE,
    ERROR_MESSAGE,
    as_text,
    decode_text,
    is_valid,
    readable,
)

_COLUMNS: dict[str, pa.DataType] = {
    "key": pa.string(),
    "image": pa.large_binary(),
    "prompt": pa.string(),
    "elements": pa.string(),
    "json": pa.string(),
    "shard": pa.string(),
    ERROR_CODE: pa.string(),
    ERROR_MESSAGE: pa.string(),
}
#: What every shard gives; code and error stand in rows that the shard itself spoils.
TAR_COLUMNS = tuple(_COLUMNS)
#: Key of a table's metadata: what was passed over since the table before, JSON of reason -> count.
PASSED_OVER = b"tokenfocus.passed_over"
#: Which files are one sample, as a number that rises with each change: a shard of which some pieces
#: were cut by other rules cannot go on.
SAMPLE_RULES = 2
_PROMPTS = ("prompt", "caption", "text")


def tar_schema(fields: Sequence[str], image: str | None = None) -> pa.Schema:
    """Columns of a shard.

    Args:
        fields: Of each ``KEY.json``, which become text columns of their own.
        image: Ending of the image files, which then names their column; None: any image.
    """
    columns = dict(_COLUMNS)
    if image is not None:
        del columns["image"]
        columns[image] = pa.large_binary()
    return pa.schema({**columns, **dict.fromkeys(fields, pa.string())})


def read_tar(
    store: Store, schema: pa.Schema, rows: int, encoding: str | None = None
) -> Iterator[pa.Table]:
    """The samples of a shard, read from its start to its end.

    Args:
        store: The shard.
        schema: From :func:`tar_schema`.
        rows: Most rows of a table.
        encoding: Of text without a byte order mark; None: UTF-8.

    Yields:
        Tables of ``rows`` samples, the last with what is left, and :data:`PASSED_OVER`. A shard
        that is cut off or no tar ends in a row without image whose error says where.
    """
    passed: Counter[str] = Counter()
    waiting: list[dict[str, Any]] = []

    def table() -> pa.Table:
        made = pa.Table.from_pylist(waiting, schema=schema)
        made = made.replace_schema_metadata({PASSED_OVER: json.dumps(passed).encode()})
        waiting.clear()
        passed.clear()
        return made

    (image,) = (f.name for f in schema if f.type == pa.large_binary())
    for sample in samples_of(store, None if image == "image" else image.lower(), passed):
        if len(waiting) == rows:
            yield table()
        waiting.append(_row(sample, schema, image, store.uri, encoding))
    if waiting or passed:
        yield table()


def _row(
    sample: Sample, schema: pa.Schema, image: str, uri: str, encoding: str | None
) -> dict[str, Any]:
    files, key = sample.files, sample.key and readable(sample.key)
    row: dict[str, Any] = dict.fromkeys(schema.names)
    row |= {"key": key, "shard": uri.rpartition("/")[2]}
    fields = [name for name in schema.names if name not in _COLUMNS and name != image]
    try:
        row[image] = files.get(picture(sample) if image == "image" else image.lower())
        caption = decode_text(files.get("txt") or b"", encoding, f"{key}.txt")
        row["prompt"] = caption.strip() or None
        row["json"] = _json_text(files.get("json") or b"", encoding, f"{key}.json") or None
        known = _known(row["json"], f"{key}.json")
        found = {n: _field(known.get(n), f"{key}.json: {n}") for n in ["elements", *fields]}
        given = next((name for name in _PROMPTS if known.get(name)), None)
        if row["prompt"] is None and given is not None:
            found["prompt"] = as_text(known[given], where=f"{key}.json: {given}")
        row |= {name: readable(value) for name, value in found.items() if value is not None}
        for name, value in found.items():
            if value is not None and not is_valid(value):
                message = f"{key}.json: {name} is not valid Unicode: {readable(value):.80}"
                raise RowError("text_invalid", message)
    except RowError as error:
        sample.spoil(error)
    if sample.fault is not None:
        row |= {ERROR_CODE: sample.fault.code, ERROR_MESSAGE: sample.fault.message}
    return row


def picture(sample: Sample) -> str:
    """The ending of the image."""
    images = [ending for ending in sample.files if is_image(f".{ending}")]
    plain = [ending for ending in images if ending in IMAGE_ENDINGS]
    if images and len(plain) != 1:
        message = (
            f"key {sample.key!r} has the images {', '.join(map(repr, images[:5]))}: a key ends at "
            f"the first dot of a file's name; name the one to score with --map "
            f"image={images[0]}, or pack files without more dots in their names"
        )
        raise RowError("member_ambiguous", message)
    return plain[0] if plain else ""


def _known(text: str | None, where: str) -> dict[str, Any]:
    """What a ``KEY.json`` says; nothing where it is no object."""
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:  # nested too deep
        raise RowError("member_invalid", f"{where} cannot be read as JSON: {error}") from None
    return value if isinstance(value, dict) else {}


def _json_text(data: bytes, encoding: str | None, where: str) -> str:
    """JSON is UTF-8 by its own rule, whatever the captions beside it are."""
    try:
        return decode_text(data, None, where)
    except RowError:
        return decode_text(data, encoding, where)


def _field(value: Any, where: str) -> str | None:
    """What a ``KEY.json`` says of one thing; a list or object, such as elements, as JSON."""
    if isinstance(value, (list, dict)):
        try:
            return json.dumps(value, ensure_ascii=False)
        except RecursionError as error:  # the limit is a little lower than for reading
            raise RowError("member_invalid", f"{where} is nested too deep: {error}") from None
    return as_text(value, where=where)
