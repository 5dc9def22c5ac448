"""One member from its first step to its files, in this process: Ray Train is acted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import ray.train
import torch

from tests.support.train import (
    BACKBONE,
    N_STEPS,
    STEPS_PER_EPOCH,
    adapter,
    assert_same_adapter,
    metrics,
    small_config,
    small_data,
)
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.distributed.train import member
from tokenfocus_ray.distributed.train.manifest import read_manifest
from tokenfocus_ray.distributed.train.member_job import MemberJob
from tokenfocus_ray.distributed.train.members import member_jobs
from tokenfocus_ray.distributed.train.results import read_held_out, read_member
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.scoring.prepare import PrepareStage
from tokenfocus_ray.storage import Store
from tokenfocus_ray.training.learner import Learner
from tokenfocus_ray.training.samples import SAMPLE_COLUMNS, index_samples


class Stopped(Exception):
    """What a worker that is killed leaves behind."""


class ActedTrain:
    """What a worker asks of Ray Train, for one worker.

    Args:
        job: The member.
        samples: Of the run.
        base: Folder of its images.
        stop: Steps after whose checkpoint the worker dies.
    """

    def __init__(self, job: MemberJob, samples: pa.Table, base: str, stop: int = 0) -> None:
        self._job, self._samples, self._stop = job, samples, stop
        self._prepare = PrepareStage(SAMPLE_COLUMNS, {0: job.spec}, base)
        self.reports: list[Any] = []

    def get_context(self) -> Any:
        return SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)

    def get_checkpoint(self) -> Any:
        return self.reports[-1].checkpoint if self.reports else None

    def get_all_reported_checkpoints(self) -> list[Any]:
        return self.reports

    def report(self, figures: dict[str, Any], checkpoint: Any, checkpoint_dir_name: str) -> None:
        kept = Path(self._job.folder.root) / checkpoint_dir_name
        shutil.copytree(checkpoint.path, kept)
        checkpoint = ray.train.Checkpoint.from_directory(kept)
        self.reports.append(SimpleNamespace(metrics=figures, checkpoint=checkpoint))
        if figures["steps"] == self._stop:
            self._stop = 0
            raise Stopped

    def get_dataset_shard(self, name: str) -> Any:
        return SimpleNamespace(iter_batches=lambda **_: self._blocks(name))

    def _blocks(self, name: str) -> Iterator[pa.Table]:
        if name != "train":
            bag = self._job.bag
            yield self._rows(bag.validation if name == "validation" else bag.held_out)
            return
        done = self.reports[-1].metrics["steps"] if self.reports else 0
        for step in self._job.schedule.steps(done):
            rows = self._rows(step.samples)
            yield rows.append_column("step", pa.array([step.index] * rows.num_rows))

    def _rows(self, indices: Sequence[int]) -> pa.Table:
        return self._prepare(self._samples.take(pa.array(indices, pa.int64())))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def make(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run's second member, and the Ray Train that it meets."""
    config = small_config(data)
    manifest = read_manifest(str(data), config)
    samples, _ = index_samples(manifest.table, manifest.columns, config, "m")
    source = registry.resolve(BACKBONE)
    specs = {BACKBONE: loading.image_spec(source, 16)}
    monkeypatch.setattr(member, "get_device", lambda: torch.device("cpu"))

    def act(run: str, stop: int = 0) -> tuple[MemberJob, ActedTrain]:
        store = Store.of(tmp_path / run)
        job = member_jobs(config, samples, store, {BACKBONE: source}, specs)[1]
        acted = ActedTrain(job, samples, manifest.base, stop)
        names = [n for n in dir(ActedTrain) if not n.startswith("_")]
        for name in names:
            monkeypatch.setattr(ray.train, name, getattr(acted, name))
        return job, acted

    return act


def test_a_member_that_died_goes_on_and_is_the_same_member(make: Any, tmp_path: Path) -> None:
    """From the checkpoint within an epoch; each record stands once."""
    whole, acted = make("whole")
    member.train_member(whole)
    steps = [each.metrics["steps"] for each in acted.reports]
    assert steps == [2, STEPS_PER_EPOCH, 6, N_STEPS]
    assert [each.metrics["score"] == -2.0 for each in acted.reports] == [True, False] * 2
    job, acted = make("torn", stop=6)
    with pytest.raises(Stopped):
        member.train_member(job)
    assert not job.folder.exists("member.json")
    member.train_member(job)
    assert [r["step"] for r in metrics(tmp_path / "torn", job.name)] == [1, 4, 6, 8]
    assert_same_adapter(
        adapter(tmp_path / "torn", job.name), adapter(tmp_path / "whole", job.name), 0
    )
    record = read_member(job)
    assert record | {"seconds": 0.0} == read_member(whole) | {"seconds": 0.0}
    assert read_held_out(job).equals(read_held_out(whole))
    taught = json.loads(job.folder.read_bytes("adapter/tokenfocus.json"))
    assert (taught["backbone"], taught["member"]) == (BACKBONE, job.name)


def test_a_step_that_does_not_fit_ends_the_member(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: Any) -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    job, _ = make("run")
    monkeypatch.setattr(Learner, "step", too_large)
    with pytest.raises(ConfigError, match=r"^step 0 does not fit into the device's memory \(CUDA "):
        member.train_member(job)
    assert not job.folder.exists("metrics.jsonl")
