"""A scoring job with an ensemble gives what merging its output afterwards gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.support.scores import random_scores
from tokenfocus_ray.cli.app import app
from tokenfocus_ray.config import JobConfig, ScoringConfig, StackConfig
from tokenfocus_ray.distributed.preflight import (
    check_ensemble,
    check_features,
    resolve_config,
    scoring_identity,
)
from tokenfocus_ray.distributed.score.job import score_manifest
from tokenfocus_ray.ensemble.apply import merge
from tokenfocus_ray.ensemble.bundle import Ensemble
from tokenfocus_ray.ensemble.judge import fit_calibrated
from tokenfocus_ray.ensemble.labelled import join_labels
from tokenfocus_ray.ensemble.stack_table import read_stack_table
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.evaluation.labels import read_labels
from tokenfocus_ray.schema import ENSEMBLE_COLUMNS
from tokenfocus_ray.tables.features import feature_names

CONFIGS = {
    "qwen": ScoringConfig(backbone="tiny-qwen2_5_vl", max_visual_tokens=16),
    "internvl": ScoringConfig(backbone="tiny-internvl"),
}
CLIP = "clip"
JOB = JobConfig(commit_rows=4, order="side_by_side")


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    """Of both built-in backbones and a column that the manifest has."""
    table, labels = random_scores({name: ["base"] for name in CONFIGS}, 80)
    generator = np.random.default_rng(0)
    table = table.append_column(CLIP, pa.array(generator.normal(size=80)))
    joined = join_labels({"t": table}, read_labels(labels))
    config = StackConfig(method="ridge", seeds=1, folds=2)
    stacks = [
        fit_calibrated(
            read_stack_table(rows, target="label", features=features, group="prompt",
                             label_range=None, where="t"),
            config, elements=elements,
        )[0]
        for rows, features, elements in (
            (joined.total, [*joined.features, CLIP], False), (joined.elements, ["e_*"], True)
        )
    ]  # fmt: skip
    backbones = {
        name: {
            "config": one.model_dump(mode="json"),
            "identity": scoring_identity(*resolve_config(one)),
        }
        for name, one in CONFIGS.items()
    }
    return Ensemble(stacks[0], stacks[1], json.loads(json.dumps(backbones)))


@pytest.fixture(scope="module")
def manifest(benchmark_folder: Path) -> Path:
    """Six images, one of them broken, one twice under one id, and columns of other tools."""
    path = benchmark_folder / "ensemble.parquet"
    table = pq.read_table(benchmark_folder / "test.parquet").slice(0, 6)
    table = pa.concat_tables([table, table.slice(2, 1)])
    table = table.append_column(CLIP, pa.array([0.1, None, 0.3, -0.4, 0.5, 0.6, 0.7]))
    table = table.append_column("score_low", pa.array(list("ABCDEFG")))
    uris: list[Any] = table["image_uri"].to_pylist()
    uris[4] = "nowhere.png"
    index = table.column_names.index("image_uri")
    table = table.set_column(index, "image_uri", pa.array(uris))
    table = table.drop_columns([n for n in ("sample_id",) if n in table.column_names])
    pq.write_table(table.append_column("sample_id", pa.array(list("abcdefc"))), path)
    return path


def test_in_the_job_or_afterwards(ensemble: Ensemble, manifest: Path, tmp_path: Path) -> None:
    ensemble.save(str(tmp_path / "bundle"))
    job = tmp_path / "job.yaml"
    job.write_text("job: {commit_rows: 4, order: side_by_side}\n")
    arguments = ["score", str(manifest), "--ensemble", str(tmp_path / "bundle"), "--config"]
    result = CliRunner().invoke(app, [*arguments, str(job), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    last = result.output.splitlines()[-1]
    counts = "rows=7 scored=5 unscored=2 (duplicate_id 1, image_missing 1) "
    assert last.startswith(counts)
    plain = str(tmp_path / "plain")
    score_manifest(str(manifest), plain, CONFIGS, job=JOB, say=str)
    expected = merge(ensemble, {"plain": pq.read_table(plain)})
    found = pq.read_table(tmp_path / "out")
    assert found.column_names == expected.column_names
    assert set(ENSEMBLE_COLUMNS) < set(found.column_names)
    assert found["input_score_low"].to_pylist() == list("ABCDEFG")
    assert repr(found.to_pylist()) == repr(expected.to_pylist())
    row: dict[str, Any] = found.slice(6, 1).to_pylist()[0]
    assert row["error_code"] == "duplicate_id"
    assert np.isnan([row["score_low"], *row["element_high"]]).all()
    assert set(row["element_present"]) == {None}
    (part,) = (tmp_path / "out").glob("*.parquet")
    about = pq.read_schema(part).metadata
    assert about[b"tokenfocus.ensemble"] == ensemble.fingerprint().encode()
    # another ensemble on the same output is another configuration
    other = Ensemble(ensemble.total, None, ensemble.backbones)
    with pytest.raises(ConfigError, match="begun with another configuration \\(ensemble: "):
        score_manifest(
            str(manifest), str(tmp_path / "out"), CONFIGS, job=JOB, ensemble=other, say=str
        )  # fmt: skip


def test_an_ensemble_is_of_its_members(ensemble: Ensemble) -> None:
    configs = ensemble.scoring_configs()
    assert configs == CONFIGS
    check_ensemble(
        ensemble, {name: scoring_identity(*resolve_config(c)) for name, c in configs.items()}
    )
    changed = CONFIGS["qwen"].model_copy(update={"max_visual_tokens": 32})
    with pytest.raises(ConfigError) as caught:
        check_ensemble(ensemble, {"qwen": scoring_identity(*resolve_config(changed))})
    assert str(caught.value) == (
        "the ensemble was fitted on other scores of 'qwen' (max_visual_tokens: 16 then, 32 now); "
        "set it back, or stack again"
    )
    made = feature_names({name: ["base"] for name in CONFIGS})
    check_features(ensemble, made, ["prompt", CLIP])
    with pytest.raises(ConfigError) as caught:
        check_features(ensemble, made, ["prompt"])
    assert str(caught.value).startswith(
        "the ensemble takes 'clip', which neither these backbones (e_internvl, "
    )
    made = feature_names({"tiny-internvl": ["base"]})
    with pytest.raises(ConfigError) as caught:
        check_features(ensemble, made, ["prompt", CLIP])
    assert str(caught.value).startswith(
        "the ensemble takes 'm_qwen', 'm_internvl', 'elements_qwen', 'elements_internvl', "
        "'e_qwen', 'e_internvl', which neither"
    )


def test_nothing_of_its_backbones_can_be_changed(ensemble: Ensemble, tmp_path: Path) -> None:
    ensemble.save(str(tmp_path / "bundle"))
    arguments = ["score", "m.parquet", "--out", "out", "--ensemble", str(tmp_path / "bundle")]
    result = CliRunner().invoke(app, [*arguments, "--backbone", "tiny-internvl"])
    assert str(result.exception) == (
        "options: the ensemble brings its backbones as it was fitted on them, so backbone cannot "
        "be given; only 'job' can"
    )
