"""Tar shards of webdataset and img2dataset, where the files of a key stand side by side.

``KEY.jpg`` (or png, webp) is the image, ``KEY.txt`` its prompt, ``KEY.json`` what else is known.
Format: https://github.com/webdataset/webdataset and https://github.com/rom1504/img2dataset.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa

from tokenfocus_ray.datasets.text import ERROR_CODE, ERROR_MESSAGE
from tokenfocus_ray.storage import Store, public

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
#: What every shard gives; the last row of a shard that is cut off has an error.
TAR_COLUMNS = tuple(_COLUMNS)
_IMAGES = ("jpg", "jpeg", "png", "webp")
_BLOCK = 512
_PROMPTS = ("prompt", "caption", "text")


def tar_schema(fields: Sequence[str]) -> pa.Schema:
    """Columns of a shard, with some fields of each ``.json`` as text columns of their own."""
    return pa.schema({**_COLUMNS, **dict.fromkeys(fields, pa.string())})


def read_tar(store: Store, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """The samples of a shard, read from its start to its end.

    Args:
        store: The shard.
        schema: From :func:`tar_schema`.
        rows: Most rows of a table.

    Yields:
        Tables of ``rows`` samples, the last with what is left. A shard that is cut off or no tar
        ends in a row without image whose error says where.
    """
    waiting: list[dict[str, Any]] = []
    for sample in _samples(store):
        waiting.append(_row(sample, schema, store.uri))
        if len(waiting) == rows:
            yield pa.Table.from_pylist(waiting, schema=schema)
            waiting = []
    if waiting:
        yield pa.Table.from_pylist(waiting, schema=schema)


def _samples(store: Store) -> Iterator[dict[str, Any]]:
    """Files by ending, sample by sample; the key under an empty ending."""
    sample: dict[str, Any] = {}
    reading = False
    try:
        with (
            store.filesystem.open_input_stream(store.root, compression=None) as raw,
            tarfile.open(fileobj=cast(Any, stream := _Tail(raw)), mode="r|") as tar,
        ):
            for member in tar:
                if not member.isfile():
                    continue
                folder, slash, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                key = f"{folder}{slash}{stem}"
                if sample and sample[""] != key:
                    yield sample
                    sample = {}
                sample[""], reading = key, True
                file = tar.extractfile(member)
                assert file is not None
                sample[ending.lower()] = file.read()
                reading = False
            if not stream.ends_as_a_tar:  # which tarfile takes for the end, between two members
                raise tarfile.ReadError("unexpected end of data")
    except (tarfile.TarError, EOFError) as error:
        last = sample.get("")
        if sample and not reading:
            yield sample
        where = "from its start" if not sample else f"{'from' if reading else 'after'} key {last!r}"
        yield {
            "": last if reading else None,
            "error": f"shard {public(store.uri)!r} cannot be read {where} on: {error}; fetch it "
            f"again, what follows in it was not scored",
        }
        return
    if sample:
        yield sample


class _Tail:
    """A stream that remembers its last block."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._tail = stream, b""

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        self._tail = (self._tail + data)[-_BLOCK:]
        return data

    @property
    def ends_as_a_tar(self) -> bool:
        """Whether a block of zeros is the last that was read."""
        return self._tail == bytes(_BLOCK)


def _row(sample: Mapping[str, Any], schema: pa.Schema, uri: str) -> dict[str, Any]:
    text = sample.get("json", b"").decode("utf-8", "replace")
    try:
        known = json.loads(text) if text else {}
    except ValueError:
        known = {}
    if not isinstance(known, dict):
        known = {}
    caption = sample.get("txt")
    prompt = caption.decode("utf-8", "replace").strip() if caption is not None else None
    row: dict[str, Any] = {
        name: _text(known.get(name)) for name in schema.names if name not in _COLUMNS
    }
    return row | {
        "key": sample[""],
        "image": next((sample[e] for e in _IMAGES if e in sample), None),
        "prompt": prompt or next((str(known[n]) for n in _PROMPTS if known.get(n)), None),
        "elements": _text(known.get("elements")),
        "json": text or None,
        "shard": uri.rpartition("/")[2],
        ERROR_CODE: "source_corrupt" if "error" in sample else None,
        ERROR_MESSAGE: sample.get("error"),
    }


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
