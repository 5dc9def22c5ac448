"""What a job that makes elements did, from what its units left."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tokenfocus_ray.datasets.names import counted
from tokenfocus_ray.datasets.units import Source
from tokenfocus_ray.distributed.elements import files
from tokenfocus_ray.elements.decomposed import STATUSES
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.say import Say
from tokenfocus_ray.storage import Store

#: Reasons that are said at the end.
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ElementsSummary:
    """What a finished job did.

    Attributes:
        out: The output folder.
        rows: Rows in, which equals rows out.
        prompts: Different prompts that were decomposed.
        elements: Elements that were made, over all rows.
        statuses: Rows by status: ``given``, ``made``, ``cut``, ``none``, ``failed``.
        reasons: Rows by why they are not ``given`` or ``made``; rare ones may be missing.
        seconds: Wall time of this launch, start of Ray included.
        used: What this launch's requests cost, in words; empty where nothing was asked.
    """

    out: str
    rows: int
    prompts: int
    elements: int
    statuses: dict[str, int]
    reasons: dict[str, int]
    seconds: float
    used: str = ""

    def line(self) -> str:
        """The final line, which a script can read."""
        each = " ".join(f"{status}={self.statuses.get(status, 0)}" for status in STATUSES)
        used = f"{self.used} " if self.used else ""
        return (
            f"rows={self.rows} prompts={self.prompts} elements={self.elements} {each} {used}"
            f"seconds={self.seconds:.1f} out={self.out}"
        )


def summarise(store: Store, source: Source, out: str, say: Say) -> ElementsSummary:
    """Counts of all units; what was written is compared with what was read."""
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    rows = elements = parts = 0
    for unit in source.units:
        record = store.read_record(files.done_name(unit.number))
        rows += record["rows"]
        parts += record["parts"]
        elements += record["elements"]
        statuses.update(record["statuses"])
        reasons.update(record["reasons"])
        passed.update(record["passed_over"])
    found = [name for name in store.names() if name.endswith(".parquet")]
    if len(found) != parts or (source.n_rows is not None and rows != source.n_rows):
        raise OutputError(
            f"{store.uri}: {rows:,} rows in {len(found):,} files are there, where {parts:,} files "
            f"were written for {source.n_rows or rows:,} rows; another job must have written to "
            f"this folder: choose another"
        )
    prompts = int(store.read_record(files.COUNTED)["prompts"])
    ordered = dict(reasons.most_common())
    if passed:
        say(f"passed over in the tar shards: {counted(passed)}")
    return ElementsSummary(out, rows, prompts, elements, dict(statuses), ordered, 0.0)


def say_reasons(summary: ElementsSummary, say: Say) -> None:
    """Why rows have no elements, or not all of them."""
    without = {s: n for s, n in summary.statuses.items() if s in ("cut", "none", "failed")}
    if not without:
        return
    shown = list(summary.reasons.items())[:_SHOWN]
    listed = "; ".join(f"{n:,}: {reason}" for reason, n in shown)
    more = len(summary.reasons) - len(shown)
    say(
        f"{sum(without.values()):,} rows without elements, or not all of them: {listed}"
        + (f"; and {more:,} other reasons, in column elements_reason" if more else "")
    )


def image_folder(source: Source) -> str | None:
    """Folder that relative paths of images start from; None where there are no paths."""
    return source.units[0].base if source.columns.image_uri is not None else None
