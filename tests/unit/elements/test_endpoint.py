"""Which server is asked: what is missing or out of range, before anything is sent."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tokenfocus_ray.elements.endpoint import OPENAI, Endpoint, Pace
from tokenfocus_ray.errors import ConfigError

SERVER = "http://localhost:8000/v1"
URL = (
    f"--url: wanted http:// or https://, without a name, a key or a query in it, such as {OPENAI} "
    f"or http://localhost:8000/v1"
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": "localhost"}, URL),
        ({"url": "http://me:secret@localhost/v1"}, URL),
        ({"url": "http://localhost/v1?key=secret"}, URL),
        ({"url": None}, f"--with endpoint: the environment variable NO_KEY is not set; put the key "
         f"of {OPENAI} there, or name another with --key-env"),
        ({"model": None}, "--with endpoint: give --model NAME, as the server names it"),
        ({"requests_per_minute": 0}, "--rpm 0: wanted more than 0"),
        ({"price_out": -1.5}, "--price-out -1.5: wanted 0 or more"),
    ],
)  # fmt: skip
def test_what_is_refused(
    given: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ConfigError) as caught:
        Endpoint.of(**{"url": SERVER, "model": "m", "key_from": "NO_KEY"} | given)
    assert str(caught.value) == message


def test_a_server_of_ones_own_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert Endpoint.of(f"{SERVER}/", "m") == Endpoint(SERVER, "m")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    found = Endpoint.of(None, "m")
    assert (found.url, found.key) == (OPENAI, "sk-secret")
    assert "secret" not in repr(found)


def test_requests_keep_their_distance() -> None:
    pace, started = Pace(3000.0), time.monotonic()
    for _ in range(6):
        pace.wait()
    assert time.monotonic() - started >= 0.1
