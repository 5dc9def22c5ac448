"""One way to files, for local folders and URIs of stores.

:mod:`tokenfocus_ray.storage.schemes` says which stores there are, and
:mod:`tokenfocus_ray.storage.s3` how S3 is set up.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from pyarrow import fs

from tokenfocus_ray.errors import ConfigError, OutputError
from tokenfocus_ray.storage import disk
from tokenfocus_ray.storage.disk import TEMPORARY
from tokenfocus_ray.storage.explain import explain, store_failed
from tokenfocus_ray.storage.fsspec_store import Handler, open_fsspec
from tokenfocus_ray.storage.s3 import etag, s3_filesystem
from tokenfocus_ray.storage.schemes import REMOTE, check_remote, unknown_scheme
from tokenfocus_ray.storage.uris import split_uri


@dataclass(frozen=True, slots=True)
class Store:
    """A folder, or a file, somewhere. Names below it use ``/``.

    Every ``OSError`` leaves as ``OutputError`` with its cause and the remedy, except that reading
    what is not there is a ``FileNotFoundError``.

    Attributes:
        uri: As the user gave it, without a slash at the end.
        filesystem: For whoever reads or writes Parquet; pickles.
        root: The path in that file system.
    """

    uri: str
    filesystem: fs.FileSystem = field(repr=False)
    root: str

    @classmethod
    def of(cls, uri: str | os.PathLike[str]) -> Store:
        """Finds the file system of a URI; opens no connection.

        Args:
            uri: A local path, ``file:///path``, ``s3://bucket/prefix`` or likewise of another of
                the stores.

        Raises:
            ConfigError: another scheme, no bucket, settings inside the URI, no Unicode, or a store
                whose client is not installed.
        """
        text, (scheme, path) = os.fspath(uri), split_uri(uri)
        shown = text.encode("utf-8", "backslashreplace").decode()
        if shown != text:  # a name of bytes that are not UTF-8, which Arrow cannot open
            raise ConfigError(f"'{shown}' is not valid Unicode; rename it, or name a link to it")
        if scheme in REMOTE:
            check_remote(text)
            filesystem, root = (s3_filesystem(), path) if scheme == "s3" else open_fsspec(text)
            return cls(text.rstrip("/"), filesystem, root.rstrip("/"))
        if scheme not in ("", "file"):
            raise unknown_scheme(text)
        if not path or (scheme and not path.startswith("/")):
            raise ConfigError(f"{text!r} names no local path; give one, or file:///absolute/path")
        return cls(text.rstrip("/") or "/", fs.LocalFileSystem(), os.path.abspath(path))

    @property
    def is_local(self) -> bool:
        """Whether this is on a disk of this machine, or one that is mounted."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def absolute(self) -> str:
        """The URI for any process: those of a cluster stand in other working folders."""
        return self.root if self.is_local else self.uri

    def child(self, *names: str) -> Store:
        """The folder or file of that name below this one."""
        steps = [name.strip("/") for name in names if name.strip("/")]
        shown = [quote(s) for s in steps] if self.uri.lower().startswith("file:") else steps
        uri, root = (p.rstrip("/") if steps else p for p in (self.uri, self.root))
        return Store("/".join([uri, *shown]), self.filesystem, "/".join([root, *steps]))

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder of that name is there; on S3 a prefix is a folder."""
        at = self.child(name)
        with at._errors("look for"):
            if at.is_local:
                return os.path.exists(at.root)
            return at._type() != fs.FileType.NotFound

    def is_folder(self) -> bool:
        """Whether a folder is there; on S3, anything below that prefix."""
        with self._errors("look for"):
            return self._type() == fs.FileType.Directory

    def lies_in(self, folder: Store) -> bool:
        """Whether this is that folder or lies below it, links followed; opens no connection."""
        if self.filesystem != folder.filesystem:
            return False
        own, other = (os.path.realpath(s.root) if s.is_local else s.root for s in (self, folder))
        return f"{own}/".startswith(f"{other.rstrip('/')}/")

    def read_bytes(self, name: str = "") -> bytes:
        """The file's bytes.

        Raises:
            FileNotFoundError: it is not there.
            OutputError: it cannot be read.
        """
        at = self.child(name)
        with at._errors("read"):
            return at._get()

    def write_bytes(self, name: str, data: bytes | pa.Buffer) -> None:
        """Writes a file whole or not at all, in place of one that is there; makes its folders.

        Raises:
            OutputError: it cannot be written.
        """
        self._check_kind()
        at = self.child(name)
        with at._errors("write", missing=True):
            at._put(data)

    def read_json(self, name: str = "") -> Any:
        """The value of a JSON file.

        Raises:
            FileNotFoundError: it is not there.
            OutputError: it cannot be read, or is no JSON.
        """
        data = self.read_bytes(name)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise OutputError(
                f"{self.child(name).uri!r} is no JSON ({error}); delete it or write it again"
            ) from error

    def read_record(self, name: str = "") -> dict[str, Any]:
        """The keys and values of a JSON file; raises as :meth:`read_json`, also for other JSON."""
        found = self.read_json(name)
        if not isinstance(found, dict):
            raise OutputError(
                f"{self.child(name).uri!r} holds a {type(found).__name__} in place of keys and "
                f"values; delete it or write it again"
            )
        return found

    def write_json(self, name: str, value: Any) -> None:
        """Writes a value as JSON, as :meth:`write_bytes` does; NaN is a ``ValueError``."""
        text = json.dumps(value, indent=2, allow_nan=False) + "\n"
        self.write_bytes(name, text.encode())

    def names(self, name: str = "") -> list[str]:
        """Names of the files and folders directly below, sorted; none where nothing is there."""
        at = self.child(name)
        found: list[str] = []
        with at._errors("list"), suppress(FileNotFoundError):
            if at.is_local:
                found = os.listdir(at.root)
            else:
                infos = at.filesystem.get_file_info(fs.FileSelector(at.root, allow_not_found=True))
                found = [info.base_name for info in infos]
        return sorted(n for n in found if not n.startswith(TEMPORARY))

    def delete(self, name: str) -> None:
        """Deletes a file, or a folder with all that is in it; of a bucket the content only.

        Args:
            name: What to delete, if it is there; ``""`` is this folder itself.
        """
        at = self.child(name)
        with at._errors("delete"), suppress(FileNotFoundError):
            at._remove()

    def sweep(self) -> None:
        """Deletes files directly below that killed writers left half written."""
        if self.is_local:
            with self._errors("delete"), suppress(FileNotFoundError):
                disk.sweep(self.root)

    def check_writable(self) -> None:
        """Writes, reads and deletes a small file, so that a long job fails before it starts.

        Raises:
            OutputError: with the URI, the cause and the remedy.
        """
        self._check_kind()
        # a name that is passed over, since another launch may look at what is there meanwhile
        probe, data = self.child(f"{TEMPORARY}{uuid.uuid4().hex}"), uuid.uuid4().bytes
        with self._errors("write to", missing=True):
            self._check_bucket()
            probe._put(data)
            try:
                found = probe._get()
            finally:
                probe._remove()
        if found != data:
            raise OutputError(
                f"cannot write to {self.uri!r}: what is read is not what was written; choose "
                "another folder"
            )

    def free_bytes(self) -> int | None:
        """Space left on a local disk, also for a folder that is yet to be made; else None."""
        if not self.is_local:
            return None
        with self._errors("look for"):
            return disk.free_bytes(self.root)

    def version(self) -> bytes:
        """What changes when this file is written anew to its store; empty where that is not told.

        Raises:
            OSError: it cannot be looked at.
        """
        if self._handler is not None:
            return bytes(self._handler.version(self.root))
        return etag(self.filesystem, self.root)

    def explain(self, error: Exception) -> tuple[str, str]:
        """Cause and remedy, in words, of what reading or writing raised."""
        return explain(error, self.filesystem)

    @contextmanager
    def _errors(self, verb: str, *, missing: bool = False) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: a path that cannot be
            if isinstance(error, FileNotFoundError) and not missing:
                raise
            cause, remedy = self.explain(error)
            raise OutputError(f"cannot {verb} {self.uri!r}: {cause}; {remedy}") from error

    @property
    def _handler(self) -> Handler | None:
        """Of a store that fsspec reaches."""
        found = getattr(self.filesystem, "handler", None)
        return found if isinstance(found, Handler) else None

    def _check_kind(self) -> None:
        if self._handler is not None:
            self._handler.check_keeps_jobs(self.uri)

    def _type(self) -> fs.FileType:
        return self.filesystem.get_file_info(self.root).type

    def _get(self) -> bytes:
        if self.is_local:
            with open(self.root, "rb") as local:
                return local.read()
        # not open_input_stream, which unpacks what is named .gz
        with self.filesystem.open_input_file(self.root) as file:
            return file.read()

    def _put(self, data: bytes | pa.Buffer) -> None:
        if self.is_local:
            disk.write_whole(self.root, data)
        elif self._handler is not None:
            self._handler.put(self.root, bytes(memoryview(data)))
        else:
            with self.filesystem.open_output_stream(self.root, compression=None) as file:
                file.write(data)

    def _remove(self) -> None:
        if self.is_local:
            disk.remove(self.root)
            return
        kind = self._type()
        if kind == fs.FileType.File:
            self.filesystem.delete_file(self.root)
        elif kind == fs.FileType.Directory and "/" in self.root.strip("/"):
            self.filesystem.delete_dir(self.root)
        elif kind == fs.FileType.Directory:
            self.filesystem.delete_dir_contents(self.root)

    def _check_bucket(self) -> None:
        """A server may make a bucket that is not there, which hides a name that is misspelt."""
        if self.is_local:
            return
        bucket = self.root.lstrip("/").partition("/")[0]
        try:
            info = self.filesystem.get_file_info(bucket)
        except OSError as error:
            if store_failed(error):
                raise
            return  # keys that may write but not look; a wrong one is told by the write
        if info.type == fs.FileType.NotFound:
            raise OSError(f"NO_SUCH_BUCKET: {bucket!r}")
