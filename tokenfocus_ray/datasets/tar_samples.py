"""Tar shards as samples: the files of one key that stand side by side.

A shard is read once from its start to its end, and comes from anywhere: what one of its files says
of itself is never trusted beyond that file.
"""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self, cast

import pyarrow as pa

from tokenfocus_ray.datasets.names import IMAGE_ENDINGS, is_hidden, tar_key
from tokenfocus_ray.errors import RowError
from tokenfocus_ray.schema import MAX_IMAGE_BYTES
from tokenfocus_ray.storage import Store, public

#: Most bytes of a ``KEY.txt`` or ``KEY.json``.
MAX_TEXT_BYTES = 16 * 2**20
#: Most bytes of a header that gives a long name or attributes.
_MAX_HEADER = 2**20
_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_BLOCK = 512
#: What damaged headers make tarfile raise.
_DAMAGED = (tarfile.TarError, EOFError, ValueError, LookupError, OverflowError, RecursionError)


@dataclass(slots=True)
class Sample:
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
        """Notes why it cannot be scored, if nothing came before."""
        self.fault = self.fault or fault


def samples_of(store: Store, image: str | None, passed: Counter[str]) -> Iterator[Sample]:
    """Sample by sample, in the order of the shard.

    Args:
        store: The shard.
        image: Ending of the image files; None: any that names an image.
        passed: Takes what is passed over: reason -> number of files.

    Yields:
        Samples; of a shard that is cut off or no tar, the last one says where.
    """
    sample: Sample | None = None
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
        sample = Sample(last if reading else None, {}, RowError("source_corrupt", message))
    if sample:
        yield sample


def _begin(key: str, seen: set[int]) -> Sample:
    sample = Sample(key)
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


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, ending: str, sample: Sample) -> None:
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
        if file is None:  # of what is no regular file, which was refused above
            raise tarfile.ReadError(f"{member.name!r} cannot be opened")
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
