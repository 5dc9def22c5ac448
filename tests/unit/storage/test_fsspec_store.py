"""Stores of fsspec: clients that are not there, what is refused, and errors in words."""

from __future__ import annotations

import errno
import pickle
import platform
from collections.abc import Callable
from typing import Any

import pytest
from pyarrow import fs

from tests.support.stores import InMemory, gs_bucket, in_memory  # noqa: F401
from tokenfocus_ray.errors import ConfigError, OutputError
from tokenfocus_ray.storage import Store, store_failed
from tokenfocus_ray.storage.failures import StoreFailedError, translated

GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS, or the machine's own account"


class HttpError(Exception):
    """As clients have them: an error of their own with HTTP's status."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class RefreshError(Exception):
    """As Google's library calls it when keys are wrong."""


@pytest.mark.parametrize(("scheme", "package"), [("oss", "ossfs"), ("abfss", "adlfs")])
def test_a_client_that_is_not_installed(
    scheme: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(scheme: str) -> Any:
        raise (
            ImportError("no such package")
            if scheme == "oss"
            else ValueError(f"Protocol not known: {scheme}")
        )

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    with pytest.raises(ConfigError) as caught:
        Store.of(f"{scheme}://bucket/a")
    assert str(caught.value) == (
        f"'{scheme}://bucket/a' needs the package {package}, which is not installed on "
        f"{platform.node()!r}: pip install {package}"
    )


def test_a_client_that_cannot_be_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutKeys(InMemory):
        def __init__(self, **options: object) -> None:
            raise RefreshError("no keys were found\nanywhere")

    in_memory("gcs", monkeypatch, WithoutKeys)
    with pytest.raises(ConfigError) as caught:
        Store.of("gcs://bucket/a")
    assert str(caught.value) == (
        f"'gcs://bucket/a' cannot be reached: no keys were found anywhere; check {GOOGLE}"
    )


def test_what_may_be_seen_half_written_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory("hdfs", monkeypatch)
    store = Store.of("hdfs://host:8020/scores")
    expected = (
        "cannot write to 'hdfs://host:8020/scores': a file at hdfs:// may be seen before it is "
        "whole, and a job that is killed would lose rows; write to a disk, s3://, gs:// or az://, "
        "and copy it there"
    )
    for write in (store.check_writable, lambda: store.write_bytes("x", b"")):
        with pytest.raises(OutputError) as caught:
            write()
        assert str(caught.value) == expected
    assert not store.exists()


def test_a_bucket_that_is_not_there(gs_bucket: str) -> None:  # noqa: F811
    uri = f"{gs_bucket}-misspelt/a"
    with pytest.raises(OutputError) as caught:
        Store.of(uri).check_writable()
    bucket = uri.split("/")[2]
    assert str(caught.value) == (
        f"cannot write to {uri!r}: NO_SUCH_BUCKET: {bucket!r}; check the name, and what its client "
        f"may do ({GOOGLE})"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            HttpError("Service\n Unavailable", 503),
            "Service Unavailable; the store at gs:// did not answer: check the network and what "
            f"its client takes from the environment ({GOOGLE}), and run again",
        ),
        (
            HttpError("GET https://host/a?sig=abc&x=y Forbidden", 403),
            "GET https://host/a?sig=***&x=*** Forbidden; check the name, and what its client may "
            f"do ({GOOGLE})",
        ),
    ],
)
def test_errors_in_words(
    error: Exception,
    expected: str,
    gs_bucket: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store.of(f"{gs_bucket}/x")

    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(InMemory, "pipe_file", fail)
    with pytest.raises(OutputError) as caught:
        store.write_bytes("", b"")
    assert str(caught.value) == f"cannot write {store.uri!r}: {expected}"
    monkeypatch.undo()


def test_a_file_that_breaks_off_is_an_os_error(
    gs_bucket: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Arrow's readers let through what they do not know."""
    store = Store.of(f"{gs_bucket}/x")
    store.write_bytes("", b"abc")

    class Broken:
        closed = False

        def read(self, *args: int) -> bytes:
            raise HttpError("reset by peer", 502)

        def close(self) -> None: ...

        seek = tell = read

    monkeypatch.setattr(InMemory, "open", lambda self, *args, **kwargs: Broken())
    with pytest.raises(StoreFailedError) as caught:
        store.filesystem.open_input_file(store.root).read()
    assert str(caught.value) == "reset by peer"
    assert store_failed(pickle.loads(pickle.dumps(caught.value)))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (HttpError("x", 500), StoreFailedError),
        (HttpError("x", 429), StoreFailedError),
        (HttpError("x", 404), FileNotFoundError),
        (HttpError("x", 401), PermissionError),
        (HttpError("x", 400), OSError),
        (ConnectionResetError("x"), StoreFailedError),
        (TimeoutError(), StoreFailedError),
        (OSError(errno.EBUSY, "slow down"), StoreFailedError),
        (PermissionError("x"), PermissionError),
        (RefreshError("x"), OSError),
        (RuntimeError("x"), StoreFailedError),
        (ValueError("x"), OSError),
        (OSError(errno.ENOSPC, "No space left on device"), OSError),
    ],
    ids=repr,
)
def test_what_clients_raise(error: Exception, kind: type[OSError]) -> None:
    assert type(translated(error)) is kind
    assert store_failed(translated(error)) == (kind is StoreFailedError)


def test_one_client_for_all_threads(gs_bucket: str) -> None:  # noqa: F811
    from concurrent.futures import ThreadPoolExecutor

    def client() -> Any:
        filesystem = Store.of(gs_bucket).filesystem
        assert isinstance(filesystem, fs.PyFileSystem)
        assert isinstance(filesystem.handler, fs.FSSpecHandler)
        return filesystem.handler.fs

    with ThreadPoolExecutor(4) as pool:
        assert len({id(found) for found in pool.map(lambda _: client(), range(8))}) == 1


def test_a_store_that_does_not_answer_is_not_empty(
    gs_bucket: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a job that goes on would begin anew, and images would be missing."""
    store = Store.of(f"{gs_bucket}/a")
    store.write_bytes("x", b"abc")

    def fail(*args: object, **kwargs: object) -> None:
        raise ConnectionResetError("reset by peer")

    for name in ("info", "ls"):
        monkeypatch.setattr(InMemory, name, fail)
        acts: list[Callable[[], Any]] = [store.names, lambda: store.delete("")]
        if name == "info":
            acts += [store.exists, store.is_folder, lambda: store.read_bytes("x")]
        for act in acts:
            with pytest.raises(OutputError, match="reset by peer; the store at gs:// did not"):
                act()
        monkeypatch.undo()
        in_memory("gs", monkeypatch)


def test_files_that_stay_when_a_folder_is_deleted(
    gs_bucket: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store.of(f"{gs_bucket}/a")
    store.write_bytes("x/y", b"abc")
    monkeypatch.setattr(InMemory, "rm", lambda self, path, recursive: None)
    with pytest.raises(OutputError) as caught:
        store.delete("x")
    assert str(caught.value).startswith(
        f"cannot delete '{store.uri}/x': 1 files are still there, such as '{store.root}/x/y'; "
    )
    monkeypatch.undo()
