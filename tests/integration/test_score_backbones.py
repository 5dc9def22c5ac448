"""Several backbones in one job: side by side and one after another give the same rows."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.standin import PixelScorer, PixelStage
from tokenfocus_ray import AlignmentScorer
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.config import JobConfig, ScoringConfig
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.distributed.layout import COMMITS
from tokenfocus_ray.distributed.score.job import RunSummary, run_job, score_manifest
from tokenfocus_ray.distributed.score.pools import Scorer
from tokenfocus_ray.errors import ConfigError, PromptError
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.request import Request, unscored
from tokenfocus_ray.scoring.stage import ScoreStage

CONFIGS = {
    "qwen": ScoringConfig(backbone="tiny-qwen2_5_vl", max_visual_tokens=16),
    "internvl": ScoringConfig(backbone="tiny-internvl"),
}


@pytest.fixture(scope="module")
def manifest(benchmark_folder: Path) -> Path:
    path = benchmark_folder / "few.parquet"
    pq.write_table(pq.read_table(benchmark_folder / "test.parquet").slice(0, 6), path)
    return path


@pytest.mark.parametrize("order", ["one_after_another", "side_by_side"])
def test_scores_are_those_of_each_alone(manifest: Path, tmp_path: Path, order: Any) -> None:
    job = JobConfig(commit_rows=4, order=order)
    score_manifest(str(manifest), str(tmp_path / "out"), CONFIGS, job=job, say=str)
    rows = pq.read_table(manifest).to_pylist()
    alone = {}
    for name, config in CONFIGS.items():
        scorer = AlignmentScorer.from_config(config)
        alone[name] = scorer.score(
            [manifest.parent / r["image_uri"] for r in rows],
            [r["prompt"] for r in rows],
            [r["elements"] for r in rows],
            [r["prompt_type"] for r in rows],
        )
    frame = pd.read_parquet(tmp_path / "out")
    assert list(frame["prompt"]) == [r["prompt"] for r in rows]
    assert set(frame["status"]) == {"ok"}
    each = np.array([[r.score for r in found] for found in alone.values()])
    np.testing.assert_allclose(np.stack(frame["member_scores"].to_list()).T, each, atol=1e-5)
    np.testing.assert_allclose(frame["score"], each.mean(axis=0), atol=1e-5)
    for i, scores in enumerate(frame["element_scores"]):
        pair = [found[i].element_scores for found in alone.values()]
        np.testing.assert_allclose(scores, np.mean(pair, axis=0), atol=1e-5)
    (part,) = (tmp_path / "out").glob("*.parquet")
    metadata = {k.decode(): v.decode() for k, v in pq.read_schema(part).metadata.items()}
    assert metadata["tokenfocus.members"] == "qwen/base,internvl/base"
    assert json.loads(metadata["tokenfocus.backbone"]) == {
        name: config.backbone for name, config in CONFIGS.items()
    }
    launch = json.loads((tmp_path / "out" / "__job" / "run.json").read_text())["launch"]
    assert (launch["rows"], launch["workers"]) == (6, {"qwen": 1, "internvl": 1})
    assert launch["stage_seconds"]["score qwen"] > 0
    assert launch["scorer_busy_share"]["internvl"] > 0


class GatedScorer(PixelScorer):
    """Turns the scale around; scores nothing while a file is there, and not what is dark."""

    def __init__(self, gate: Path) -> None:
        super().__init__(0.0)
        self._gate = gate

    def score_requests(self, requests: list[Request]) -> list[ScoreRow]:
        if self._gate.exists():
            raise ConfigError("the gate is closed")
        rows = super().score_requests(requests)
        return [
            unscored(request, PromptError("prompt_too_long", "longer than this backbone takes"))
            if request.prompt == "long"
            else replace(row, score=6 - row.score, member_scores=[6 - row.score])
            for request, row in zip(requests, rows, strict=True)
        ]


class GatedStage(ScoreStage):
    """The scoring stage around :class:`GatedScorer`."""

    def __init__(self, gate: Path, columns: Columns, device: str, threads: int | None) -> None:
        self.columns = columns
        self.scorer: Any = GatedScorer(gate)


def write(folder: Path, prompts: list[str]) -> str:
    folder.mkdir()
    Image.new("RGB", (40, 30), "orange").save(folder / "a.png")
    table = pa.table({"prompt": prompts, "path": ["a.png"] * len(prompts)})
    pq.write_table(table, folder / "m.parquet")
    return str(folder / "m.parquet")


def launch(path: str, out: Path, gate: Path, order: Any, **options: Any) -> RunSummary:
    spec = loading.image_spec(registry.resolve("tiny-qwen2_5_vl"), 4)
    scorers = [
        Scorer("plain", spec, PixelStage),
        Scorer("turned", spec, functools.partial(GatedStage, gate)),
    ]
    values: dict[str, Any] = {"overwrite": False, "retry_unscored": False, **options}
    return run_job(
        [path], str(out), scorers, {"scorer": "two"}, images=None, mapping={},
        job=JobConfig(commit_rows=2, order=order), say=str, **values,
    )  # fmt: skip


@pytest.mark.parametrize("then", ["one_after_another", "side_by_side"])
def test_ended_between_two_backbones(tmp_path: Path, then: str) -> None:
    """What the first scored is kept, and of no matter if the order changes; rows come once."""
    gate, out, cure = tmp_path / "gate", tmp_path / "out", tmp_path / "cure"
    path = write(tmp_path / "in", ["a", f"until:{cure}", "long", "d", ""])
    gate.touch()
    with pytest.raises(ConfigError, match="the gate is closed"):
        launch(path, out, gate, "one_after_another")
    names = sorted(p.name for p in (out / COMMITS).iterdir())
    assert names == [
        "0000000-00000.scored1.parquet",
        "0000000-00001.scored1.parquet",
        "0000000-00002-last.scored1.parquet",
    ]
    first = {p: p.stat().st_mtime_ns for p in (out / COMMITS).iterdir()}
    with pytest.raises(ConfigError, match="the gate is closed"):
        launch(path, out, gate, "one_after_another")
    assert {p: p.stat().st_mtime_ns for p in (out / COMMITS).iterdir()} == first

    gate.unlink()
    launch(path, out, gate, then)
    rows = pq.read_table(out).to_pylist()
    assert [r["error_code"] for r in rows] == [
        None, "scoring_failed", "prompt_too_long", None, "prompt_empty",
    ]  # fmt: skip
    assert [r["score"] for r in rows if r["status"] == "ok"] == [3.0, 3.0]
    assert rows[2]["error_message"] == "backbone turned: longer than this backbone takes"
    plain, turned = rows[2]["member_scores"]
    assert 1 <= plain <= 5
    assert math.isnan(turned)
    assert rows[4]["error_message"] == "nothing to ask"
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == [
        "job.json", "part-00000.parquet", "run.json",
    ]  # fmt: skip

    cure.touch()
    launch(path, out, gate, then, retry_unscored=True)
    again = pq.read_table(out).to_pylist()
    assert again[1]["score"] == 3.0
    np.testing.assert_equal([r for i, r in enumerate(again) if i != 1], rows[:1] + rows[2:])
