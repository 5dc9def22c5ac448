"""Importing the package is cheap, its public names are pinned, and unit tests stay offline."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tokenfocus_ray
from tokenfocus_ray.errors import RowError, UserError

ROOT = Path(__file__).parents[2]
PUBLIC = [
    "AlignmentScorer",
    "ConfigError",
    "Element",
    "ElementsSummary",
    "Endpoint",
    "Ensemble",
    "Evaluation",
    "FittedEnsemble",
    "ImportSummary",
    "JobConfig",
    "MergeSummary",
    "PairsSummary",
    "PoolConfig",
    "Progress",
    "ReportSummary",
    "RowError",
    "RunSummary",
    "ScoreRow",
    "ScoringConfig",
    "ScoringPlan",
    "SelectSummary",
    "Selection",
    "StackConfig",
    "SubmissionSummary",
    "TokenFocusError",
    "TrainConfig",
    "TrainSummary",
    "UserError",
    "__version__",
    "evaluate_scores",
    "export_pairs",
    "fit_ensemble",
    "import_manifest",
    "load_score_config",
    "make_elements",
    "merge_scores",
    "plan_scoring",
    "plan_training",
    "ray_session",
    "score_manifest",
    "select_scores",
    "train_members",
    "write_benchmark",
    "write_report",
    "write_submission",
]


def imported(code: str) -> set[str]:
    """Names of the top-level packages that a fresh interpreter holds after ``code``."""
    report = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_is_light() -> None:
    heavy = {"numpy", "pyarrow", "ray", "scipy", "torch", "transformers"}
    assert not imported("import tokenfocus_ray") & heavy


def test_names_without_a_model_need_no_torch() -> None:
    names = "from tokenfocus_ray import Element, RowError, ScoreRow, TokenFocusError, UserError"
    assert not imported(names) & {"ray", "torch", "transformers"}


def test_image_decoding_needs_no_torch() -> None:
    code = "from tokenfocus_ray.scoring import image"
    assert not imported(code) & {"ray", "torch", "transformers"}


def test_public_names() -> None:
    assert tokenfocus_ray.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(tokenfocus_ray))
    assert tokenfocus_ray.UserError is UserError


def test_every_public_name_loads() -> None:
    for name in PUBLIC:
        assert getattr(tokenfocus_ray, name) is not None


def test_unknown_name() -> None:
    with pytest.raises(AttributeError) as caught:
        _ = tokenfocus_ray.Scorer
    assert str(caught.value) == "module 'tokenfocus_ray' has no attribute 'Scorer'"


def test_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == tokenfocus_ray.__version__


def test_row_errors_survive_pickle() -> None:
    error = pickle.loads(pickle.dumps(RowError("image_missing", "image is missing")))
    assert (error.code, str(error)) == ("image_missing", "image is missing")


def test_unit_tests_cannot_connect() -> None:
    with (
        socket.socket(socket.AF_INET) as client,
        pytest.raises(pytest.fail.Exception, match="the network is banned in tests/unit"),
    ):
        client.connect(("127.0.0.1", 9))


def test_unit_tests_cannot_start_ray() -> None:
    import ray

    with pytest.raises(pytest.fail.Exception, match=r"ray\.init, which is banned in tests/unit"):
        ray.init(num_cpus=1)


def test_unit_tests_can_use_unix_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)


def test_workers_of_scoring_jobs_start_without_what_few_of_them_need() -> None:
    """A job starts dozens of processes, and each imports this."""
    code = "from tokenfocus_ray.distributed.score import job, launch, tasks"
    assert not imported(code) & {"scipy", "sklearn", "torch", "transformers"}
