"""What a job refuses before it starts: nothing but earlier scores is ever deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenfocus_ray.config import JobConfig
from tokenfocus_ray.distributed.batch import check_clearable
from tokenfocus_ray.distributed.batch_run import check_budget
from tokenfocus_ray.errors import ConfigError, OutputError
from tokenfocus_ray.storage import Store


def refusal(out: Path, *inputs: Path) -> str:
    with pytest.raises(OutputError) as caught:
        check_clearable(Store.of(out), [str(i) for i in inputs])
    return str(caught.value)


def test_scores_of_an_earlier_job_may_go(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "__job").mkdir(parents=True)
    (out / "part-00000.parquet").write_bytes(b"")
    check_clearable(Store.of(out), [str(tmp_path / "m.csv"), "s3://bucket/out/m.parquet"])


def test_the_input_is_never_deleted(tmp_path: Path) -> None:
    """A Parquet manifest in the output folder looks like scores."""
    manifest = tmp_path / "test.parquet"
    manifest.write_bytes(b"")
    assert refusal(tmp_path, tmp_path.parent / "m.csv", manifest) == (
        f"output folder {str(tmp_path)!r} holds the input {str(manifest)!r}, which --overwrite "
        f"would delete; choose another"
    )


def test_what_is_not_ours_is_never_deleted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "photos").mkdir(parents=True)
    assert refusal(out, tmp_path / "m.csv") == (
        f"output folder {str(out)!r} holds 'photos', which no scoring job wrote; --overwrite "
        f"deletes scores only: choose another folder"
    )


@pytest.mark.parametrize(
    ("job", "gpus", "cpus", "message"),
    [
        ({"workers": 100}, 0, 4, "--workers 100 needs 51.75 logical CPUs (0.5 each, 1.75 to feed "
         "them), but the session has 4; use at most 4 workers"),
        ({}, 0, 2, "--workers 1 needs 2.25 logical CPUs (0.5 each, 1.75 to feed them), but the "
         "session has 2; use at most 0 workers"),
        ({"workers": 3}, 2, 16, "--workers 3 needs 3 GPUs (1 each), but the session has 2"),
        ({"workers": 5, "gpus": 0.5}, 2, 16, "--workers 5 needs 2.5 GPUs (0.5 each), but the "
         "session has 2"),
    ],
)  # fmt: skip
def test_workers_that_would_wait_for_ever(
    job: dict[str, float], gpus: int, cpus: float, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_budget(JobConfig.parse(job), gpus, cpus)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("job", "gpus"), [({}, 0), ({}, 2), ({"gpus": 0.5}, 2), ({"workers": 4}, 0)]
)
def test_workers_that_fit(job: dict[str, float], gpus: int) -> None:
    check_budget(JobConfig.parse(job), gpus, 4)
