"""What a finished fan-out leaves beside its members: every sample out of fold, and the summary."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.distributed.preflight import members_record
from tokenfocus_ray.distributed.train.member_job import (
    ADAPTER,
    HELD_OUT_FILE,
    MEMBER_FILE,
    MemberJob,
)
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.schema import backbone_label
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.parquet import to_parquet
from tokenfocus_ray.training.oof import HELD_OUT_COLUMNS, merge_out_of_fold

OOF_FILE, SUMMARY_FILE = "oof.parquet", "summary.json"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "member": str,
    "backbone": str,
    "steps": int,
    "best_epoch": int,
    "gpu_hours": (int, float),
    "out_of_fold": dict,
}
_FIGURES = ("srcc", "plcc", "element_accuracy")


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """What a finished fan-out made.

    Attributes:
        out: The run's folder.
        members: One record a member, as in its ``member.json``.
        skipped: Number of rows that were not trained on.
        seconds: Wall time of this launch.
    """

    out: str
    members: list[dict[str, Any]]
    skipped: int
    seconds: float

    def adapters(self, backbone: str) -> dict[str, str]:
        """Member name -> adapter folder, of one backbone."""
        return {
            m["member"]: f"{self.out}/members/{m['member']}/{ADAPTER}"
            for m in self.members
            if m["backbone"] == backbone
        }

    def line(self) -> str:
        """The final line, which a script can read."""
        hours = sum(m["gpu_hours"] for m in self.members)
        return (
            f"members={len(self.members)} skipped={self.skipped} gpu_hours={hours:.2f} "
            f"seconds={self.seconds:.1f} out={self.out}"
        )


def read_member(job: MemberJob) -> dict[str, Any]:
    """What a finished member's ``member.json`` says.

    Raises:
        OutputError: it is cut, or of something else; with how to go on.
    """
    record = job.folder.read_record(MEMBER_FILE)
    odd = [name for name, kind in _FIELDS.items() if not isinstance(record.get(name), kind)]
    own = {"member": job.name, "backbone": job.backbone}
    odd = odd or [name for name, value in own.items() if record[name] != value]
    if not odd and not all(_is_figure(record["out_of_fold"].get(n, "")) for n in _FIGURES):
        odd = ["out_of_fold"]
    if odd:
        raise _foreign(job, MEMBER_FILE, f"its {odd[0]} is {record.get(odd[0])!r:.80}")
    return record


def _is_figure(value: Any) -> bool:
    return value is None or isinstance(value, (int, float))


def _foreign(job: MemberJob, file: str, what: str) -> OutputError:
    """What goes on from a checkpoint is what was trained: only the end of it is done again."""
    return OutputError(
        f"{job.folder.child(file).uri!r} is not what member {job.name} wrote ({what}); delete "
        f"{job.folder.child(MEMBER_FILE).uri!r} and launch the same command again: the member is "
        f"finished anew from its latest checkpoint"
    )


def read_held_out(job: MemberJob) -> pa.Table:
    """Score rows of what a finished member never saw.

    Raises:
        OutputError: they are not there, cut, or of something else; with how to go on.
    """
    try:
        table = pq.read_table(pa.BufferReader(job.folder.read_bytes(HELD_OUT_FILE)))
    except (FileNotFoundError, pa.ArrowException) as error:
        raise _foreign(job, HELD_OUT_FILE, str(error)) from error
    missing = [name for name in HELD_OUT_COLUMNS if name not in table.column_names]
    if missing:
        raise _foreign(job, HELD_OUT_FILE, f"it has no column {missing[0]!r}")
    return table


def write_out_of_fold(jobs: Sequence[MemberJob], samples: pa.Table, store: Store) -> None:
    """Every sample once, scored by the members that never saw its prompt.

    Raises:
        OutputError: a member's scores are not there, or of samples of another run.
    """
    known = set(samples["sample_id"].to_pylist())
    tables = {job.name: read_held_out(job) for job in jobs}
    for job in jobs:
        ids: Collection[Any] = tables[job.name]["sample_id"].to_pylist()
        strange = next((name for name in ids if name not in known), None)
        if strange is not None:
            raise _foreign(job, HELD_OUT_FILE, f"{strange!r} is no sample of this run")
    held_out = [(backbone_label(job.backbone), job.name, tables[job.name]) for job in jobs]
    store.write_bytes(OOF_FILE, to_parquet(merge_out_of_fold(samples, held_out)))


def write_summary(
    summary: TrainSummary, config: TrainConfig, sources: Mapping[str, Source], store: Store
) -> None:
    """The summary, with all that the members' scores depend on.

    Args:
        summary: Of the run.
        config: What was trained.
        sources: What each backbone was resolved to.
        store: The run's folder.
    """
    scorers = {
        backbone_label(name): members_record(
            config.scoring(name), source, summary.adapters(name), store
        )
        for name, source in sources.items()
        if config.lora is not None  # else members are whole backbones, which no one configures
    }
    record = {"members": summary.members, "skipped": summary.skipped, "backbones": scorers}
    store.write_json(SUMMARY_FILE, record)
