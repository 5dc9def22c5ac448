"""Selects rows of scores: kept and dropped ones, each a table, and every row in one of them.

    OUT/kept/part-NNNNN.parquet     the kept rows, in the order of the input: a manifest
    OUT/dropped/part-NNNNN.parquet  the others, with dropped_reason and dropped_message
    OUT/kept/__job/run.json         where the images are; likewise beside the dropped rows
    OUT/subset.npy                  DataComp's list of the kept samples (--npy)
    OUT/selection.json              what was asked for, and the counts; written last
    OUT/__job/select.json           what the output depends on; another launch must agree

The rows are read and written by this process, in bounded memory: sorting what ranks is DuckDB's.
Images are copied by Ray: :mod:`~tokenfocus_ray.distributed.outcomes.carry`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from tokenfocus_ray.config.selection import Selection
from tokenfocus_ray.datasets.recorded import RUN_FILE
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.distributed.layout import JOB
from tokenfocus_ray.distributed.outcomes.carry import FOLDER_ROWS, NONE, Carry, carry
from tokenfocus_ray.distributed.outcomes.parts import PART_BYTES, PART_ROWS, PartWriter
from tokenfocus_ray.distributed.outcomes.summary import SelectSummary
from tokenfocus_ray.distributed.output import Launch, OutputFolder, OutputKind
from tokenfocus_ray.errors import ConfigError, ManifestError, OutputError, UserError, did_you_mean
from tokenfocus_ray.exports.paths import ImagePaths
from tokenfocus_ray.exports.reasons import MESSAGE, REASON
from tokenfocus_ray.exports.select import Chosen, Counts, choose
from tokenfocus_ray.exports.uids import UIDS, Subset, halves, subset
from tokenfocus_ray.progress import Watch
from tokenfocus_ray.say import Say, in_lines
from tokenfocus_ray.scoring.originals import Originals
from tokenfocus_ray.storage import public
from tokenfocus_ray.version import __version__

SELECT = OutputKind("select", "no selection", f"{JOB}/select.json")
KEPT, DROPPED, NPY, SUMMARY = "kept", "dropped", "subset.npy", "selection.json"
#: What was selected, before images are copied.
SELECTED = f"{JOB}/selected.json"


def select_scores(
    scores: str,
    out: str | None,
    selection: Selection | None = None,
    *,
    mapping: Mapping[str, str] | None = None,
    manifests: Sequence[str] | None = None,
    images: str | None = None,
    npy: bool = False,
    uid: str | None = None,
    copy_images: bool = False,
    shard_size: int | None = None,
    say: Say = print,
    progress: Watch | None = None,
) -> SelectSummary:
    """Keeps the rows of a score table that meet some criteria; the others it drops with a reason.

    Args:
        scores: Output folder of ``tokenfocus score``, ``merge`` or ``select``, or a file of it;
            local or in a store.
        out: Folder for the output, likewise; None: nothing is written, but all is counted.
        selection: What is kept; None: all rows with a score.
        mapping: Role -> column of the score table, before any convention; see
            :class:`~tokenfocus_ray.datasets.scored.ScoredColumns`.
        manifests: What was scored; None: as the scoring job wrote it down.
        images: Folder that relative image paths start from; None: likewise.
        npy: Whether to write DataComp's list of the kept samples.
        uid: Column of their 128-bit uids; None: ``uid``, or else ``sample_id``.
        copy_images: Whether to copy the kept images, on Ray.
        shard_size: Most samples of a tar shard, to cut the kept images into shards of even size, on
            Ray; None: there are none.
        say: Takes lines of what happens.
        progress: Is told where the job stands; None: ``say`` takes lines of it.

    Raises:
        ManifestError: the table cannot be read, or lacks what a criterion goes by.
        ConfigError: ``out`` holds another selection; or no row has an element that is named.
        OutputError: ``out`` cannot be written, holds something else, lies in the input folder, or
            another launch is writing to it.
    """
    started = time.monotonic()
    folder = None if out is None else OutputFolder.find(SELECT, out, [scores])
    scored = ScoredTable.open(scores, mapping=mapping, manifests=manifests, images=images)
    options = selection or Selection()
    if shard_size is not None and shard_size < 1:
        raise ConfigError(f"shard_size = {shard_size}: a shard has at least one sample")
    if copy_images or shard_size is not None:
        Originals.of(scored)  # before any work is done
    uids = _uid_column(scored, uid) if npy else None
    job = _Job(scored, options, uids, copy_images, shard_size, progress or in_lines(say))
    if folder is None:
        summary = job.counted()
    else:
        identity = job.identity()
        store = folder.store
        if folder.is_begun(identity) and store.exists(SUMMARY):
            folder.sweep()
            summary = SelectSummary.read(store, SUMMARY)
            say(f"already finished: {summary.rows:,} rows are there, nothing is selected")
        else:
            with folder.launch(identity, say) as launch:
                if launch.resumes and store.exists(SELECTED):
                    summary = SelectSummary.read(store, SELECTED)
                    say("all rows are kept or dropped already; their images are gone on with")
                else:
                    launch.clear()  # it takes little, so what was begun is begun again
                    launch.write_record()
                    with _nothing_left(launch):
                        summary = job.written(launch)
                    store.write_json(SELECTED, asdict(summary))
                summary = job.carried(launch, summary)
                launch.lease.confirm()
                store.write_json(SUMMARY, job.record() | asdict(summary))
                launch.finish()
    for line in summary.in_words():
        say(line)
    return replace(summary, out=out, seconds=time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is selected, and how.

    Attributes:
        scored: The score table.
        options: What is kept.
        uid: Column of uids; None: no list of them is asked for.
        copies: Whether images are copied.
        shard_size: Most samples of a shard; None: there are none.
        watch: Is told where it stands.
    """

    scored: ScoredTable
    options: Selection
    uid: str | None
    copies: bool
    shard_size: int | None
    watch: Watch

    def identity(self) -> dict[str, Any]:
        """What the output depends on, flat."""
        given = self.scored.input
        return {
            **{f"selection.{key}": value for key, value in self.options.given().items()},
            **{f"input.{key}": value for key, value in self.scored.rows.fingerprint.items()},
            **{f"column.{key}": v for key, v in asdict(self.scored.columns).items() if v},
            "images": None if given is None else list(given.bases),
            "uid": self.uid,
            "copy_images": self.copies,
            "shard_size": self.shard_size,
            "part": [PART_ROWS, PART_BYTES],
        }

    def record(self) -> dict[str, Any]:
        """What is written down beside the counts."""
        info = self.scored.info
        return {
            "version": __version__,
            "scores": public(self.scored.where),
            "input": self.scored.rows.fingerprint,
            "selection": self.options.given(),
            "members": None if info is None else list(info.members),
        }

    def counted(self) -> SelectSummary:
        """Decides about all rows, and writes nothing."""
        counts = Counts()
        columns = [] if self.uid is None else [self.uid]
        for chosen in choose(self.scored, self.options, counts, self.watch, columns):
            if self.uid is not None:
                self._halves(chosen)
        return SelectSummary.of(counts, None)

    def written(self, launch: Launch) -> SelectSummary:
        """Decides about all rows, and writes them."""
        paths, counts = ImagePaths.of(self.scored), Counts()
        schema = paths.schema(self.scored.rows.schema)
        store, lease = launch.folder.store, launch.lease
        beside = _with_reasons(schema)
        kept, dropped = PartWriter(lease, KEPT, schema), PartWriter(lease, DROPPED, beside)
        with ExitStack() as stack:
            told = False
            uids = None if self.uid is None else stack.enter_context(subset(self.scored.n_rows))
            for chosen in choose(self.scored, self.options, counts, self.watch):
                if not told and (note := paths.unknown(chosen.table)):
                    counts.notes.append(note)
                    told = True
                table, kept_N = paths.lead(chosen.table, chosen.start), chosen.kept_N
                kept.add(table.filter(pa.array(kept_N)).cast(schema))
                if uids is not None:
                    uids.add(self._halves(chosen))
                others: Any = table.filter(pa.array(~kept_N))
                more = [pa.array(v, pa.string()) for v in (chosen.reasons, chosen.messages)]
                dropped.add(pa.table([*others.columns, *more], schema=beside))
            kept.close()
            dropped.close()
            n_uids = None if uids is None else self._write_uids(uids, launch, counts)
        # where the images are found again
        if (given := paths.recorded(self.scored)) is not None:
            for folder in (KEPT, DROPPED):
                store.write_json(f"{folder}/{RUN_FILE}", {"input": given.model_dump()})
        return SelectSummary.of(counts, n_uids)

    def carried(self, launch: Launch, summary: SelectSummary) -> SelectSummary:
        """Copies images and cuts shards, where they are asked for."""
        if not self.copies and self.shard_size is None:
            return summary
        kept = ScoredTable.open(launch.folder.store.child(KEPT).absolute)
        of, lease = (kept, Originals.of(kept)) if kept.n_rows else None, launch.lease
        if self.copies:
            done = carry(Carry("images", *of, lease, FOLDER_ROWS), self.watch) if of else NONE
            summary = summary.with_copies(done)
        if self.shard_size is not None:
            done = carry(Carry("shards", *of, lease, self.shard_size), self.watch) if of else NONE
            summary = summary.with_shards(done)
        return summary

    def _halves(self, chosen: Chosen) -> Any:
        assert self.uid is not None
        uids = chosen.table[self.uid].filter(pa.array(chosen.kept_N))
        return halves(uids, self.uid, self.scored.where)

    def _write_uids(self, uids: Subset, launch: Launch, counts: Counts) -> int:
        with tempfile.TemporaryFile() as file:
            n, repeated = uids.write(file)
            file.seek(0)
            launch.lease.confirm()
            launch.folder.store.write_bytes(NPY, file.read())
        if repeated:
            counts.notes.append(
                f"{NPY}: {repeated:,} kept rows repeat the uid of another, and stand in it once"
            )
        return n


def _uid_column(scored: ScoredTable, given: str | None) -> str:
    """The column of uids.

    Raises:
        ManifestError: it is not there.
    """
    names = scored.rows.schema.names
    if given is None:
        return next(name for name in UIDS if name in names)
    if given not in names:
        raise ManifestError(
            f"--uid {given}: {scored.where} has no column {given!r}. {did_you_mean(given, names)}"
        )
    return given


def _with_reasons(schema: pa.Schema) -> pa.Schema:
    """The schema of dropped rows; columns of such names that are there already give way."""
    taken = {REASON, MESSAGE, *schema.names}
    for i, column in enumerate(schema):
        if (name := column.name) in (REASON, MESSAGE):
            while name in taken:
                name = f"input_{name}"
            schema = schema.set(i, column.with_name(name))
            taken.add(name)
    return schema.append(pa.field(REASON, pa.string())).append(pa.field(MESSAGE, pa.string()))


@contextmanager
def _nothing_left(launch: Launch) -> Iterator[None]:
    """What is refused while it is made leaves an empty folder, for another try."""
    try:
        yield
    except UserError:
        with suppress(OutputError):  # another launch has the folder now
            launch.lease.confirm()
            # and not what a command keeps there, which it is still writing to
            for name in (KEPT, DROPPED, NPY, SELECT.record):
                launch.folder.store.delete(name)
        raise
