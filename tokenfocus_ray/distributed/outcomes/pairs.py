"""Pairs, rankings, rewards and tasks of a score table, in the formats that trainers read.

    OUT/part-NNNNN.parquet, .json, .jsonl   the records; or the folders of the format
    OUT/__job/pairs.json                    the table and the options; another launch must agree
    OUT/__job/summary.json                  how many, and what became of all rows and pairs

What names images by path is made by the driver: grouping by prompt needs all rows, and a record
costs microseconds. What holds images is written by tasks (:mod:`~tokenfocus_ray.distributed.
outcomes.pair_images`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.distributed.layout import JOB
from tokenfocus_ray.distributed.lease import Lease
from tokenfocus_ray.distributed.outcomes.pair_files import TASK_PAIRS, RecordFiles, TableFiles
from tokenfocus_ray.distributed.outcomes.pair_images import DONE, PAIRS, WriteImages, write_images
from tokenfocus_ray.distributed.outcomes.pair_options import LIMIT, PairsSummary, check_options
from tokenfocus_ray.distributed.output import OutputFolder, OutputKind
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.exports.formats import label_studio
from tokenfocus_ray.exports.formats.base import Format
from tokenfocus_ray.exports.pairing import REASONS, Rules
from tokenfocus_ray.exports.pairs import PairTable, Prepared
from tokenfocus_ray.exports.scored_rows import ScoredRows
from tokenfocus_ray.exports.unpaired import disputed, rewards
from tokenfocus_ray.progress import Pace, Watch
from tokenfocus_ray.say import Say, in_lines
from tokenfocus_ray.scoring.originals import Originals

KIND = OutputKind("pairs", "no export of pairs", f"{JOB}/pairs.json")
SUMMARY, PLAN = f"{JOB}/summary.json", f"{JOB}/plan.json"


def export_pairs(
    scores: str,
    out: str,
    *,
    format: str,
    min_margin: float = 0.0,
    min_confidence: float | None = None,
    majority: bool = False,
    per_prompt: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    mapping: Mapping[str, str] | None = None,
    manifests: Sequence[str] | None = None,
    images: str | None = None,
    say: Say = print,
    progress: Watch | None = None,
) -> PairsSummary:
    """Writes preference pairs, or other data that trainers and people take, of a score table.

    Args:
        scores: Output folder of a scoring job, or a Parquet file of it; local or in a store.
        out: Folder for the result, local or in a store.
        format: One of :data:`~tokenfocus_ray.exports.formats.FORMATS`.
        min_margin: Least difference of the scores of a pair.
        min_confidence: Least probability that the order is right, from 0.5 on; None: any.
        majority: Whether more than half of the backbones must have the order; of members, where
            there is one backbone only.
        per_prompt: Most pairs of a prompt, the surest first; None: all. Of rankings, most images.
        limit: Most tasks of ``label-studio``; None: :data:`LIMIT`.
        seed: Decides which image of a pair stands first, where a format shows both alike.
        mapping: Role -> column of the score table, before any convention.
        manifests: What was scored, where the job's own record of it is not right any more.
        images: Folder that relative image paths start from; likewise.
        say: Takes lines of what happens.
        progress: Is told where the job stands; None: ``say`` takes lines of it.

    Raises:
        ConfigError: an option is out of range or of another format, asks for what the table does
            not tell, or ``out`` holds what other options or scores gave.
        ManifestError: the scores or the images' places cannot be read.
        OutputError: ``out`` cannot be written, holds something else, or another launch writes it.
        JobError: a store did not answer; launched again, it goes on.
    """
    started = time.monotonic()
    rules = Rules(min_margin, min_confidence, majority, per_prompt)
    own = check_options(format, rules, limit)
    rules = Rules(min_margin, min_confidence, majority, per_prompt, own.tag)
    folder = OutputFolder.find(KIND, out, (scores,))
    scored = ScoredTable.open(scores, mapping=mapping, manifests=manifests, images=images)
    _check_paths(scored, own)
    identity: dict[str, Any] = {
        "format": format, "min_margin": min_margin, "min_confidence": min_confidence,
        "majority": majority, "per_prompt": per_prompt, "limit": limit or LIMIT, "seed": seed,
        "columns": asdict(scored.columns),
        "images": None if scored.input is None else scored.input.model_dump(mode="json"),
    }  # fmt: skip
    identity |= {f"input.0.{key}": value for key, value in scored.rows.fingerprint.items()}
    store = folder.store
    if folder.is_begun(identity) and store.exists(SUMMARY):
        folder.sweep()
        say("already finished: nothing is written")
    else:
        watch = progress or in_lines(say)
        export = _Export(scored, own, rules, seed, limit or LIMIT, say, watch)
        with tempfile.TemporaryDirectory(prefix="tokenfocus-") as temporary:
            # whatever is refused is refused before anything is written
            export.prepare(temporary, store.exists(PLAN))
            with folder.launch(identity, say) as launch:
                if not launch.resumes:
                    launch.write_record()
                found = export.run(launch.lease)
                launch.lease.confirm()
                store.write_json(SUMMARY, found)
                for name in (PAIRS, DONE, PLAN):
                    store.delete(name)
                launch.finish()
    found = store.read_record(SUMMARY)
    summary = PairsSummary(out, format, own.unit, **found, seconds=time.monotonic() - started)
    for line in summary.lines():
        say(line)
    return summary


def _check_paths(scored: ScoredTable, own: Format) -> None:
    if scored.columns.image_uri is None and not own.holds_images and own.unit != "rewards":
        raise ManifestError(
            f"--format {own.name}: names images by path, and {scored.where} has no column of "
            f"paths, since the images stood in the manifest itself; choose diffusion-dpo, trl or "
            f"kohya, which hold the images, or name the column with --map image_uri=COLUMN"
        )


class _Export:
    """One launch of an export."""

    def __init__(
        self, scored: ScoredTable, own: Format, rules: Rules, seed: int, limit: int, say: Say,
        watch: Watch,
    ) -> None:  # fmt: skip
        self.scored, self.format, self.rules = scored, own, rules
        self.seed, self.limit, self.say, self.watch = seed, limit, say, watch
        self.originals = Originals.of(scored) if own.holds_images else None
        self.prepared: Prepared | None = None
        self.tasks: list[dict[str, Any]] = []
        self.rows = ScoredRows(scored, by_path=not own.holds_images)

    def prepare(self, folder: str, has_plan: bool) -> None:
        """Reads the scores.

        Args:
            folder: Of the local disk, empty.
            has_plan: Whether an earlier launch put the pairs down.
        """
        if self.format.unit == "tasks":
            self.tasks = disputed(self.rows, self.limit)
        elif self.format.unit != "rewards" and not has_plan:
            ranked, originals = self.format.unit == "rankings", self.originals
            needed = () if originals is None else originals.needed
            pairs = PairTable(self.scored, self.rules, needed, originals is None, ranked)
            self.prepared = pairs.prepare(folder)

    def run(self, lease: Lease) -> dict[str, Any]:
        """Writes the records; returns the summary's."""
        if self.format.unit in ("rewards", "tasks"):
            return self._singles(lease)
        if self.originals is not None:
            return self._with_images(lease, self.originals)
        files = RecordFiles(lease, self.format, self.seed)
        found = self._paired(files)
        return {**found, "written": files.written}

    def _paired(self, files: RecordFiles | TableFiles) -> dict[str, Any]:
        """Pairs or rankings to files."""
        prepared, unit, pace = self.prepared, self.format.unit, Pace()
        assert prepared is not None
        for table in prepared.read():
            files.add(table)
            pace.count({"ok": table.num_rows})
            self.watch(pace.progress("writing", None, unit=unit))
        files.close()
        for note in prepared.notes:
            self.say(note)
        counts = prepared.counts
        return {
            "counts": {
                name: counts[name] for name in (*_ALWAYS, *REASONS) if _is_told(name, counts)
            },
            "rows": self.scored.n_rows,
            "unscored": prepared.unscored,
        }

    def _with_images(self, lease: Lease, originals: Originals) -> dict[str, Any]:
        if lease.out.exists(PLAN):
            self.say("the pairs are there already; their images are read and written")
            found = lease.out.read_record(PLAN)
        else:
            files = TableFiles(lease, PAIRS, TASK_PAIRS)
            found = self._paired(files)
            lease.out.write_json(PLAN, found)
        kinds = (self.rows.schema.field(name).type for name in ("generator", "seed"))
        generator, seed = kinds
        make = WriteImages(self.format.name, originals, lease, self.seed, (generator, seed))
        done = write_images(make, found["counts"]["pairs"], self.watch)
        written = done.pop("written", 0)
        return {
            **found,
            "counts": {**found["counts"], **done, "pairs": written},
            "written": written,
        }

    def _singles(self, lease: Lease) -> dict[str, Any]:
        rows, counts = self.rows, dict[str, int]()
        if self.format.unit == "rewards":
            files: RecordFiles | TableFiles = TableFiles(lease)
            pace = Pace()
            for table in rewards(rows):
                files.add(table)
                pace.count({"ok": table.num_rows})
                self.watch(pace.progress("writing", self.scored.n_rows))
        else:
            files = RecordFiles(lease, self.format, self.seed)
            files.add_records(self.tasks)
            info = self.scored.info
            text = label_studio.config(None if info is None else info.scale)
            lease.out.write_bytes(label_studio.CONFIG, text.encode())
            counts = {"less_disputed": rows.facts.scored - len(self.tasks)}
        files.close()
        for note in rows.notes:
            self.say(note)
        return {
            "counts": counts,
            "rows": rows.facts.rows,
            "unscored": rows.facts.unscored,
            "written": files.written,
        }


#: Counts that stand in a summary also where they are 0.
_ALWAYS = ("candidates", "pairs", "prompts", "alone")


def _is_told(name: str, counts: Mapping[str, int]) -> bool:
    return name in _ALWAYS or counts.get(name, 0) > 0
