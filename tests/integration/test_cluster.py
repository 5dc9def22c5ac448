"""A cluster that is not there, or lets nobody in, is told in seconds and in one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.support.processes import ROOT
from tokenfocus_ray.distributed import cluster
from tokenfocus_ray.distributed.cluster import check_address
from tokenfocus_ray.errors import ConfigError

HERE = "or unset RAY_ADDRESS to run on this machine alone"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Takes connections and never says a word."""
    with socket.create_server(("", 0)) as server:
        yield server


def refusal(address: str) -> str:
    started = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        check_address(address, seconds=0.5)
    assert time.monotonic() - started < 10
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "ray://10.0.0.1:10001",
            "is for Ray Client, through which these jobs do not run; run the command on a node of "
            "the cluster with RAY_ADDRESS=auto, or submit it with 'ray job submit'",
        ),
        (
            "http://10.0.0.1:8265",
            "is the dashboard's address, for 'ray job submit --address'; give the cluster's own, "
            "HOST:6379, or 'auto' on one of its nodes",
        ),
        (
            "cluster",
            "is neither 'auto' nor HOST:PORT, such as 10.0.0.1:6379; correct it, " + HERE,
        ),
        (
            "head:port",
            "is neither 'auto' nor HOST:PORT, such as 10.0.0.1:6379; correct it, " + HERE,
        ),
    ],
)
def test_what_is_no_address_of_a_cluster(address: str, message: str) -> None:
    assert refusal(address) == f"RAY_ADDRESS={address!r} {message}"


def test_an_address_at_which_nothing_listens(listener: socket.socket) -> None:
    node, port = ray.util.get_node_ip_address(), listener.getsockname()[1]
    listener.close()
    assert refusal(f"127.0.0.1:{port}") == (
        f"RAY_ADDRESS='127.0.0.1:{port}': no Ray cluster answers at {node}:{port} (Connection "
        f"refused); start it, correct the address, {HERE}"
    )


def test_an_address_at_which_something_listens_and_says_nothing(listener: socket.socket) -> None:
    node, port = ray.util.get_node_ip_address(), listener.getsockname()[1]
    assert refusal(f"{node}:{port}") == (
        f"RAY_ADDRESS='{node}:{port}': no Ray cluster answers at {node}:{port} (nothing said "
        f"within 0 s); start it, correct the address, {HERE}"
    )


def test_an_automatic_address_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a machine on which no Ray runs."""

    def none(*arguments: object) -> str:
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address", none)
    assert refusal("auto") == (
        "RAY_ADDRESS='auto': no Ray cluster runs on this machine; start one with 'ray start "
        f"--head', name another by HOST:PORT, {HERE}"
    )


def test_a_cluster_answers() -> None:
    check_address(ray.get_runtime_context().gcs_address, seconds=cluster.ANSWER_SECONDS)


def test_a_cluster_that_asks_for_a_token(tmp_path: Path) -> None:
    """As each session does that Ray starts by itself; told by the command, which ends with 2."""
    (tmp_path / "m.csv").write_text("prompt,image_uri\na,a.png\n")
    address = ray.get_runtime_context().gcs_address
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH_")}
    command = ["score", "m.csv", "--out", "out", "--backbone", "tiny-qwen2_5_vl"]
    done = subprocess.run(
        [sys.executable, "-m", "tokenfocus_ray.cli.app", *command],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"error: RAY_ADDRESS={address!r}: the cluster asks for a token that was not given, or not "
        f"rightly; set RAY_AUTH_MODE=token, and its token by RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH "
        f"or ~/.ray/auth_token ('ray get-auth-token' on its head shows it)"
    )
