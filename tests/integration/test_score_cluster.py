"""Scoring jobs on a cluster: submitted as a Ray job, seen by Prometheus, with nodes that join."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.job_submission import JobSubmissionClient

from tests.integration.test_score_failures import manifest
from tests.support.processes import ROOT, driver, titled, wait_for
from tests.support.standin import run_pixels
from tokenfocus_ray.datasets.synthetic.files import write_benchmark

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SCORER = "ray::MapWorker(MapBatches(ScorePieces))"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head of four logical CPUs, with the dashboard that takes jobs."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    head = {"num_cpus": 4, "include_dashboard": True, "dashboard_port": 0}
    # not the usual port, which the session of the other tests holds
    made = Cluster(
        initialize_head=True, head_node_args=head | {"dashboard_agent_listen_port": port}
    )
    try:
        yield made
    finally:
        made.shutdown()


def wait_for_agent(address: str) -> None:
    """The part of a head that starts jobs comes up after the one that takes them."""
    client = JobSubmissionClient(address)

    def is_there() -> bool:
        with contextlib.suppress(RuntimeError):
            return bool(client.submit_job(entrypoint="true"))
        time.sleep(1)
        return False

    wait_for(is_there, 120)


def test_job_is_submitted(cluster: Cluster, tmp_path: Path) -> None:
    """As the file's own text says, but for the Python: a cluster's has the package on its path."""
    write_benchmark(str(tmp_path / "data"), n_samples=24, seed=5)
    config = tmp_path / "score.yaml"
    config.write_text("backbone: tiny-qwen2_5_vl\nmax_visual_tokens: 9\njob: {commit_rows: 4}\n")
    arguments = [str(tmp_path / "data" / "test.parquet"), "--out", str(tmp_path / "out")]
    job = [sys.executable, "jobs/score_images.py", *arguments, "--config", str(config)]
    submit = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--working-dir", "."]
    head: Any = cluster.head_node
    address = f"http://{head.webui_url}"
    wait_for_agent(address)
    ended = subprocess.run(
        [*submit, "--address", address, "--", *job],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "rows=6 scored=6 unscored=0" in ended.stdout
    assert len(pd.read_parquet(tmp_path / "out")) == 6
    assert json.loads((tmp_path / "out" / "__job" / "run.json").read_text())["rows"] == 6


def test_actors_join_when_nodes_do(cluster: Cluster, tmp_path: Path) -> None:
    """``max_workers`` of a job that has work for them, on a cluster that grows under it."""
    path = manifest(tmp_path / "in", [f"p{i}" for i in range(150)])
    command = [path, "out", '{"commit_rows": 1, "workers": 1, "max_workers": 2, "cpus": 1.5}']
    others = {actor.pid for actor in titled(SCORER, os.getpid())}

    def actors() -> int:
        return len({actor.pid for actor in titled(SCORER, os.getpid())} - others)

    with driver(command, tmp_path, cluster.address, "tests.support.standin") as process:
        wait_for(lambda: list((tmp_path / "out").rglob("*.parquet")) or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "output.txt").read_text()[-3000:]
        assert actors() == 1
        cluster.add_node(num_cpus=6)
        wait_for(lambda: actors() == 2 or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "output.txt").read_text()[-3000:]
        assert process.wait(timeout=500) == 0
    frame = pd.read_parquet(tmp_path / "out")
    assert len(frame) == 150
    assert set(frame["status"]) == {"ok"}


def test_prometheus_finds_what_was_scored(tmp_path: Path) -> None:
    """Counters of actors, by backbone and error code, under the names that the docs give."""
    path = manifest(tmp_path / "in", ["a", "b", "", "c"])
    run_pixels(path, str(tmp_path / "out"))
    (port,) = {node["MetricsExportPort"] for node in ray.nodes() if node["Alive"]}

    def counters() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        found: dict[str, float] = {}
        for line in text.splitlines():
            if match := re.fullmatch(r"(ray_tokenfocus_\w+)\{(.*)\} ([\d.e+-]+)", line):
                tags = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
                if tags.get("backbone") == "pixels":
                    name = f"{match[1]} {tags.get('code', '')}".strip()
                    found[name] = found.get(name, 0.0) + float(match[3])
        return found

    end = time.monotonic() + 60
    while not (seen := counters()) and time.monotonic() < end:
        time.sleep(1)
    assert seen["ray_tokenfocus_rows_total ok"] >= 3
    assert seen["ray_tokenfocus_rows_total prompt_empty"] >= 1
    assert seen["ray_tokenfocus_score_seconds_total"] > 0
