"""Unit tests start no Ray and open no connection: both are slow and fail for other reasons."""

from __future__ import annotations

import socket
from typing import Any, NoReturn

import pytest
import ray


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def guarded(real: Any) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            if self.family == socket.AF_UNIX:
                return real(self, address)
            # pytest.fail is no Exception, so no retry loop or except clause hides it
            pytest.fail(
                f"a unit test connects to {address!r}; the network is banned in tests/unit: "
                "use a local file or a stub, or move the test to tests/integration"
            )

        return connect

    monkeypatch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*args: object, **kwargs: object) -> NoReturn:
        pytest.fail(
            "a unit test calls ray.init, which is banned in tests/unit: test the pure function, "
            "or move the test to tests/integration"
        )

    monkeypatch.setattr(ray, "init", init)
