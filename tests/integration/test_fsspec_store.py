"""The contract of a folder through a client of fsspec that talks to a real server: s3fs as if it
were Google's, with the same tests as a disk and a store in memory."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import pytest
import s3fs
from fsspec.registry import _registry

from tests.support.s3 import free_ports
from tests.unit.storage.test_contract import (  # noqa: F401
    test_bytes,
    test_check_writable_leaves_nothing,
    test_it_pickles,
    test_json,
    test_missing_files_stay_file_not_found,
    test_names,
    test_names_that_need_care,
    test_parquet,
)
from tokenfocus_ray.distributed.lease import hold
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.storage import Store


@pytest.fixture(scope="session", autouse=True)
def _session() -> None:
    """No Ray here: takes the place of the folder's own."""


class Google(s3fs.S3FileSystem):  # type: ignore[misc]
    """s3fs under another scheme."""

    protocol = ("gs",)

    def __init__(self, **options: Any) -> None:
        tries = {"retries": {"max_attempts": 1}, "connect_timeout": 2}
        endpoint = os.environ["AWS_ENDPOINT_URL_S3"]
        super().__init__(endpoint_url=endpoint, config_kwargs=tries, **options)


@pytest.fixture
def store(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setitem(_registry, "gs", Google)
    return Store.of(f"gs://{s3_bucket.removeprefix('s3://')}/a/b")


def test_delete(store: Store) -> None:
    """This server keeps a folder that s3fs emptied; what was in it is gone."""
    for name in ("a", "b/1", "b/c/2", "d"):
        store.write_bytes(name, b"")
    for name in ("a", "b", "none", "none/none"):
        store.delete(name)
    assert {"d"} <= {*store.names()} <= {"b", "d"}
    assert not store.exists("b/1")
    assert not store.exists("b/c/2")


def test_what_was_written_anew_is_told(store: Store) -> None:
    store.write_bytes("x", b"abc")
    store.write_bytes("y", b"abc")
    first = store.child("x").version()
    assert first == store.child("y").version()
    store.write_bytes("x", b"abd")
    assert store.child("x").version() != first


def test_one_launch_at_a_time(store: Store) -> None:
    """The lease asks of a listing that it shows what was written before it."""
    with hold(store, "score", str) as mine:
        mine.confirm()
        with pytest.raises(OutputError, match="is being written by"), hold(store, "score", str):
            pass
    assert store.names("__job/lease") == []


def test_a_bucket_that_is_not_there(store: Store) -> None:
    uri = f"{store.uri.removesuffix('/a/b')}-misspelt/a"
    with pytest.raises(OutputError) as caught:
        Store.of(uri).check_writable()
    assert str(caught.value).startswith(f"cannot write to {uri!r}: NO_SUCH_BUCKET: ")


def test_a_server_that_is_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not look as if nothing were there: a job that goes on would begin anew."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_ports(1)[0]}")

    class Away(Google):
        retries = 1

    monkeypatch.setitem(_registry, "gs", Away)
    away = Store.of(store.uri)
    for act in (away.names, away.exists, away.is_folder, partial(away.read_bytes, "x"),
                partial(away.write_bytes, "x", b""), partial(away.delete, "x")):  # fmt: skip
        with pytest.raises(OutputError) as caught:
            act()
        assert "; the store at gs:// did not answer: check the network" in str(caught.value)
