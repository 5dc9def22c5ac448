"""The storage layer and the fetching of images, against a real S3 server."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.support.races import Race, races  # noqa: F401
from tests.support.s3 import S3Server, free_ports
from tokenfocus_ray.datasets.files import File
from tokenfocus_ray.datasets.watch import stamps
from tokenfocus_ray.distributed.layout import LEASE
from tokenfocus_ray.distributed.lease import hold
from tokenfocus_ray.distributed.output import check_outside
from tokenfocus_ray.errors import ImageDecodeError, OutputError
from tokenfocus_ray.schema import ERROR_CODES
from tokenfocus_ray.scoring.fetch import fetch
from tokenfocus_ray.scoring.image import decode
from tokenfocus_ray.storage import Store, s3

KEYS = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
DENIED = f"check {KEYS}, and what they may do in the bucket"
PPM = b"P6 2 1 255\n\xff\x00\x00\x00\xff\x00"  # a red and a green pixel


@pytest.fixture(scope="session", autouse=True)
def _session() -> None:
    """No Ray here: takes the place of the folder's own."""


@pytest.fixture
def store(s3_bucket: str) -> Store:
    return Store.of(f"{s3_bucket}/runs/1/")


@pytest.fixture
def broken_server(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server that answers 503 to everything and notes what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(f"{self.command} {self.path}")
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = answer

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(s3, "MAX_ATTEMPTS", 2)  # all 8 take 40 seconds
        yield asked
        server.shutdown()


def message(error: type[Exception], function: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


def failure(uri: str, base: str | None = None) -> tuple[str, str]:
    """Code and message of an image that cannot be fetched."""
    with pytest.raises(ImageDecodeError) as caught:
        fetch(uri, base)
    assert caught.value.code in ERROR_CODES
    return caught.value.code, str(caught.value)


# --- files -----------------------------------------------------------------------------------


def test_files(store: Store) -> None:
    assert not store.exists()
    assert store.names() == []
    store.write_bytes("b/y.bin", b"abc")
    store.write_json("a.json", {"x": [1, None]})
    store.write_bytes("z.gz", b"not packed")
    assert store.exists()
    assert store.exists("b")
    assert store.read_bytes("b/y.bin") == b"abc"
    assert store.child("b").read_bytes("y.bin") == b"abc"
    assert store.read_json("a.json") == {"x": [1, None]}
    assert store.read_bytes("a.json").endswith(b"\n}\n")
    assert store.read_bytes("z.gz") == b"not packed"
    assert store.names() == ["a.json", "b", "z.gz"]
    assert store.names("b") == ["y.bin"]
    store.write_bytes("b/y.bin", b"")
    assert store.read_bytes("b/y.bin") == b""


def test_large_file(store: Store) -> None:
    """Larger than one PUT: several parts become one object."""
    data = np.random.default_rng(0).bytes(24 * 2**20)
    store.write_bytes("large", data)
    assert store.read_bytes("large") == data


@pytest.mark.parametrize("name", ["a b/ü?#%20+&.json", "x=1/y=2", "." + "n" * 250])
def test_names_that_need_care(store: Store, name: str) -> None:
    store.write_bytes(name, b"abc")
    assert store.read_bytes(name) == b"abc"
    folder, _, last = name.rpartition("/")
    assert store.names(folder) == [last]


def test_delete(store: Store) -> None:
    for name in ("a", "b/1", "b/c/2", "d"):
        store.write_bytes(name, b"")
    for name in ("a", "b", "none", "none/none"):
        store.delete(name)
    assert store.names() == ["d"]
    assert not store.exists("b")
    store.delete("")
    assert not store.exists()


def test_whole_bucket(s3_bucket: str) -> None:
    bucket = Store.of(s3_bucket)
    assert bucket.exists()
    bucket.write_bytes("a", b"")
    bucket.write_bytes("b/c", b"")
    bucket.check_writable()
    assert bucket.names() == ["a", "b"]
    bucket.delete("")
    assert bucket.exists()
    assert bucket.names() == []


def test_a_rewritten_object_is_seen_and_a_copied_one_is_the_same(store: Store) -> None:
    def fingerprint(folder: str) -> dict[str, str]:
        at = store.child(folder, "m.tar")
        return stamps([File(at.uri, "", 5)])

    store.write_bytes("a/m.tar", b"a cow")
    store.write_bytes("b/m.tar", b"a cow")
    before = fingerprint("a")
    assert list(before) == ["etags"]
    assert fingerprint("b") == before
    store.write_bytes("a/m.tar", b"a dog")
    assert fingerprint("a") != before


def test_an_output_below_an_input_prefix_is_refused(store: Store) -> None:
    store.write_bytes("m.parquet", b"")
    with pytest.raises(OutputError) as caught:
        check_outside(store.child("scores"), [store.uri])
    assert str(caught.value) == (
        f"output folder {store.uri + '/scores'!r} lies in the input folder {store.uri!r}, all "
        f"files of which are read: the next launch would take the output for input; choose a "
        f"folder outside of it"
    )
    check_outside(store.child("scores"), [f"{store.uri}/m.parquet", f"{store.uri}/none"])
    check_outside(store, [f"{store.uri}/m.parquet"])


def test_missing(store: Store) -> None:
    for read in (store.read_bytes, store.read_json):
        with pytest.raises(FileNotFoundError):
            read("none")
    assert Store.of("s3://no-such-bucket").exists() is False


def test_check_writable(store: Store) -> None:
    store.check_writable()
    assert store.names() == []


def test_other_process(store: Store) -> None:
    store.write_bytes("x", b"abc")
    assert pickle.loads(pickle.dumps(store)).read_bytes("x") == b"abc"
    script = (
        "import pickle, sys\n"
        "store = pickle.load(sys.stdin.buffer)\n"
        "store.write_bytes('y', store.read_bytes('x') * 2)\n"
    )
    subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(store), check=True, timeout=60
    )
    assert store.read_bytes("y") == b"abcabc"


@pytest.mark.usefixtures("races")
def test_races_for_one_prefix(store: Store) -> None:
    """Launches of which some are killed: one at a time, and each row once."""
    for seed in range(3):
        race = Race(store.child(str(seed)), seed, deaths=0.15)
        race.run(3)
        race.check()


def test_a_second_launch_on_a_prefix_is_refused(store: Store) -> None:
    with hold(store, "score", str) as mine:
        mine.confirm()
        with pytest.raises(OutputError) as caught, hold(store, "score", str):
            pass
        assert str(caught.value).startswith(
            f"{store.uri!r} is being written by another launch (tokenfocus score on "
        )
        assert str(caught.value).endswith(f"delete '{store.uri}/{LEASE}/{mine.name}'")
    assert store.names(LEASE) == []


# --- failures --------------------------------------------------------------------------------


def test_wrong_secret(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_bytes("x", b"abc")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    uri, path = store.uri, f"{store.uri}/x"
    signature = (
        "AWS Error SIGNATURE_DOES_NOT_MATCH during {} operation: The request signature we "
        "calculated does not match the signature you provided. Check your key and signing method"
    )
    for again in (store, Store.of(store.uri)):
        assert message(OutputError, again.check_writable) == (
            f"cannot write to {uri!r}: {signature.format('PutObject')}; {DENIED}"
        )
        assert message(OutputError, again.read_bytes, "x") == (
            f"cannot read {path!r}: AWS Error ACCESS_DENIED during HeadObject operation; {DENIED}"
        )
        assert message(OutputError, again.exists, "x") == (
            f"cannot look for {path!r}: AWS Error ACCESS_DENIED during HeadObject operation; "
            f"{DENIED}"
        )
        assert message(OutputError, again.names) == (
            f"cannot list {uri!r}: {signature.format('ListObjectsV2')}; {DENIED}"
        )
    assert failure(path) == (
        "image_unreadable",
        f"image {path!r} cannot be read (AWS Error ACCESS_DENIED during HeadObject operation); "
        f"{DENIED}",
    )


def test_unknown_key(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert message(OutputError, store.write_bytes, "x", b"") == (
        f"cannot write {store.uri + '/x'!r}: AWS Error INVALID_ACCESS_KEY_ID during PutObject "
        f"operation: The access key ID you provided does not exist in our records; {DENIED}"
    )


def test_anonymous(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENFOCUS_S3_ANONYMOUS", "1")
    nobody = Store.of(store.uri)
    assert message(OutputError, nobody.check_writable) == (
        f"cannot write to {store.uri!r}: AWS Error ACCESS_DENIED during PutObject operation: "
        f"Access Denied; {DENIED}"
    )


def test_missing_bucket(s3_bucket: str) -> None:
    """This server would make it at the first PUT."""
    missing = Store.of("s3://no-such-bucket/runs")
    assert message(OutputError, missing.check_writable) == (
        "cannot write to 's3://no-such-bucket/runs': NO_SUCH_BUCKET: 'no-such-bucket'; make the "
        "bucket, or correct its name"
    )
    assert not missing.exists()
    assert missing.names() == []
    missing.delete("x")


def test_server_that_is_busy(
    broken_server: list[str], s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.of(f"{s3_bucket}/a")
    endpoint = cast(s3.S3, store.filesystem).settings.endpoint
    cause = "AWS Error UNKNOWN (HTTP status 503) during {} operation"
    remedy = (
        f"the object store at {endpoint} did not answer in 2 attempts: check AWS_ENDPOINT_URL_S3 "
        "and the network, and run again"
    )
    path = f"{store.uri}/x.png"
    assert failure(path) == (
        "storage",
        f"image {path!r} cannot be read ({cause.format('HeadObject')}); {remedy}",
    )
    assert failure("x.png", store.uri) == (
        "storage",
        f"image 'x.png' cannot be read ({cause.format('HeadObject')}); {remedy}",
    )
    assert message(OutputError, store.write_bytes, "x.png", b"") == (
        f"cannot write {path!r}: {cause.format('PutObject')}; {remedy}"
    )
    assert message(OutputError, store.check_writable) == (
        f"cannot write to {store.uri!r}: {cause.format('HeadBucket')}; {remedy}"
    )
    assert len(broken_server) == 8


def test_a_pickled_copy_tries_as_often(broken_server: list[str], s3_bucket: str) -> None:
    copy = pickle.loads(pickle.dumps(Store.of(s3_bucket).filesystem))
    with pytest.raises(OSError, match="HTTP status 503"):
        copy.open_input_file(f"{s3_bucket.removeprefix('s3://')}/x")
    assert len(broken_server) == 2  # pyarrow's own copy would try 3 times


def test_server_that_is_gone(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setattr(s3, "MAX_ATTEMPTS", 2)
    assert failure(f"{s3_bucket}/x.png") == (
        "storage",
        f"image '{s3_bucket}/x.png' cannot be read (AWS Error NETWORK_CONNECTION during HeadObject "
        f"operation: curlCode: 7, Could not connect to server); the object store at {endpoint} did "
        "not answer in 2 attempts: check AWS_ENDPOINT_URL_S3 and the network, and run again",
    )


def test_what_was_acknowledged_survives_a_kill(s3_server: S3Server, store: Store) -> None:
    for number in range(50):
        store.write_bytes(f"{number:02}", bytes([number]) * 1000)
    s3_server.kill()
    s3_server.start()
    assert store.names() == [f"{number:02}" for number in range(50)]
    assert [store.read_bytes(name)[0] for name in store.names()] == list(range(50))


# --- images ----------------------------------------------------------------------------------


def test_fetch(store: Store) -> None:
    for name in ("a b.ppm", "what is it?.ppm", "x/y.ppm"):
        store.write_bytes(name, PPM)
    for uri, base in [
        (f"{store.uri}/a b.ppm", None),
        (f"{store.uri}/what is it?.ppm", "/elsewhere"),
        ("a b.ppm", store.uri),
        ("what is it?.ppm", f"{store.uri}/"),
        ("../a b.ppm", f"{store.uri}/x"),
        ("./x/y.ppm", store.uri),
    ]:
        assert fetch(uri, base) == PPM
    assert_array_equal(decode(f"{store.uri}/a b.ppm")[0], [(255, 0, 0), (0, 255, 0)])


def test_fetch_what_is_missing(store: Store) -> None:
    store.write_bytes("x/y.ppm", PPM)
    end = "check the path and the folder that relative paths start from"
    path = f"{store.uri}/none.ppm"
    for uri, base in [(path, None), ("none.ppm", store.uri)]:
        assert failure(uri, base) == (
            "image_missing",
            f"image {uri!r} does not exist (looked for {path!r}); {end}",
        )
    for uri in (store.uri, f"{store.uri}/x/", "s3://no-such-bucket/a.png"):
        assert failure(uri)[0] == "image_missing"  # a prefix is no object


def test_fetch_by_a_key_that_cannot_be(s3_bucket: str) -> None:
    assert failure(f"{s3_bucket}/a//b") == (
        "image_unreadable",
        f"image '{s3_bucket}/a//b' cannot be read (Empty path component in path "
        f"{s3_bucket.removeprefix('s3://')}/a//b); check the name, AWS_REGION, {KEYS}",
    )
    assert failure(f"{s3_bucket}/\udc80")[0] == "image_unreadable"
