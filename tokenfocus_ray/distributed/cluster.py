"""Joins the cluster that ``RAY_ADDRESS`` names, or says in a few seconds why that cannot be.

Ray alone tries an address at which nothing listens for more than two minutes.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from tokenfocus_ray.errors import ConfigError

#: Seconds in which the cluster's head is to answer; it may be starting anew.
ANSWER_SECONDS = 10.0
#: How a client of HTTP/2, and so of gRPC, begins: the preface and a frame of no settings.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
#: Bounds how often Ray tries to connect, of some seconds each.
_TRIES = "RAY_gcs_server_port_wait_time_s"
_ELSE = "or unset RAY_ADDRESS to run on this machine alone"
_TOKEN = (
    "the cluster asks for a token that was not given, or not rightly; set RAY_AUTH_MODE=token, and "
    "its token by RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token ('ray get-auth-token' "
    "on its head shows it)"
)


def join_cluster(address: str, level: int = logging.WARNING, workers: bool = False) -> None:
    """Connects this process to the cluster.

    Args:
        address: The value of ``RAY_ADDRESS``: ``auto`` or ``HOST:PORT``.
        level: The least of Ray's own lines that are printed.
        workers: Whether its workers' are.

    Raises:
        ConfigError: with the address, why there is no connection, and the remedy.
    """
    check_address(address)
    try:
        with _few_tries():
            ray.init(logging_level=level, log_to_driver=workers)
    except Exception as error:  # ConnectionError, RuntimeError, ValueError and others, by version
        raise ConfigError(f"RAY_ADDRESS={address!r}: {_why_refused(error)}") from error


def check_address(address: str, seconds: float = ANSWER_SECONDS) -> None:
    """Refuses an address at which no cluster answers.

    Args:
        address: The value of ``RAY_ADDRESS``.
        seconds: How long to wait for an answer.

    Raises:
        ConfigError: as :func:`join_cluster`.
    """
    where = f"RAY_ADDRESS={address!r}"
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    if scheme == "ray":
        raise ConfigError(
            f"{where} is for Ray Client, through which these jobs do not run; run the command on a "
            f"node of the cluster with RAY_ADDRESS=auto, or submit it with 'ray job submit'"
        )
    if scheme in ("http", "https"):
        raise ConfigError(
            f"{where} is the dashboard's address, for 'ray job submit --address'; give the "
            f"cluster's own, HOST:6379, or 'auto' on one of its nodes"
        )
    host, port = _bootstrap_address(address)
    end = time.monotonic() + seconds
    while (reason := _why_silent(host, port, max(0.1, end - time.monotonic()))) is not None:
        if time.monotonic() + 1 > end:
            raise ConfigError(
                f"{where}: no Ray cluster answers at {host}:{port} ({reason}); start it, correct "
                f"the address, {_ELSE}"
            )
        time.sleep(1)


def _bootstrap_address(address: str) -> tuple[str, int]:
    """Host and port that Ray will connect to."""
    # not public, but nothing else tells where 'auto' leads: to a file that a dead cluster may leave
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = str(canonicalize_bootstrap_address(address))
        host, _, port = found.rpartition(":")
        return host.strip("[]"), int(port)
    except ConnectionError as error:
        raise ConfigError(
            f"RAY_ADDRESS={address!r}: no Ray cluster runs on this machine; start one with 'ray "
            f"start --head', name another by HOST:PORT, {_ELSE}"
        ) from error
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"RAY_ADDRESS={address!r} is neither 'auto' nor HOST:PORT, such as 10.0.0.1:6379; "
            f"correct it, {_ELSE}"
        ) from error


def _why_silent(host: str, port: int, seconds: float) -> str | None:
    """Why no gRPC server speaks there; None if one does."""
    try:
        with socket.create_connection((host, port), timeout=seconds) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return None  # what it speaks is only told to those with its certificates
            connection.sendall(_HELLO)
            answer = connection.recv(len(_HELLO))
    except TimeoutError:
        return f"nothing said within {seconds:.0f} s"
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    # the first frame of a server is one of settings too
    return None if answer[3:4] == b"\x04" else "what listens there is something else"


@contextmanager
def _few_tries() -> Iterator[None]:
    if _TRIES in os.environ:
        yield
        return
    os.environ[_TRIES] = "1"
    try:
        yield
    finally:
        del os.environ[_TRIES]


def _why_refused(error: BaseException) -> str:
    """The innermost reason, on one line."""
    texts = []
    at: BaseException | None = error
    while at is not None:
        texts.append(str(at))
        at = at.__cause__
    if isinstance(error, ray.exceptions.AuthenticationError) or "AuthToken" in "".join(texts):
        return _TOKEN
    lines = texts[-1].strip().splitlines() or [type(error).__name__]
    words = " ".join(lines[-1:] if "Traceback" in texts[-1] else " ".join(lines).split())
    return (
        f"cannot join a cluster there: {words[:400]}; check that this is its head's address, and "
        f"that Ray and Python are of the same versions there and here"
    )
