"""Files of a run that something else cut or wrote: named, with how to go on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from tokenfocus_ray.distributed.train.member_job import HELD_OUT_FILE, MEMBER_FILE, METRICS_FILE
from tokenfocus_ray.distributed.train.metrics import read_metrics, write_metrics
from tokenfocus_ray.distributed.train.results import OOF_FILE, read_member, write_out_of_fold
from tokenfocus_ray.distributed.train.stream import SAMPLES_FILE, read_samples
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.schema import SCORE_SCHEMA
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.parquet import to_parquet
from tokenfocus_ray.training.samples import SAMPLES

MEMBER: dict[str, Any] = {
    "member": "b-bag0",
    "backbone": "b",
    "steps": 8,
    "best_epoch": 2,
    "gpu_hours": 0.0,
    "out_of_fold": {"srcc": 0.5, "plcc": None, "element_accuracy": 1},
}
TABLE = pa.Table.from_pylist(
    [{"sample_id": "a", "group": 0, "prompt": "p", "total_scores": [3.0], "element_labels": []}],
    schema=SAMPLES,
)


@pytest.fixture
def job(tmp_path: Path) -> Any:
    folder = Store.of(tmp_path)
    folder.write_json(MEMBER_FILE, MEMBER)
    return SimpleNamespace(name="b-bag0", backbone="b", folder=folder)


def foreign(job: Any, file: str, what: str) -> str:
    return (
        f"'{job.folder.uri}/{file}' is not what member b-bag0 wrote ({what}); delete "
        f"'{job.folder.uri}/member.json' and launch the same command again: the member is finished "
        f"anew from its latest checkpoint"
    )


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"member": "b-bag1"}, "its member is 'b-bag1'"),
        ({"backbone": "c"}, "its backbone is 'c'"),
        ({"steps": "8"}, "its steps is '8'"),
        ({"best_epoch": None}, "its best_epoch is None"),
        ({"out_of_fold": {}}, "its out_of_fold is {}"),
    ],
    ids=str,
)
def test_a_member_of_something_else_is_no_finished_one(
    job: Any, changed: dict[str, Any], what: str
) -> None:
    assert read_member(job) == MEMBER
    job.folder.write_json(MEMBER_FILE, MEMBER | changed)
    with pytest.raises(OutputError) as caught:
        read_member(job)
    assert str(caught.value) == foreign(job, MEMBER_FILE, what)


def test_a_cut_record_of_a_member_is_named(job: Any) -> None:
    job.folder.write_bytes(MEMBER_FILE, json.dumps(MEMBER)[:40].encode())
    with pytest.raises(OutputError, match=r"member\.json' is no JSON .* delete it"):
        read_member(job)


def test_scores_of_another_run_are_refused(job: Any) -> None:
    def write(**row: Any) -> None:
        row = {"status": "ok", "score": 1.0, "element_scores": []} | row
        table = pa.Table.from_pylist([row], schema=SCORE_SCHEMA)
        job.folder.write_bytes(HELD_OUT_FILE, to_parquet(table))

    write(sample_id="a")
    write_out_of_fold([job], TABLE, job.folder)
    assert job.folder.exists(OOF_FILE)
    other = to_parquet(pa.table({"sample_id": ["a"]}))
    for what in ("'z' is no sample of this run", "it has no column 'status'"):
        write(sample_id="z")
        if "column" in what:
            job.folder.write_bytes(HELD_OUT_FILE, other)
        with pytest.raises(OutputError) as caught:
            write_out_of_fold([job], TABLE, job.folder)
        assert str(caught.value) == foreign(job, HELD_OUT_FILE, what)
    for data in (b"PAR1 cut", None):
        job.folder.delete(HELD_OUT_FILE)
        if data is not None:
            job.folder.write_bytes(HELD_OUT_FILE, data)
        with pytest.raises(
            OutputError, match=r"held_out\.parquet' is not what member b-bag0 wrote"
        ):
            write_out_of_fold([job], TABLE, job.folder)


def test_samples_of_something_else_are_refused(tmp_path: Path) -> None:
    store = Store.of(tmp_path)
    store.write_bytes(SAMPLES_FILE, to_parquet(TABLE))
    assert read_samples(store).equals(TABLE)
    store.write_bytes(SAMPLES_FILE, to_parquet(pa.table({"x": [1]})))
    with pytest.raises(OutputError) as caught:
        read_samples(store)
    assert str(caught.value) == (
        f"'{store.uri}/samples.parquet' is not what this run wrote (its columns are x), and its "
        f"members were trained on that: put it back, or choose another --out"
    )


def test_cut_metrics_stop_nothing_and_are_said(tmp_path: Path) -> None:
    """A member that goes on has its records from its checkpoint."""
    folder, lines = Store.of(tmp_path), list[str]()
    assert read_metrics(folder, lines.append) == []
    records = [{"step": 1, "seconds": 0.5, "loss": 2.0}, {"step": 6, "seconds": 3.0, "loss": 1.0}]
    write_metrics(folder, records, tensorboard=False)
    assert read_metrics(folder, lines.append) == records
    whole = folder.read_bytes(METRICS_FILE)
    for data in (whole[:-9], whole.replace(b'"step"', b'"epoch"'), b"\xff\n", b"[]\n"):
        folder.write_bytes(METRICS_FILE, data)
        assert read_metrics(folder, lines.append) == []
    uri = f"'{folder.uri}/metrics.jsonl'"
    assert len(lines) == 4
    assert lines[1] == (
        f"{uri} is not what training wrote (line 1 is no record of a step); the member writes it "
        f"anew"
    )
