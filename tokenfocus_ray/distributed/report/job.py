"""Writes a page about scores: Ray's tasks summarise rows, the driver merges what they found.

Rows themselves come back only of the few hundred that the page shows, with their images made small
where they are read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import pyarrow as pa

from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.distributed.blocks import made_of
from tokenfocus_ray.distributed.report.tasks import (
    CompareRows,
    MakeCards,
    SampleRows,
    SummariseRows,
    WithScores,
    both_merged,
    ranges,
    unpacked,
)
from tokenfocus_ray.distributed.session import ray_session
from tokenfocus_ray.errors import ConfigError, ManifestError, OutputError
from tokenfocus_ray.progress import Pace, Watch
from tokenfocus_ray.report.agreement import agreement
from tokenfocus_ray.report.binned import Binned
from tokenfocus_ray.report.figures import against as against_figures
from tokenfocus_ray.report.figures import figures
from tokenfocus_ray.report.page import fitted, origin, with_cards
from tokenfocus_ray.report.runs import Shared
from tokenfocus_ray.report.summary import Summary
from tokenfocus_ray.say import Say, in_lines
from tokenfocus_ray.scoring.originals import Originals
from tokenfocus_ray.storage import Store

#: Rows of the page that a task makes; ids by which tables are first told not to stand side by side.
CARD_ROWS, FIRST_IDS = 16, 1_000
#: Bytes of all small images, and of one at the most.
IMAGES_BYTES, IMAGE_BYTES = 2_900_000, 32_000
#: From which score on an element is present, where no ensemble says.
THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """What a page tells.

    Attributes:
        out: The file.
        rows: Of the table.
        scored: Rows with a score.
        shown: Rows whose image and text are on the page.
        images: Of these, with an image.
        n_bytes: Of the file.
        seconds: Wall time, start of Ray included.
    """

    out: str
    rows: int
    scored: int
    shown: int
    images: int
    n_bytes: int
    seconds: float

    def line(self) -> str:
        """The final line, which a script can read."""
        return (
            f"rows={self.rows} scored={self.scored} unscored={self.rows - self.scored} "
            f"shown={self.shown} images={self.images} bytes={self.n_bytes} "
            f"seconds={self.seconds:.1f} out={self.out}"
        )


def write_report(
    scores: str,
    out: str,
    *,
    labels: str | None = None,
    against: str | None = None,
    manifests: Sequence[str] | None = None,
    images: str | None = None,
    mapping: Mapping[str, str] | None = None,
    dependencies: bool = False,
    say: Say = print,
    progress: Watch | None = None,
) -> ReportSummary:
    """Writes one page that shows how the images of a score table fare, and opens anywhere.

    Args:
        scores: Output folder of ``tokenfocus score`` or ``merge``, ``kept/`` or ``dropped/`` of
            ``select``, or a file of them; local or in a store.
        out: The page, such as ``report.html``; local or ``s3://``; one that is there is replaced.
        labels: Human labels of some samples: Parquet, or EvalMuse's JSON; None: there are none.
        against: Another score table, compared by sample id; None: none.
        manifests: What was scored, for the images; None: as the job wrote it down.
        images: Folder that relative image paths start from; None: likewise.
        mapping: Role -> column of the score table.
        dependencies: Whether an element counts as failed where one that it depends on fails.
        say: Takes lines of what happens.
        progress: Is told where the job stands; None: ``say`` takes lines of it.

    Raises:
        ManifestError: a table cannot be read or lacks columns, or labels do not fit.
        ConfigError: there are no dependencies to follow, or ``out`` does not end with ``.html``.
        OutputError: ``out`` cannot be written.
    """
    started = time.monotonic()
    place = _place(out)
    scored = ScoredTable.open(scores, mapping=mapping, manifests=manifests, images=images)
    other = None if against is None else ScoredTable.open(against)
    for one in (scored, *([other] if other else [])):
        if not one.n_rows:
            raise ManifestError(f"{one.where}: the table has no rows, so there is nothing to show")
    if dependencies and (scored.columns.element_parents is None or not scored.columns.elements):
        raise ConfigError(
            f"--dependencies: {scored.where} has no column of element parents; name it with --map "
            f"element_parents=COLUMN, or leave the option out"
        )
    agreed = None if labels is None else agreement(scores, scored, labels)
    ensemble = None if scored.info is None else scored.info.ensemble
    own = None if ensemble is None else ensemble.element_threshold
    threshold = THRESHOLD if own is None else own
    originals = _originals(scored, say)
    watch = progress or in_lines(say)
    with ray_session():
        summarise = SummariseRows(scored, threshold, dependencies)
        parts = unpacked(_run(summarise, ranges(scored), scored.n_rows, watch))
        summary: Summary = reduce(Summary.merged, parts)
        compared = None if other is None else _compared(scored, other, watch)
        rows = summary.rows | (set() if compared is None else _moved(compared[0]))
        share = min(IMAGE_BYTES, IMAGES_BYTES // max(1, len(rows)))
        cards = _cards(
            MakeCards(scored, originals, threshold, dependencies, share), sorted(rows), watch
        )
    data = {
        **origin(scores, scored.where, scored.info, datetime.now(UTC)),
        **figures(summary, threshold),
        "best": [int(row) for row in summary.best.rows_N],
        "worst": [int(row) for row in summary.worst.rows_N],
        "disputed": [int(row) for row in summary.disputed.rows_N],
        "dependencies": dependencies,
        "agreement": agreed,
        "against": compared and against_figures(compared[0], _where(other), compared[1]),
    }
    page, with_image = fitted(with_cards(data, cards))
    place.write_bytes("", page)
    return ReportSummary(
        out, summary.n_rows, summary.n_scored, len(cards), with_image, len(page),
        time.monotonic() - started,
    )  # fmt: skip


def _place(out: str) -> Store:
    """Where the page goes, if it can: that is known before anything is read."""
    place = Store.of(out)
    if not out.lower().endswith((".html", ".htm")):
        raise ConfigError(
            f"--out {out!r}: the page is HTML and replaces what is there; name a file that ends "
            f"with .html, such as report.html"
        )
    if place.is_folder():
        raise OutputError(
            f"cannot write {place.uri!r}: it is a folder; name a file in it, such as "
            f"{place.child('report.html').uri}"
        )
    Store.of(place.absolute.rpartition("/")[0] or "/").check_writable()
    return place


def _originals(scored: ScoredTable, say: Say) -> Originals | str:
    try:
        return Originals.of(scored)
    except ManifestError as error:
        say(f"the page will have no images: {error}")
        return str(error)


def _where(scored: ScoredTable | None) -> str:
    return "" if scored is None else scored.where


def _compared(first: ScoredTable, second: ScoredTable, watch: Watch) -> tuple[Shared, Binned]:
    """What both have in common, and all scores of the second."""
    if _begin_alike(first, second):
        compare = CompareRows(first, second)
        parts = list(unpacked(_run(compare, ranges(first), first.n_rows, watch)))
        if all(part is not None for part in parts):
            runs, every = reduce(both_merged, parts)
            return Shared(runs), every
    sides: list[WithScores] = [
        reduce(both_merged, unpacked(_run(SampleRows(one), ranges(one), one.n_rows, watch)))
        for one in (first, second)
    ]
    return Shared.of(sides[0][0], sides[1][0]), sides[1][1]


def _begin_alike(first: ScoredTable, second: ScoredTable) -> bool:
    if first.n_rows != second.n_rows:
        return False
    heads: list[list[Any]] = [
        [key for table in one.read(["sample_id"], 0, min(FIRST_IDS, one.n_rows))
         for key in table["sample_id"].to_pylist()]
        for one in (first, second)
    ]  # fmt: skip
    return heads[0] == heads[1]


def _moved(shared: Shared) -> set[int]:
    return {int(row) for one in (shared.runs.rose, shared.runs.fell) for row in one.rows_N}


def _cards(make: MakeCards, rows: Sequence[int], watch: Watch) -> list[dict[str, Any]]:
    parts = (rows[at : at + CARD_ROWS] for at in range(0, len(rows), CARD_ROWS))
    blocks = [pa.table({"numbers": [list(own)]}) for own in parts]
    tables = _run(make, blocks, len(rows), watch, "making images") if blocks else []
    texts: list[Any] = [text for table in tables for text in table["card"].to_pylist()]
    cards: list[dict[str, Any]] = [json.loads(text) for text in texts]
    return sorted(cards, key=lambda card: card["row"])


def _run(
    task: Any, blocks: Sequence[pa.Table], total: int, watch: Watch, stage: str = "reading"
) -> Iterator[pa.Table]:
    pace = Pace()
    with made_of(blocks, task) as tables:
        watch(pace.progress(stage, total))
        for table in tables:
            counts: list[Any] = table["rows"].to_pylist()
            pace.count({"rows": sum(counts)})
            watch(pace.progress(stage, total))
            yield table
