"""A scoring job survives what befalls it: rows out = rows in, none twice, scores as undisturbed."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster

from tests.support.processes import driver, end, in_background, stop, titled, wait_for
from tests.support.proxy import faulty_proxy
from tests.support.s3 import S3Server
from tokenfocus_ray.config import JobConfig, ScoringConfig
from tokenfocus_ray.datasets.synthetic.files import write_benchmark
from tokenfocus_ray.distributed.layout import COMMITS, LEASE
from tokenfocus_ray.distributed.score.job import score_manifest
from tokenfocus_ray.storage import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CONFIG = ScoringConfig(backbone="tiny-qwen2_5_vl", max_visual_tokens=16)
ROWS, COMMIT_ROWS = 96, 4
JOB = JobConfig(commit_rows=COMMIT_ROWS)
#: Actors that score, as their processes are titled.
SCORER = "ray::MapWorker(MapBatches(ScorePieces))"
STOPPED = "stopped; launch the same command again to go on"


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing befell.

    Attributes:
        manifest: What was scored; 5 % of its images are broken.
        frame: Its rows.
    """

    manifest: Path
    frame: pd.DataFrame


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_benchmark(str(folder / "data"), n_samples=ROWS * 3 // 2, seed=5)
    manifest = folder / "data" / "train.parquet"
    pq.write_table(pq.read_table(manifest).slice(0, ROWS), manifest)
    uris = pq.read_table(manifest)["image_uri"].to_pylist()
    for uri in uris[::20]:
        (folder / "data" / str(uri)).write_bytes(b"\x89PNG\r\n\x1a\n cut")
    score_manifest(str(manifest), str(folder / "out"), CONFIG, job=JOB, say=str)
    frame = read(folder / "out")
    assert len(frame) == ROWS
    assert (frame["error_code"] == "image_corrupt").sum() == len(uris[::20])
    return Undisturbed(manifest, frame)


def read(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out).sort_values("sample_id", ignore_index=True)


def assert_as_undisturbed(out: Path, expected: pd.DataFrame) -> None:
    """Each row once, with the same score; nothing half written is left."""
    frame = read(out)
    assert list(frame["sample_id"]) == list(expected["sample_id"])
    assert frame["sample_id"].is_unique
    assert list(frame["error_code"]) == list(expected["error_code"])
    np.testing.assert_allclose(frame["score"], expected["score"], atol=1e-5, rtol=0)
    left = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    left -= {name for name in left if name.startswith("__job/log/")}  # of each launch
    assert left == {"part-00000.parquet", "__job/job.json", "__job/run.json"}


def commits(out: Path) -> list[Path]:
    return sorted((out / COMMITS).glob("*.parquet"))


def arguments(undisturbed: Undisturbed, folder: Path, commit_rows: int = COMMIT_ROWS) -> list[str]:
    (folder / "score.yaml").write_text(
        f"backbone: {CONFIG.backbone}\nmax_visual_tokens: {CONFIG.max_visual_tokens}\n"
        f"job: {{commit_rows: {commit_rows}}}\n"
    )
    return ["score", str(undisturbed.manifest), "--out", "out", "--config", "score.yaml"]


def test_a_driver_killed_five_times(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """At seeded points, also by the signals that ask; what was committed is not written again.

    First with sessions of its own, then on a cluster that outlives it.
    """
    out, command = tmp_path / "out", arguments(undisturbed, tmp_path)
    cluster = ray.get_runtime_context().gcs_address
    points = random.Random(5)
    before: dict[Path, int] = {}
    for number, address in (
        (signal.SIGKILL, None), (signal.SIGTERM, None), (signal.SIGINT, cluster),
        (signal.SIGKILL, cluster), (signal.SIGKILL, cluster),
    ):  # fmt: skip
        wanted = len(before) + points.randint(1, 4)
        with driver(command, tmp_path, address) as process:
            wait_for(lambda n=wanted: len(commits(out)) >= n or process.poll() is not None)  # type: ignore[misc]
            assert process.poll() is None, (tmp_path / "output.txt").read_text()[-3000:]
            if number == signal.SIGKILL:
                end(psutil.Process(process.pid))
            else:
                assert stop(process, number) == 128 + number
                assert (tmp_path / "output.txt").read_text().splitlines()[-1] == STOPPED
        after = {path: path.stat().st_mtime_ns for path in commits(out)}
        assert after.items() >= before.items()
        before = after
    with driver(command, tmp_path, cluster) as process:
        assert process.wait(timeout=600) == 0, (tmp_path / "output.txt").read_text()[-3000:]
    line = (tmp_path / "output.txt").read_text().splitlines()[-1]
    assert line.startswith(f"rows={ROWS} scored={ROWS - 5} unscored=5 (image_corrupt 5) ")
    assert_as_undisturbed(out, undisturbed.frame)
    lines = (tmp_path / "output.txt").read_text().splitlines()
    assert f"{COMMIT_ROWS * len(before)} of {ROWS} rows are there already" in lines
    assert any("which ended without giving it up" in line for line in lines)
    # of the last launch: no more than what was not committed
    record = pd.read_json(out / "__job" / "run.json", typ="series")
    assert record["launch"]["rows"] == ROWS - COMMIT_ROWS * len(before)


def test_a_killed_actor_is_replaced(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Twice, in one launch: its rows are scored by the next one, and no other launch is needed."""
    out = tmp_path / "out"

    def kill() -> int:
        killed: set[int] = set()
        for n in (2, 6):
            wait_for(lambda n=n: len(commits(out)) >= n)  # type: ignore[misc]
            # what the first one scored may be committed before the next one has started
            (actor,) = wait_for(
                lambda: [a for a in titled(SCORER, os.getpid()) if a.pid not in killed]
            )
            actor.kill()
            killed.add(actor.pid)
        return len(killed)

    with in_background(kill) as killed:
        summary = score_manifest(str(undisturbed.manifest), str(out), CONFIG, job=JOB, say=str)
    assert killed == [2]
    assert summary.rows == ROWS
    assert_as_undisturbed(out, undisturbed.frame)


def test_a_killed_node_is_done_without(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Two nodes, one dies with its actor and its share of the object store."""
    out, command = tmp_path / "out", arguments(undisturbed, tmp_path)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    try:
        node = cluster.add_node(num_cpus=4)
        cluster.wait_for_nodes()
        with driver([*command, "--workers", "2"], tmp_path, cluster.address) as process:
            wait_for(lambda: len(commits(out)) >= 3 or process.poll() is not None)
            assert process.poll() is None, (tmp_path / "output.txt").read_text()[-3000:]
            cluster.remove_node(node, allow_graceful=False)
            before = len(commits(out))
            code = process.wait(timeout=600)
        text = (tmp_path / "output.txt").read_text()
        assert code == 0, text[-3000:]
        assert before < ROWS // COMMIT_ROWS
    finally:
        cluster.shutdown()
    assert_as_undisturbed(out, undisturbed.frame)


def test_a_store_that_fails_every_seventh_request(
    undisturbed: Undisturbed,
    s3_server: S3Server,
    s3_bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """503, 500, resets, cut answers and delays: manifest, images and output behind the proxy."""
    bucket = Store.of(s3_bucket)
    for path in undisturbed.manifest.parent.rglob("*.*"):
        bucket.write_bytes(str(path.relative_to(undisturbed.manifest.parent)), path.read_bytes())
    manifest, out = f"{s3_bucket}/train.parquet", f"{s3_bucket}/out"
    with (
        faulty_proxy(s3_server.endpoint, share=0.15, seed=5) as proxy,
        monkeypatch.context() as patch,
    ):
        patch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        command = ["score", manifest, *arguments(undisturbed, tmp_path, commit_rows=8)[2:]]
        command[command.index("out")] = out
        with driver(command, tmp_path) as process:
            assert process.wait(timeout=600) == 0, (tmp_path / "output.txt").read_text()[-3000:]
        seen = dict(proxy.seen)
    assert sum(n for fault, n in seen.items() if fault != "ok") > 0.1 * sum(seen.values())
    folder = Store.of(out)
    table = pq.read_table(f"{folder.root}/part-00000.parquet", filesystem=folder.filesystem)
    local = tmp_path / "copy" / "__job"
    local.mkdir(parents=True)
    for name in ("job.json", "run.json"):
        (local / name).write_bytes(folder.read_bytes(f"__job/{name}"))
    assert folder.names() == ["__job", "part-00000.parquet"]
    assert folder.names(COMMITS) == folder.names(LEASE) == []
    pq.write_table(table, tmp_path / "copy" / "part-00000.parquet")
    assert_as_undisturbed(tmp_path / "copy", undisturbed.frame)
