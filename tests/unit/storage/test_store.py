"""Local folders, and what can be told about S3 without a server."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from tokenfocus_ray.errors import ConfigError, OutputError
from tokenfocus_ray.storage import Store, public, s3
from tokenfocus_ray.storage.s3 import S3, S3Settings, s3_filesystem, store_failed

KEYS = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
NOT_S3 = (
    "is not s3://bucket/prefix; settings go into the environment: AWS_ENDPOINT_URL_S3, AWS_REGION, "
    f"{KEYS}, TOKENFOCUS_S3_ANONYMOUS"
)
KNOWN = "Known: abfs, abfss, az, file, gcs, gs, hdfs, hf, oci, oss, s3, webhdfs"
GIVE = "Give a local path, file:///path, or a place in a store, such as s3://bucket/prefix"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith(("AWS_", "TOKENFOCUS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.of(tmp_path / "a" / "b")


def raising(error: BaseException) -> Any:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    return fail


def message(error: type[Exception], function: Any, *args: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


# --- URIs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "uri", "root"),
    [
        ("/a/b", "/a/b", "/a/b"),
        ("/a/b/", "/a/b", "/a/b"),
        ("/", "/", "/"),
        (Path("/a/b"), "/a/b", "/a/b"),
        ("file:///a/b%20c/", "file:///a/b%20c", "/a/b c"),
        ("file:/a", "file:/a", "/a"),
        ("FILE://localhost/a", "FILE://localhost/a", "/a"),
        ("s3://bucket", "s3://bucket", "bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b", "bucket/a/b"),
        ("S3://bucket/a%20b", "S3://bucket/a%20b", "bucket/a%20b"),  # keys are not decoded
        ("s3://bucket/what is it?", "s3://bucket/what is it?", "bucket/what is it?"),
    ],
)
def test_uris(given: str | Path, uri: str, root: str) -> None:
    store = Store.of(given)
    assert (store.uri, store.root) == (uri, root)
    assert store.is_local == (not uri.lower().startswith("s3:"))
    assert isinstance(store.filesystem, fs.LocalFileSystem if store.is_local else fs.S3FileSystem)


def test_relative_path_starts_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Store.of("runs/1").uri == "runs/1"
    assert Store.of("runs/1").root == str(tmp_path / "runs" / "1")


@pytest.mark.parametrize(
    ("given", "names", "uri", "root"),
    [
        ("/a", ("b", "c.json"), "/a/b/c.json", "/a/b/c.json"),
        ("/a", ("b/c.json",), "/a/b/c.json", "/a/b/c.json"),
        ("/a", ("", "/b/"), "/a/b", "/a/b"),
        ("/a", (), "/a", "/a"),
        ("/", ("a",), "/a", "/a"),
        ("file:///a", ("b c",), "file:///a/b%20c", "/a/b c"),
        ("s3://bucket", ("a b", "c"), "s3://bucket/a b/c", "bucket/a b/c"),
    ],
)
def test_children(given: str, names: tuple[str, ...], uri: str, root: str) -> None:
    child = Store.of(given).child(*names)
    assert (child.uri, child.root) == (uri, root)
    assert Store.of(child.uri).root == root


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (
            "https://example.org/a",
            "'https://example.org/a' has the scheme 'https'. Known: file, s3, gs, gcs, az, abfs, "
            f"abfss, hdfs, webhdfs, hf, oci, oss. {GIVE}",
        ),
        (
            "s4://bucket/a",
            f"'s4://bucket/a' has the scheme 's4'. Did you mean 's3'? {KNOWN}. {GIVE}",
        ),
        ("", "'' names no local path; give one, or file:///absolute/path"),
        (
            "file://host/a",
            "'file://host/a' names no local path; give one, or file:///absolute/path",
        ),
        ("s3://", f"'s3://' {NOT_S3}"),
        ("s3:///a", f"'s3:///a' {NOT_S3}"),
        ("s3://b/k?endpoint_override=x&secret_key=y", f"'s3://b/k?***' {NOT_S3}"),
        ("s3://key:se/cret@bucket/a", f"'s3://***' {NOT_S3}"),
        (
            "gs://bucket/a?token=secret",
            "'gs://bucket/a?***' is not gs://bucket/prefix; settings go into the environment: "
            "GOOGLE_APPLICATION_CREDENTIALS, or the machine's own account",
        ),
        (
            "hdfs://user:secret@host/a",
            "'hdfs://***@host/a' is not hdfs://bucket/prefix; settings go into the environment: "
            "HADOOP_HOME, JAVA_HOME and CLASSPATH",
        ),
    ],
)
def test_uris_that_are_refused(uri: str, expected: str) -> None:
    assert message(ConfigError, Store.of, uri) == expected


def test_a_name_that_is_no_unicode_is_refused() -> None:
    """Before, it ended in a UnicodeEncodeError, of the message too."""
    with pytest.raises(ConfigError) as caught:
        Store.of("data/caf\udce9.csv")
    assert str(caught.value) == (
        "'data/caf\\udce9.csv' is not valid Unicode; rename it, or name a link to it"
    )


def test_public_shows_what_is_no_secret() -> None:
    azure, hadoop = "abfs://container@account.dfs.core.windows.net/a", "hdfs://host:8020/a"
    for uri in ("a/b", "/a?b=c", "file:///a", "s3://bucket/user@host/what?.png", azure, hadoop):
        assert public(uri) == uri


# --- local files -----------------------------------------------------------------------------


def test_delete(store: Store, tmp_path: Path) -> None:
    for name in ("a", "b/1", "b/c/2", "d"):
        store.write_bytes(name, b"")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "a" / "b" / "link").symlink_to(tmp_path / "kept")
    for name in ("a", "b", "none", "none/none", "link"):
        store.delete(name)
    assert store.names() == ["d"]
    assert (tmp_path / "kept" / "file").exists()
    store.delete("")
    assert not store.exists()


def test_free_bytes(store: Store) -> None:
    free = store.free_bytes()
    assert free is not None
    assert free > 0
    assert Store.of("s3://bucket").free_bytes() is None


def test_files_have_the_permissions_of_others(store: Store, tmp_path: Path) -> None:
    store.write_bytes("x", b"")
    (tmp_path / "plain").touch()
    assert Path(store.root, "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


# --- a file is whole or not there ------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("step", ["replace", "fsync"])
@pytest.mark.parametrize("before", [None, b"old"])
def test_write_that_fails_half_way(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    step: str,
    before: bytes | None,
) -> None:
    store.write_bytes("other", b"")
    if before is not None:
        store.write_bytes("x", before)
    monkeypatch.setattr(os, step, raising(error))
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
        store.write_bytes("x", b"new")
    monkeypatch.undo()
    assert sorted(os.listdir(store.root)) == (["other"] if before is None else ["other", "x"])
    if before is not None:
        assert store.read_bytes("x") == before


def test_process_that_is_killed_half_way(store: Store) -> None:
    """It leaves a temporary file, which nobody takes for the whole one."""
    script = (
        "import os, signal, sys\n"
        "from tokenfocus_ray.storage import Store\n"
        "os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Store.of(sys.argv[1]).write_bytes('x', b'new')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, store.uri], check=False, timeout=60)
    assert done.returncode == -9
    assert len(os.listdir(store.root)) == 1
    assert store.names() == []
    assert not store.exists("x")


# --- failures --------------------------------------------------------------------------------

PERMISSIONS = "check its permissions, or choose another folder"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, f"Permission denied; {PERMISSIONS}"),
        (
            errno.EROFS,
            "Read-only file system; choose a folder on a disk that can be written to",
        ),
        (errno.ENOSPC, "No space left on device; free space on its disk, or choose another"),
        (errno.EIO, "Input/output error; check the path, its permissions and the disk"),
    ],
)
def test_write_errors(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int, expected: str
) -> None:
    monkeypatch.setattr(os, "fsync", raising(OSError(number, os.strerror(number))))
    path, folder = f"{store.uri}/x", store.uri
    assert message(OutputError, store.write_bytes, "x", b"abc") == (
        f"cannot write {path!r}: {expected}"
    )
    assert message(OutputError, store.check_writable) == f"cannot write to {folder!r}: {expected}"


def test_read_and_delete_errors(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_bytes("x", b"abc")
    path = f"{store.uri}/x"
    denied = raising(PermissionError(errno.EACCES, "Permission denied"))  # root may do anything
    monkeypatch.setattr("builtins.open", denied)
    monkeypatch.setattr(os, "unlink", denied)
    monkeypatch.setattr(os, "listdir", denied)
    end = f"Permission denied; {PERMISSIONS}"
    assert message(OutputError, store.read_bytes, "x") == f"cannot read {path!r}: {end}"
    assert message(OutputError, store.delete, "x") == f"cannot delete {path!r}: {end}"
    assert message(OutputError, store.names) == f"cannot list {store.uri!r}: {end}"


def test_file_in_the_way(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    remedy = "a file stands where a folder is needed: move it, or choose another folder"
    assert message(OutputError, store.check_writable) == (
        f"cannot write to {store.uri!r}: Not a directory; {remedy}"
    )
    inside = Store.of(tmp_path / "a")
    assert message(OutputError, inside.write_bytes, "x", b"") == (
        f"cannot write {inside.uri + '/x'!r}: File exists; {remedy}"
    )


def test_folder_in_the_way(store: Store) -> None:
    store.write_bytes("x/y", b"")
    path = f"{store.uri}/x"
    end = "Is a directory; a folder stands where a file is needed: move it, or choose another name"
    assert message(OutputError, store.read_bytes, "x") == f"cannot read {path!r}: {end}"
    assert message(OutputError, store.write_bytes, "x", b"") == f"cannot write {path!r}: {end}"
    assert store.names() == ["x"]


def test_path_that_cannot_be(store: Store) -> None:
    path = f"{store.uri}/a\0b"
    assert message(OutputError, store.write_bytes, "a\0b", b"") == (
        f"cannot write {path!r}: embedded null byte; check the path, its permissions and the disk"
    )


def test_check_writable_leaves_an_empty_folder(store: Store) -> None:
    store.check_writable()
    assert store.exists()
    assert os.listdir(store.root) == []


def test_what_check_writable_writes_is_passed_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another launch that looks in the meantime would take it for a file of the user's."""
    seen: list[list[str]] = []
    get = Store._get

    def look(self: Store) -> bytes:
        seen.append(store.names())
        return get(self)

    monkeypatch.setattr(Store, "_get", look)
    store.check_writable()
    assert seen == [[]]


def test_check_writable_compares(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "_get", lambda self: b"other")
    assert message(OutputError, store.check_writable) == (
        f"cannot write to {store.uri!r}: what is read is not what was written; choose another "
        "folder"
    )
    assert os.listdir(store.root) == []


# --- S3 without a server ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "settings"),
    [
        ({}, S3Settings()),
        (
            {"AWS_ENDPOINT_URL": "http://a:9000/"},
            S3Settings("http://a:9000", "us-east-1"),
        ),
        (
            {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "https://b/c"},
            S3Settings("https://b/c", "us-east-1"),
        ),
        (
            {"AWS_ENDPOINT_URL_S3": "http://a", "AWS_DEFAULT_REGION": "eu-west-1"},
            S3Settings("http://a", "eu-west-1"),
        ),
        (
            {"AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "eu-west-1"},
            S3Settings(None, "eu-west-2"),
        ),
        ({"TOKENFOCUS_S3_ANONYMOUS": "1"}, S3Settings(anonymous=True)),
        ({"TOKENFOCUS_S3_ANONYMOUS": "0"}, S3Settings()),
    ],
)
def test_settings(
    env: dict[str, str], settings: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert S3Settings.from_environment() == settings


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("localhost:9000", "'localhost:9000'"),
        ("http://", "'http:'"),
        ("ftp://a", "'ftp://a'"),
        ("http://a?b=c", "'http://a?b=c'"),
        ("http://key:secret@a", "a URL with credentials"),
    ],
)
def test_endpoint_that_is_none(value: str, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", value)
    assert message(ConfigError, Store.of, "s3://bucket") == (
        f"AWS_ENDPOINT_URL_S3 is {seen}; give the server's address alone, for example "
        "http://127.0.0.1:9000 or https://storage.example.org"
    )


def test_one_file_system_for_each_process_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Store.of("s3://bucket/a").filesystem
    assert Store.of("s3://other").filesystem is first
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert Store.of("s3://bucket/a").filesystem is not first
    monkeypatch.undo()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:10")
    assert Store.of("s3://bucket/a").filesystem is not first


def test_pickling_keeps_what_pyarrow_drops(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pickle.loads(pickle.dumps(store)) == store
    monkeypatch.setattr(s3, "MAX_ATTEMPTS", 5)
    far = Store.of("s3://bucket/a")
    monkeypatch.undo()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:10")  # the other process's
    back = pickle.loads(pickle.dumps(far))
    assert back == far
    assert isinstance(back.filesystem, S3)
    assert back.filesystem.settings == S3Settings("http://127.0.0.1:9", "us-east-1", attempts=5)


def test_secrets_are_neither_shown_nor_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "hunter1")
    store = Store.of("s3://bucket/a")
    assert repr(store) == "Store(uri='s3://bucket/a', root='bucket/a')"
    assert b"hunter" not in pickle.dumps(store)


#: As pyarrow words them.
FAILED = [
    "When reading information for key 'x' in bucket 'b': AWS Error UNKNOWN (HTTP status 500) "
    "during HeadObject operation: No response body.",
    "When uploading object with key 'x' in bucket 'b': AWS Error INTERNAL_FAILURE during PutObject "
    "operation: We encountered an internal error. Please try again.",
    "When uploading object with key 'x' in bucket 'b': AWS Error SLOW_DOWN during PutObject "
    "operation: Please reduce your request rate. (Request ID: 1)",
    "When reading information for key 'x' in bucket 'b': AWS Error UNKNOWN (HTTP status 429) "
    "during HeadObject operation: No response body.",
    "AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 18, Transferred a partial "
    "file; Details: end of response with 990 bytes missing",
    "When reading information for key 'x' in bucket 'b': AWS Error NETWORK_CONNECTION during "
    "HeadObject operation: curlCode: 28, Timeout was reached; Details: Operation too slow.",
]
REFUSED = [
    "When reading information for key 'x' in bucket 'b': AWS Error ACCESS_DENIED during HeadObject "
    "operation: No response body.",
    "When uploading object with key 'x' in bucket 'b': AWS Error UNKNOWN (HTTP status 400) during "
    "PutObject operation: Unable to parse ExceptionName: ExpiredToken Message: msg",
    "When reading information for key 'x' in bucket 'b': AWS Error UNKNOWN (HTTP status 301) "
    "during HeadObject operation: No response body.",
    "[Errno 2] Path does not exist 'b/x'",
    "Permission denied",
]


@pytest.mark.parametrize("text", FAILED)
def test_failures_of_the_store(text: str) -> None:
    assert store_failed(OSError(text))


@pytest.mark.parametrize("text", REFUSED)
def test_failures_of_the_request(text: str) -> None:
    assert not store_failed(OSError(text))


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        (
            FAILED[0],
            "AWS Error UNKNOWN (HTTP status 500) during HeadObject operation",
            "the object store at http://127.0.0.1:9 did not answer in 8 attempts: check "
            "AWS_ENDPOINT_URL_S3 and the network, and run again",
        ),
        (
            FAILED[5],
            "AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 28, Timeout was "
            "reached",
            "the object store at http://127.0.0.1:9 did not answer in 8 attempts: check "
            "AWS_ENDPOINT_URL_S3 and the network, and run again",
        ),
        (
            REFUSED[1],
            "AWS Error UNKNOWN (HTTP status 400) during PutObject operation: Unable to parse "
            "ExceptionName: ExpiredToken Message: msg",
            f"check {KEYS}, and what they may do in the bucket",
        ),
        (
            REFUSED[2],
            "AWS Error UNKNOWN (HTTP status 301) during HeadObject operation",
            f"check the name, AWS_REGION, {KEYS}",
        ),
    ],
)
def test_explanations(text: str, cause: str, remedy: str) -> None:
    assert Store.of("s3://bucket").explain(OSError(text)) == (cause, remedy)
    assert s3.explain(OSError(text), s3_filesystem()) == (cause, remedy)


def test_sweep_deletes_what_killed_writers_left(store: Store) -> None:
    store.sweep()  # nothing is there
    store.write_bytes("kept", b"1")
    Path(store.root, ".tmp-0123").write_bytes(b"half")
    store.sweep()
    assert os.listdir(store.root) == ["kept"]
