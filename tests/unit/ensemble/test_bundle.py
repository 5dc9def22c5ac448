"""An ensemble from the command to the folder, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.support.scores import random_scores
from tests.unit.ensemble.test_stacking import table
from tokenfocus_ray.cli.app import app
from tokenfocus_ray.ensemble.bundle import Ensemble
from tokenfocus_ray.errors import ConfigError, ManifestError

KEYS = (
    "srcc", "plcc", "krcc", "best_single", "best_single_srcc", "difference", "difference_low",
    "difference_high",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with all meta-learners in it, its report and the table."""
    folder = tmp_path_factory.mktemp("stack")
    values, labels, groups = table(n=200)
    frame = pd.DataFrame(values, columns=[f"m_{i}" for i in range(values.shape[1])])
    frame.assign(human=labels, prompt=groups).to_csv(folder / "t.csv", index=False)
    arguments = ["stack", "--table", str(folder / "t.csv"), "--target", "human", "--group"]
    arguments += ["prompt", "--features", "m_*", "--method", "blend", "--seeds", "2"]
    arguments += ["--out", str(folder / "bundle"), "--json", str(folder / "report.json")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "200 rows, 50 groups, 4 columns; 5 folds, mean of 2 rounds" in result.output
    return folder


def test_report(made: Path) -> None:
    report = json.loads((made / "report.json").read_text())
    assert set(KEYS) <= set(report)
    assert report["best_single"] == "m_0"
    assert report["difference"] == pytest.approx(report["srcc"] - report["best_single_srcc"])
    assert report["difference_low"] < report["difference"] < report["difference_high"]
    assert report["srcc_low"] < report["srcc"] < report["srcc_high"]
    assert report["chosen"] == {"blend": 10}
    assert abs(report["measured_coverage"] - 0.9) < 0.06
    assert report["calibration_error"] < 0.15
    assert abs(report["calibrated_srcc"] - report["srcc"]) < 0.02
    assert report["elements"] is None


def test_saved_and_loaded(made: Path) -> None:
    """The same scores bit by bit, on new rows with holes; nothing but JSON and tensors."""
    assert sorted(p.name for p in (made / "bundle").iterdir()) == [
        "ensemble.json", "ensemble.safetensors",
    ]  # fmt: skip
    ensemble = Ensemble.load(str(made / "bundle"))
    assert ensemble.total.features == ("m_0", "m_1", "m_2", "m_3")
    assert ensemble.elements is None
    assert ensemble.backbones == {}
    values, labels, _ = table(n=200, seed=1)
    values[::7, 1] = np.nan
    values[3] = np.nan
    found = ensemble.total.predict(values)
    assert np.isnan(found.score[3])
    known = np.isfinite(found.score)
    assert known.sum() == 199
    assert (found.low[known] <= found.score[known]).all()
    assert (found.score[known] <= found.high[known]).all()
    inside = (found.low[known] <= labels[known]) & (labels[known] <= found.high[known])
    assert inside.mean() > 0.8
    ensemble.save(str(made / "copy"))
    copy = Ensemble.load(str(made / "copy"))
    assert copy.fingerprint() == ensemble.fingerprint()
    again = copy.total.predict(values)
    np.testing.assert_array_equal(again.score, found.score)
    np.testing.assert_array_equal(again.high, found.high)


def test_scores_with_labels(tmp_path: Path) -> None:
    """What a job wrote and recorded comes into the bundle; elements get a stack of their own."""
    scores, labels = random_scores({"tiny-internvl": ["m0", "m1"]}, 80)
    (tmp_path / "scores" / "__job").mkdir(parents=True)
    pq.write_table(scores, tmp_path / "scores" / "part-00000.parquet")
    pq.write_table(labels, tmp_path / "labels.parquet")
    job = {"weights": "abc", "adapters.m0": "0f", "input.rows": 80, "commit_rows": 256}
    (tmp_path / "scores" / "__job" / "job.json").write_text(json.dumps(job))
    arguments = ["stack", str(tmp_path / "scores"), "--labels", str(tmp_path / "labels.parquet")]
    arguments += ["--method", "ridge", "--seeds", "1", "--out", str(tmp_path / "bundle")]
    arguments += ["--json", str(tmp_path / "report.json"), "--metric", "challenge"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "80 rows, 20 groups, 4 columns" in result.output
    assert "159 elements, 20 groups, 2 columns" in result.output
    ensemble = Ensemble.load(str(tmp_path / "bundle"))
    assert ensemble.total.features == ("m_m0", "m_m1", "elements_m0", "elements_m1")
    assert ensemble.elements is not None
    assert ensemble.elements.features == ("e_m0", "e_m1")
    assert ensemble.elements.threshold is not None
    assert 0.2 < ensemble.elements.threshold < 0.8
    own = ensemble.backbones["tiny-internvl"]
    assert own["identity"] == {"weights": "abc", "adapters.m0": "0f"}
    assert own["config"]["backbone"] == "tiny-internvl"
    decisions = json.loads((tmp_path / "report.json").read_text())["elements"]["decisions"]
    assert decisions["accuracy"] > 0.8
    assert decisions["threshold"] == ensemble.elements.threshold


@pytest.mark.parametrize("given", [["x"], ["x", "y"]])
def test_scores_without_labels(tmp_path: Path, given: list[str]) -> None:
    result = CliRunner().invoke(app, ["stack", *(str(tmp_path / g) for g in given)])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == (
        f"{' '.join(str(tmp_path / g) for g in given)}: without --labels, give the one folder of a "
        "finished training run, which has an oof.parquet; with score tables, give --labels"
    )


def test_what_is_no_bundle(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"is no ensemble: ensemble\.json or"):
        Ensemble.load(str(tmp_path))
    for name in ("ensemble.json", "ensemble.safetensors"):
        (tmp_path / name).write_bytes((made / "bundle" / name).read_bytes())
    (tmp_path / "ensemble.safetensors").write_bytes(b"broken")
    with pytest.raises(ManifestError, match="cannot be read as an ensemble"):
        Ensemble.load(str(tmp_path))
    (tmp_path / "ensemble.safetensors").write_bytes(
        (made / "bundle" / "ensemble.safetensors").read_bytes()
    )
    values = json.loads((tmp_path / "ensemble.json").read_text())
    (tmp_path / "ensemble.json").write_text(json.dumps(values | {"format": 7}))
    with pytest.raises(ManifestError, match="has format 7, this version reads 2; stack again"):
        Ensemble.load(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "magic"], "options: method = 'magic': "),
        (["--coverage", "1.5"], "options: coverage = 1.5: "),
        (["--label-range", "5", "1"], "options: label_range (5.0, 1.0) must rise"),
    ],
)
def test_options_that_cannot_be(made: Path, options: list[str], message: str) -> None:
    arguments = ["stack", "--table", str(made / "t.csv"), "--target", "human", "--features", "m_*"]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith(message)
