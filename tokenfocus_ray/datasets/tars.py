"""Tar shards of webdataset and img2dataset, where the files of a key stand side by side.

``KEY.jpg`` (or another ending) is the image, ``KEY.txt`` its prompt, ``KEY.json`` whatever else.
Format: https://github.com/webdataset/webdataset and https://github.com/rom1504/img2dataset.

A shard is read once from its start to its end, and comes from anywhere: what one of its files says
of itself is never trusted beyond that file.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

import pyarrow as pa

from tokenfocus_ray.datasets.names import IMAGE_ENDINGS, is_hidden, is_image, tar_key
from tokenfocus_ray.errors import RowError
from tokenfocus_ray.schema import MAX_IMAGE_BYTES
from tokenfocus_ray.storage import Store, public
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
#: Most bytes of a ``KEY.txt`` or ``KEY.json``.
MAX_TEXT_BYTES = 16 * 2**20
#: Most bytes of a header that gives a long name or attributes.
_MAX_HEADER = 2**20
_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_BLOCK = 512
_PROMPTS = ("prompt", "caption", "text")
#: What damaged headers make tarfile raise.
_DAMAGED = (tarfile.TarError, EOFError, ValueError, LookupError, OverflowError, RecursionError)


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
    for sample in _samples(store, None if image == "image" else image.lower(), passed):
        if len(waiting) == rows:
            yield table()
        waiting.append(_row(sample, schema, image, store.uri, encoding))
    if waiting or passed:
        yield table()


@dataclass(slots=True)
class _Sample:
    """The files of a key.

    Attributes:
        key: None of a shard that is broken between two samples.
        files: Ending -> content; None: not read.
        fault: Why the sample cannot be scored, the first reason.
    """

    key: str | None
    files: dict[str, bytes | None] = field(default_factory=dict)
    fault: RowError | None = None

    def spoil(self, fault: RowError) -> None:
        self.fault = self.fault or fault


def _samples(store: Store, image: str | None, passed: Counter[str]) -> Iterator[_Sample]:
    """Sample by sample, in the order of the shard."""
    sample: _Sample | None = None
    seen: set[int] = set()
    reading = False
    try:
        with (
            store.filesystem.open_input_stream(store.root, compression=None) as raw,
            tarfile.open(
                fileobj=cast(Any, stream := _Tail(raw)),
                mode="r|",
                tarinfo=_Header,
                ignore_zeros=True,  # of shards that were put one behind another
            ) as tar,
        ):
            for member in tar:
                cast(Any, tar).members.clear()  # which it would keep, all of the shard
                if member.size < 0:
                    raise tarfile.ReadError(f"a file of {member.size} bytes")
                if member.isdir():
                    continue
                if is_hidden(member.name) or (named := tar_key(member.name)) is None:
                    kind = "hidden" if is_hidden(member.name) else "without an ending"
                    passed[kind] += 1
                    continue
                key, ending = named
                if sample and (sample.key != key or ending in sample.files):
                    yield sample
                    sample = None
                if sample is None:
                    sample = _begin(key, seen)
                sample.files[ending], reading = None, True
                if ending in ("txt", "json") or _is_wanted(ending, image):
                    _read(tar, member, ending, sample)
                reading = False
            if not stream.ends_as_a_tar:  # which tarfile takes for the end, between two members
                raise tarfile.ReadError("unexpected end of data")
    except pa.ArrowException:  # some are ValueErrors: the store's, not the shard's
        raise
    except _DAMAGED as error:
        last = sample.key if sample else None
        if sample and not reading:
            yield sample
        where = "from its start" if not sample else f"{'from' if reading else 'after'} key {last!r}"
        message = (
            f"shard {public(store.uri)!r} cannot be read {where} on: {error}; fetch it again, what "
            f"follows in it was not scored"
        )
        sample = _Sample(last if reading else None, {}, RowError("source_corrupt", message))
    if sample:
        yield sample


def _begin(key: str, seen: set[int]) -> _Sample:
    sample = _Sample(key)
    if hash(key) in seen:
        message = (
            f"key {key!r} came before in the shard: these files are another sample of its name, or "
            f"stand apart from it; give each sample a key of its own and its files side by side"
        )
        sample.spoil(RowError("member_duplicate", message))
    seen.add(hash(key))
    return sample


def _is_wanted(ending: str, image: str | None) -> bool:
    """Whether this is the image of its sample, if it is the only one."""
    return ending in IMAGE_ENDINGS if image is None else ending == image


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, ending: str, sample: _Sample) -> None:
    """Reads one file, or says why not: then it is gone past."""
    limit = MAX_TEXT_BYTES if ending in ("txt", "json") else MAX_IMAGE_BYTES
    if member.issparse() or not member.isreg():
        kind = "a link" if member.issym() or member.islnk() else "no regular file"
        kind = "a sparse file" if member.issparse() else kind
        message = (
            f"{member.name!r} is {kind} in the shard; pack the files themselves (GNU tar: "
            f"--dereference --hard-dereference, without --sparse)"
        )
        sample.spoil(RowError("member_invalid", message))
    elif member.size > limit:
        message = f"{member.name!r} has {member.size} bytes, the limit is {limit}; make it smaller"
        sample.spoil(RowError("member_too_large", message))
    else:
        file = tar.extractfile(member)
        assert file is not None
        sample.files[ending] = file.read()


class _Header(tarfile.TarInfo):
    """A header that is damaged ends the shard; tarfile would look for the next one behind it."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str | None, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        except tarfile.HeaderError as error:
            if len(buf) == _BLOCK and any(buf):
                raise tarfile.ReadError(str(error)) from None
            raise  # zeros, or the end
        if header.type in _HEADERS and header.size > _MAX_HEADER:  # tarfile reads it whole
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header


class _Tail:
    """A stream that remembers its last block."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._tail, self._ended = stream, b"", False

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        if not data and self._ended:  # tarfile would ask on and on, for what a header claims
            raise tarfile.ReadError("unexpected end of data")
        self._ended = not data
        self._tail = (self._tail + data)[-_BLOCK:]
        return data

    @property
    def ends_as_a_tar(self) -> bool:
        """Whether a block of zeros is the last that was read."""
        return self._tail == bytes(_BLOCK)


def _row(
    sample: _Sample, schema: pa.Schema, image: str, uri: str, encoding: str | None
) -> dict[str, Any]:
    files, key = sample.files, sample.key and readable(sample.key)
    row: dict[str, Any] = dict.fromkeys(schema.names)
    row |= {"key": key, "shard": uri.rpartition("/")[2]}
    fields = [name for name in schema.names if name not in _COLUMNS and name != image]
    try:
        row[image] = files.get(_picture(sample) if image == "image" else image.lower())
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


def _picture(sample: _Sample) -> str:
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
