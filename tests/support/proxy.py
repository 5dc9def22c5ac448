"""A proxy before the S3 server that fails a share of the requests, in the ways that stores fail."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("503", "500", "reset", "truncated", "delayed")
DELAY = 2.0


class FaultyProxy(ThreadingHTTPServer):
    """Hands requests on as they are, ``Host`` included, so that signatures verify.

    Attributes:
        seen: Number of requests by what became of them.
    """

    daemon_threads = True

    def __init__(self, target: str, share: float, seed: int) -> None:
        """Listens on a free port.

        Args:
            target: ``http://host:port`` of the server.
            share: Of the requests that fail.
            seed: Of which do.
        """
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target.removeprefix("http://")
        self.share, self.seen = share, Counter[str]()
        self._random, self._lock = random.Random(seed), threading.Lock()

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self) -> str:
        """What becomes of the next request."""
        with self._lock:
            chosen = self._random.random() < self.share
            fault = self._random.choice(FAULTS) if chosen else "ok"
            self.seen[fault] += 1
        return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are none of ours."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def _forward(self) -> None:
        body = self._body()
        fault = self.server.fault()
        if fault == "delayed":
            time.sleep(DELAY)
        if fault in ("503", "500"):
            self.send_response(int(fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "reset":
            self._drop()
            return
        upstream = http.client.HTTPConnection(self.server.target, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            upstream.putheader(name, value)
        upstream.endheaders(body)
        answer = upstream.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        if answer.getheader("Content-Length") is None:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        upstream.close()
        if fault == "truncated":
            self.wfile.write(data[: len(data) // 2])
            self._drop()
        else:
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""  # as it came: the server takes it apart, and checks it
        while True:
            line = self.rfile.readline()
            data += line
            size = int(line.split(b";")[0], 16)
            data += self.rfile.read(size + 2)
            if not size:
                return data

    def _drop(self) -> None:
        """Ends the connection with a reset."""
        self.close_connection = True
        with suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def faulty_proxy(target: str, share: float, seed: int) -> Iterator[FaultyProxy]:
    """A proxy that runs as long as the block."""
    with FaultyProxy(target, share, seed) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
