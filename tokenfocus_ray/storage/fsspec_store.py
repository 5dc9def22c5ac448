"""Stores that fsspec reaches, as file systems of Arrow: Google's, Azure's, Hadoop's and others.

:mod:`tokenfocus_ray.storage.schemes` lists them. Their clients take keys and addresses from the
environment, as everywhere else.
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import fsspec
import pyarrow as pa
from pyarrow import fs

from tokenfocus_ray.errors import ConfigError, OutputError
from tokenfocus_ray.storage.failures import StoreFailedError, as_os_errors, translated
from tokenfocus_ray.storage.schemes import FSSPEC, Kind
from tokenfocus_ray.storage.uris import public, split_uri

#: What stores say of a file's content, the first that is there: a copy has the same, mostly.
_CONTENT = ("md5Hash", "content_md5", "ETag", "etag")
_WRITTEN = ("mtime", "last_modified", "LastModified", "updated", "modified", "created")


class MissingClientError(ConfigError):
    """The package that reaches a store is not installed on this machine."""


def open_fsspec(uri: str) -> tuple[fs.PyFileSystem, str]:
    """File system and path of a URI; opens no connection, as far as its client does not.

    Raises:
        ConfigError: its client is not installed, or cannot be set up.
    """
    scheme, _ = split_uri(uri)
    kind = FSSPEC[scheme]
    try:
        client = fsspec.get_filesystem_class(scheme)
        options = client._get_kwargs_from_urls(uri)
        filesystem = _of_process(client, tuple(sorted(options.items())), os.getpid())
        path = client._strip_protocol(uri)
    except Exception as error:
        if isinstance(error, ImportError) or "Protocol not known" in str(error):
            raise MissingClientError(
                f"{public(uri)!r} needs the package {kind.package}, which is not installed on "
                f"{platform.node()!r}: pip install {kind.package}"
            ) from error
        raise ConfigError(
            f"{public(uri)!r} cannot be reached: {translated(error)}; check {kind.settings}"
        ) from error
    return fs.PyFileSystem(Handler(filesystem, scheme)), path


@functools.lru_cache(maxsize=16)
def _of_process(client: Any, options: tuple[tuple[str, Any], ...], pid: int) -> Any:
    # no listings from memory: other machines write there too
    return client(use_listings_cache=False, **dict(options))


def in_os_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    """The same method, whose errors are all ``OSError``."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with as_os_errors():
            return method(*args, **kwargs)

    return call


_FSSpecHandler: Any = fs.FSSpecHandler  # whose stubs lack half of it


class Handler(_FSSpecHandler):  # type: ignore[misc]
    """Arrow's way to fsspec, with errors that Arrow's callers know, and nothing from memory.

    Neither ``exists``, ``isfile`` and ``isdir`` nor ``find`` are asked, as Arrow's own way does: of
    a store that does not answer they say that nothing is there, which would lose rows.
    """

    create_dir = in_os_errors(_FSSpecHandler.create_dir)
    open_output_stream = in_os_errors(_FSSpecHandler.open_output_stream)

    def __init__(self, filesystem: Any, scheme: str) -> None:
        super().__init__(filesystem)
        self.scheme = scheme

    @property
    def kind(self) -> Kind:
        """What is known of such stores."""
        return FSSPEC[self.scheme]

    def check_keeps_jobs(self, uri: str) -> None:
        """Refuses to write where a job could lose rows.

        Raises:
            OutputError: naming the URI and where to write instead.
        """
        if not self.kind.keeps_jobs:
            raise OutputError(
                f"cannot write to {uri!r}: a file at {self.scheme}:// may be seen before it is "
                f"whole, and a job that is killed would lose rows; write to a disk, s3://, gs:// "
                f"or az://, and copy it there"
            )

    @in_os_errors
    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        """What is there at some paths."""
        self.fs.invalidate_cache()
        return list(super().get_file_info(paths))

    @in_os_errors
    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        """What is there in a folder."""
        self.fs.invalidate_cache()
        try:
            if self.fs.info(selector.base_dir)["type"] != "directory":
                raise NotADirectoryError(selector.base_dir)
            found = self._listed(selector.base_dir, selector.recursive)
        except FileNotFoundError:
            if selector.allow_not_found:
                return []
            raise
        return [self._create_file_info(info["name"], info) for info in found]

    def _listed(self, folder: str, recursive: bool) -> list[dict[str, Any]]:
        found = []
        for info in self.fs.ls(folder, detail=True):
            if info["name"].strip("/") != folder.strip("/"):  # some name the folder itself
                found.append(info)
                if recursive and info["type"] == "directory":
                    found += self._listed(info["name"], recursive)
        return found

    @in_os_errors
    def delete_file(self, path: str) -> None:
        """Deletes a file."""
        self.fs.rm_file(path)

    @in_os_errors
    def delete_dir(self, path: str) -> None:
        """Deletes a folder with all that is in it."""
        self.fs.rm(path, recursive=True)
        self.fs.invalidate_cache()
        with suppress(FileNotFoundError):
            if left := [i["name"] for i in self._listed(path, True) if i["type"] == "file"]:
                raise OSError(f"{len(left)} files are still there, such as {left[0]!r}")

    @in_os_errors
    def delete_dir_contents(self, path: str, missing_dir_ok: bool) -> None:
        """Deletes all that is in a folder."""
        self.fs.invalidate_cache()
        for info in self._listed(path, False):
            delete = self.delete_dir if info["type"] == "directory" else self.delete_file
            delete(info["name"])

    @in_os_errors
    def open_input_file(self, path: str) -> pa.PythonFile:
        """A file to read from any place."""
        if self.fs.info(path)["type"] == "directory":
            raise IsADirectoryError(path)
        file: Any = _Reader(self.fs.open(path, mode="rb"))
        return pa.PythonFile(file, mode="r")

    open_input_stream = open_input_file

    @in_os_errors
    def put(self, path: str, data: bytes) -> None:
        """Writes a file by one request, or by several that are seen once the last one is done."""
        self.fs.pipe_file(path, data)

    @in_os_errors
    def version(self, path: str) -> bytes:
        """What changes when the file is written anew; empty where the store does not tell."""
        info = self.fs.info(path)
        found = next((info[key] for key in (*_CONTENT, *_WRITTEN) if info.get(key)), "")
        return str(found).encode()


class _Reader:
    """A file of fsspec, read with ``OSError`` only."""

    closed = property(lambda self: self._file.closed)

    def __init__(self, file: Any) -> None:
        self._file = file
        self.seek, self.tell = in_os_errors(file.seek), in_os_errors(file.tell)
        self.read, self.close = in_os_errors(file.read), in_os_errors(file.close)


def explain_fsspec(error: Exception, handler: Handler) -> tuple[str, str]:
    """Cause and remedy, in words, of what a request raised."""
    cause = str(getattr(error, "strerror", None) or error)
    if isinstance(error, StoreFailedError):
        return cause, (
            f"the store at {handler.scheme}:// did not answer: check the network and what its "
            f"client takes from the environment ({handler.kind.settings}), and run again"
        )
    return cause, f"check the name, and what its client may do ({handler.kind.settings})"
