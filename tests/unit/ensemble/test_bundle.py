"""An ensemble from the command to the folder, and back."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from tests.support.scores import older_metadata, random_scores
from tests.unit.ensemble.test_stacking import table
from tokenfocus_ray.cli.app import app
from tokenfocus_ray.ensemble.bundle import Ensemble
from tokenfocus_ray.ensemble.fit import read_scores
from tokenfocus_ray.errors import ConfigError, ManifestError, OutputError

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


DEEP = "[" * 100_000 + "]" * 100_000
NESTED: Any = json.loads("[" * 41 + "]" * 41)


def at(values: Any, path: str, new: Any) -> Any:
    """The value with another at a path; ``...`` leaves the key out."""
    key, _, below = path.partition("/")
    if not key:
        return new
    changed = dict(values)
    if new is ... and not below:
        del changed[key]
    else:
        changed[key] = at(values.get(key), below, new)
    return changed


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        ("total", ..., "total: Field required"),
        ("backbones", ..., "backbones: Field required"),
        ("", [2], " = [2]: Input should be a valid dictionary or instance of _Bundle"),
        ("total", 7, "total = 7: Input should be a valid dictionary or instance of _Stack"),
        ("total/bias", math.nan, "total.bias = nan: Input should be a finite number"),
        ("total/bias", "1", "total.bias = '1': Input should be a valid number"),
        ("total/weights/nnls", math.inf, "total.weights.nnls = inf: Input should be a finite "
         "number"),
        ("total/weights/magic", 1.0, "total.weights.magic.[key] = 'magic': Input should be "
         "'single', 'rank_mean', 'nnls', 'ridge' or 'boosting'"),
        ("total/weights", {}, "total.weights = {}: Dictionary should have at least 1 item after "
         "validation, not 0"),
        ("total/scales/ridge", 0.0, "total.scales.ridge = 0.0: Input should be greater than 0"),
        ("total/centers/ridge", ..., "total: centers lacks ridge, which has a weight"),
        ("total/features", ["a", "b", "c", "a"], "total: features holds a name twice"),
        ("total/calibration/low", 99.0, "total.calibration: low 99 is above high "),
        ("total/calibration", None, "total.calibration = None: Input should be a valid dictionary "
         "or instance of _Calibration"),
        ("total/interval/coverage", 1.5, "total.interval.coverage = 1.5: Input should be less "
         "than 1"),
        ("total/about", NESTED, "is nested deeper than 32 levels"),
        ("backbones/q", {}, "backbones.q.config: Field required"),
        ("backbones/q", {"config": {"backbone": "b", "adapters": [1]}}, "backbones.q.config."
         "adapters = [1]: Input should be a valid dictionary"),
    ],
)  # fmt: skip
def test_a_bundle_with_wrong_values_is_refused_by_key(
    made: Path, tmp_path: Path, path: str, new: Any, message: str
) -> None:
    shutil.copytree(made / "bundle", tmp_path / "b")
    file = tmp_path / "b" / "ensemble.json"
    file.write_text(json.dumps(at(json.loads(file.read_text()), path, new)))
    with pytest.raises(ManifestError) as caught:
        Ensemble.load(str(tmp_path / "b"))
    start = f"'{tmp_path}/b' cannot be read as an ensemble: ensemble.json: {message}"
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith("; stack again")


def test_elements_without_a_threshold_are_refused(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "bundle", tmp_path / "b")
    file = tmp_path / "b" / "ensemble.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | {"elements": values["total"]}))
    with pytest.raises(ManifestError, match=r"elements\.threshold = None: Input should be a valid"):
        Ensemble.load(str(tmp_path / "b"))


@pytest.mark.parametrize("text", [DEEP, "{", "", '{"format": 2, "total": ' + DEEP + "}"])
def test_a_bundle_whose_json_is_none_is_refused(made: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(made / "bundle", tmp_path / "b")
    (tmp_path / "b" / "ensemble.json").write_text(text)
    with pytest.raises(ManifestError) as caught:
        Ensemble.load(str(tmp_path / "b"))
    start = f"'{tmp_path}/b' cannot be read as an ensemble: '{tmp_path}/b/ensemble.json' is no JSON"
    assert str(caught.value).startswith(start)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("total.scaler.kept", lambda a: None, "total.scaler.kept is missing"),
        ("total.scaler.kept", lambda a: a + 1, "total.scaler.kept is [1, 2, 3, 4], of 4 features"),
        ("total.scaler.kept", lambda a: a[:0], "total.scaler.kept is [], of 4 features"),
        ("total.scaler.kept", lambda a: a * 1.0, "total.scaler.kept is of type float64"),
        ("total.scaler.fill", lambda a: a * np.nan, "total.scaler.fill holds NaN or infinity"),
        ("total.scaler.fill", lambda a: a[:3], "total.scaler.fill has the shape [3], wanted 4"),
        ("total.scaler.sign", lambda a: a * 2, "total.scaler.sign is not 1 or -1"),
        ("total.scaler.scale", lambda a: a * 0, "total.scaler.scale is not above 0"),
        ("total.scaler.quantiles", lambda a: -a, "total.scaler.quantiles does not rise"),
        ("total.scaler.quantiles", lambda a: a[:, 0], "total.scaler.quantiles has the shape [4], "
         "wanted 4 x any"),
        ("total.calibrator.x", lambda a: a[::-1], "total.calibrator.x does not rise"),
        ("total.calibrator.y", lambda a: a[1:], "total.calibrator.y has the shape ["),
        ("total.parts.ridge.weights", lambda a: a * np.inf, "total.parts.ridge.weights holds NaN "
         "or infinity"),
        ("total.parts.ridge.weights", lambda a: a[:2], "total.parts.ridge.weights has the shape "
         "[2], wanted 4"),
        ("total.parts.nnls.bias", lambda a: a[None], "total.parts.nnls.bias has the shape [1], "
         "wanted a number"),
        ("total.parts.boosting.left", lambda a: a * 0, "total.parts.boosting.left names no node "
         "further on"),
        ("total.parts.boosting.right", lambda a: a + 99, "total.parts.boosting.right names no node "
         "further on"),
        ("total.parts.boosting.feature", lambda a: a + 9, "total.parts.boosting.feature names none "
         "of 4 columns"),
        ("total.parts.boosting.value", lambda a: np.repeat(a, 99, 1), "total.parts.boosting.value "
         "has not 1..255 nodes a tree"),
    ],
)  # fmt: skip
def test_a_bundle_with_wrong_arrays_is_refused_by_name(
    made: Path, tmp_path: Path, name: str, change: Any, message: str
) -> None:
    shutil.copytree(made / "bundle", tmp_path / "b")
    file = tmp_path / "b" / "ensemble.safetensors"
    arrays = load_file(file)
    new = change(arrays.pop(name))
    save_file(arrays if new is None else arrays | {name: np.ascontiguousarray(new)}, file)
    with pytest.raises(ManifestError) as caught:
        Ensemble.load(str(tmp_path / "b"))
    start = f"'{tmp_path}/b' cannot be read as an ensemble: ensemble.safetensors: {message}"
    assert str(caught.value).startswith(start)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("scores/__job/job.json", "[1]", "'{0}/scores/__job/job.json' holds a list in place of "
         "keys and values; delete it or write it again"),
        ("scores/__job/job.json", DEEP, "'{0}/scores/__job/job.json' is no JSON ("),
    ],
)  # fmt: skip
def test_records_that_are_read_back_are_not_trusted(
    tmp_path: Path, file: str, text: str, message: str
) -> None:
    scores, labels = random_scores({"tiny-internvl": ["m0", "m1"]}, 30)
    (tmp_path / "scores" / "__job").mkdir(parents=True)
    pq.write_table(scores, tmp_path / "scores" / "part-00000.parquet")
    pq.write_table(labels, tmp_path / "labels.parquet")
    (tmp_path / file).write_text(text)
    with pytest.raises(OutputError) as caught:
        read_scores([str(tmp_path / "scores")], str(tmp_path / "labels.parquet"))
    assert str(caught.value).startswith(message.format(tmp_path))


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("config", "{", "{0}: the table's metadata says '{{' of how it was scored; give the output "
         "of `tokenfocus score` as it was written"),
        ("config", "[]", "{0}: the table's metadata says '[]' of how it was scored; give the "
         "output of `tokenfocus score` as it was written"),
        ("config", "{}", "the tables' metadata: backbones.tiny-internvl.config.backbone: Field "
         "required; give what tokenfocus wrote, as it was written"),
        ("backbone", "{7", "{0}: the table's metadata names its backbones as '{{7'; give the "
         "output of `tokenfocus score` as it was written"),
    ],
)  # fmt: skip
def test_metadata_of_scores_is_not_trusted(
    tmp_path: Path, key: str, text: str, message: str
) -> None:
    scores, labels = random_scores({"tiny-internvl": ["m0", "m1"]}, 30)
    about = older_metadata({"tiny-internvl": ["m0", "m1"]}, **{key: text})
    scores = scores.replace_schema_metadata(dict(about))
    pq.write_table(scores, tmp_path / "s.parquet")
    pq.write_table(labels, tmp_path / "l.parquet")
    with pytest.raises(ManifestError) as caught:
        read_scores([str(tmp_path / "s.parquet")], str(tmp_path / "l.parquet"))
    assert str(caught.value) == message.format(tmp_path / "s.parquet")


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
