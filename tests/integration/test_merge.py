"""Ensembles over scores that are there: every row once, in order, as merged in one piece."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.support import merging
from tests.support.processes import ROOT, driver, end, wait_for
from tests.support.scores import random_scores
from tests.unit.ensemble.test_apply import TWO, fitted
from tokenfocus_ray.cli.app import app
from tokenfocus_ray.distributed import merge as merging_job
from tokenfocus_ray.distributed.merge import merge_scores
from tokenfocus_ray.ensemble.apply import merge
from tokenfocus_ray.ensemble.bundle import Ensemble
from tokenfocus_ray.errors import ConfigError, ManifestError
from tokenfocus_ray.storage import Store

ROWS = 1_000


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts of a scoring job's output, and a bundle beside them."""
    folder = tmp_path_factory.mktemp("merge")
    table, _ = random_scores(TWO, ROWS, seed=3, unscored=(0, 77, 640))
    (folder / "scores").mkdir()
    pq.write_table(table.slice(0, 600), folder / "scores" / "part-00000.parquet", row_group_size=90)
    pq.write_table(table.slice(600), folder / "scores" / "part-00001.parquet")
    fitted().save(str(folder / "bundle"))
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging_job, "PART_ROWS", merging.PART_ROWS)


def check(out: str, folder: Path) -> None:
    """The rows are those of a merge in one piece."""
    store = Store.of(out)
    names = [name for name in store.names() if name.endswith(".parquet")]
    assert names == [f"part-{i:05d}.parquet" for i in range(-(-ROWS // merging.PART_ROWS))]
    parts = [pq.read_table(pa.BufferReader(store.read_bytes(name))) for name in names]
    whole = merge(Ensemble.load(str(folder / "bundle")), {"t": pq.read_table(folder / "scores")})
    found = pa.concat_tables(parts)
    assert found.schema.metadata == whole.schema.metadata
    assert repr(found.to_pylist()) == repr(whole.to_pylist())


def test_local_and_s3(scores: Path, tmp_path: Path, s3_bucket: str) -> None:
    summary = merge_scores([str(scores / "scores")], str(tmp_path / "out"), str(scores / "bundle"))
    assert (summary.rows, summary.scored) == (ROWS, ROWS - 3)
    assert summary.line().startswith(f"rows={ROWS} scored={ROWS - 3} unscored=3 seconds=")
    check(str(tmp_path / "out"), scores)
    for path in (scores / "scores").iterdir():
        Store.of(f"{s3_bucket}/scores").write_bytes(path.name, path.read_bytes())
    Ensemble.load(str(scores / "bundle")).save(f"{s3_bucket}/bundle")
    summary = merge_scores([f"{s3_bucket}/scores"], f"{s3_bucket}/out", f"{s3_bucket}/bundle")
    assert (summary.rows, summary.scored) == (ROWS, ROWS - 3)
    check(f"{s3_bucket}/out", scores)


def test_killed_and_launched_again(scores: Path, tmp_path: Path) -> None:
    """What is written stays as it is, and what is missing is made."""
    out = tmp_path / "out"
    arguments = [str(scores / "scores"), str(scores / "bundle"), str(out)]
    with driver(arguments, tmp_path, module="tests.support.merging") as process:
        wait_for(lambda: len(list(out.glob("part-*.parquet"))) > 3)
        end(psutil.Process(process.pid))
    done = {path: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}
    assert 3 < len(done) < ROWS // merging.PART_ROWS
    (out / f".tmp-{'0' * 32}").write_bytes(b"half written")
    lines: list[str] = []
    again = [str(scores / "scores")], str(out), str(scores / "bundle")
    summary = merge_scores(*again, say=lines.append)
    total = -(-ROWS // merging.PART_ROWS)
    assert f"{len(done)} of {total} parts are there already" in lines
    merge_scores(*again, say=lines.append)
    assert lines[-1] == f"already finished: {ROWS:,} rows are there, nothing is merged"
    assert (summary.rows, summary.scored) == (ROWS, ROWS - 3)
    assert all(path.stat().st_mtime_ns == at for path, at in done.items())
    assert not list(out.glob(".tmp-*"))
    check(str(out), scores)


def test_csv_with_a_bundle_of_a_table(scores: Path, tmp_path: Path) -> None:
    table, human = ["prompt,human,m_a,m_b"], []
    for i in range(60):
        human.append(i % 7)
        table.append(f"p{i // 3},{i % 7},{i % 7 + i % 3},{-(i % 7) * 2 + i % 5}")
    (tmp_path / "t.csv").write_text("\n".join(table) + "\n")
    arguments = ["stack", "--table", str(tmp_path / "t.csv"), "--target", "human", "--group"]
    arguments += ["prompt", "--features", "m_*", "--method", "nnls", "--out", str(tmp_path / "b")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "m_b: lower is better; turned" in result.output
    arguments = ["merge", str(tmp_path / "t.csv"), "--ensemble", str(tmp_path / "b")]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "rows=60 scored=60 unscored=0 " in result.output
    found = pq.read_table(tmp_path / "out")
    assert found.column_names[-3:] == ["score", "score_low", "score_high"]
    assert found["human"].to_pylist() == [str(label) for label in human]  # as it stands there


def test_job(
    scores: Path,
    tmp_path: Path,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Labels of some rows are enough; all are merged; submitted again, it goes on."""
    table, labels = random_scores(TWO, 300, seed=4)
    for name, rows in (("scores/part-00000.parquet", table), ("labels.parquet", labels[:100])):
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink)
        Store.of(s3_bucket).write_bytes(name, sink.getvalue())
    config = tmp_path / "stack.yaml"
    config.write_text("method: nnls\nseeds: 1\n")
    arguments = [f"{s3_bucket}/scores", "--labels", f"{s3_bucket}/labels.parquet", "--config"]
    arguments += [str(config), "--out", f"{s3_bucket}/stacked"]
    monkeypatch.setattr(sys, "argv", ["stack_scores.py", *arguments])
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    main = runpy.run_path(str(ROOT / "jobs" / "stack_scores.py"))["main"]
    for _ in range(2):
        assert main() == 0
        printed = capsys.readouterr().out
        assert "100 rows, 25 groups, 4 columns" in printed
        assert "rows=300 scored=300 unscored=0 " in printed
    assert len(Store.of(f"{s3_bucket}/stacked/scores").names()) == 6  # parts, and the job's record
    config.write_text("method: magic\n")
    assert main() == 2
    assert capsys.readouterr().err.startswith(f"error: {config}: method = 'magic': ")


def test_refusals(scores: Path, tmp_path: Path) -> None:
    out, bundle = str(tmp_path / "out"), str(scores / "bundle")
    other, _ = random_scores({"q": ["m0"]}, 4)
    pq.write_table(other, tmp_path / "other.parquet")
    with pytest.raises(ManifestError, match="the ensemble takes a column 'm_i', which is not"):
        merge_scores([str(tmp_path / "other.parquet")], out, bundle)
    assert not os.path.exists(out)
    part = str(scores / "scores" / "part-00001.parquet")
    merge_scores([part], out, bundle)
    with pytest.raises(ConfigError, match=r"begun with another configuration \(input.0.bytes"):
        merge_scores([str(scores / "scores")], out, bundle)
