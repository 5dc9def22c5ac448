"""Imports a data set: units of the source -> rows of a manifest -> Parquet, in bounded memory.

    OUT/part-GGGGGG-NNNN.parquet   rows of group G of the source's units, in their order
    OUT/__job/import.json          the format, the source and the options; another launch must agree
    OUT/__job/groups/G.json        group G is written: its rows, elements and spoiled rows
    OUT/__job/input/               small inputs as Parquet, until all is written
    OUT/__job/done.json            all is: what the last line says

The rows of a group depend on the source alone, so one that was cut off is written again to the same
files.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tokenfocus_ray.datasets.importers.base import Index, Plan, Request
from tokenfocus_ray.datasets.importers.registry import format_of
from tokenfocus_ray.datasets.names import IMPORT_BEGUN, IMPORT_DONE, counted
from tokenfocus_ray.datasets.units import Unit
from tokenfocus_ray.distributed.blocks import made_of
from tokenfocus_ray.distributed.import_groups import (
    GROUPS,
    Counts,
    ScanUnits,
    WriteGroups,
    group_units,
    marker,
    pack_table,
    to_block,
)
from tokenfocus_ray.distributed.layout import INPUT
from tokenfocus_ray.distributed.output import Launch, OutputFolder, OutputKind
from tokenfocus_ray.distributed.session import ray_session
from tokenfocus_ray.errors import ManifestError, OutputError
from tokenfocus_ray.progress import Pace, Watch
from tokenfocus_ray.say import Say, in_lines
from tokenfocus_ray.storage import Store, public
from tokenfocus_ray.tables.text import TextOptions

IMPORT = OutputKind("data import", "no import", IMPORT_BEGUN)
#: Rises when the same source gives other rows: what was begun by other rules cannot go on.
RULES = 1
_THREADS = 16


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did.

    Attributes:
        out: The manifest's folder.
        rows: Of the manifest.
        elements: Of all rows.
        spoiled: Rows that cannot be scored, by code; each says why.
        only_prompts: Whether the rows have no images yet.
        seconds: Wall time of this launch, start of Ray included.
    """

    out: str
    rows: int
    elements: int
    spoiled: dict[str, int]
    only_prompts: bool
    seconds: float

    def line(self) -> str:
        """The final line, which a script can read."""
        codes = ", ".join(f"{code} {n}" for code, n in sorted(self.spoiled.items()))
        reasons = f" ({codes})" if codes else ""
        images = " images=none (add yours: --images FOLDER/{id}.png)" if self.only_prompts else ""
        return (
            f"rows={self.rows} elements={self.elements} spoiled={sum(self.spoiled.values())}"
            f"{reasons}{images} seconds={self.seconds:.1f} out={self.out}"
        )


def import_manifest(
    format: str,
    src: str,
    out: str,
    *,
    images: str | None = None,
    mapping: Mapping[str, str] | None = None,
    encoding: str | None = None,
    overwrite: bool = False,
    say: Say = print,
    progress: Watch | None = None,
) -> ImportSummary:
    """Makes a manifest that can be scored of another data set; launched again, it goes on.

    Args:
        format: One of :data:`~tokenfocus_ray.datasets.importers.registry.FORMATS`.
        src: File, folder or prefix, local or in a store; every node must reach it.
        out: Folder for the manifest's Parquet files, likewise.
        images: Where images lie that ``src`` names, or a user's own of a benchmark's prompts: a
            folder, or a pattern such as ``folder/{id}/{n}.png``, see
            :mod:`~tokenfocus_ray.datasets.importers.images`.
        mapping: Role -> column: those of manifests, and ``generator``.
        encoding: Of text without a byte order mark, as Python names it; None: UTF-8.
        overwrite: Whether to delete an earlier import in ``out``.
        say: Takes lines of what happens.
        progress: Is told where the job stands, at each group; None: ``say`` takes lines of it.

    Raises:
        ConfigError: there is no such format, it has no use for an option, or ``out`` holds what
            another source or other options gave.
        ManifestError: the source cannot be read or is none of that format.
        OutputError: ``out`` cannot be written, holds something else, lies in the source, or another
            launch is writing to it.
    """
    started = time.monotonic()
    chosen = format_of(format)
    if images and "://" not in images:
        images = os.path.abspath(images)
    others = [images] if images and "{" not in images else []
    folder = OutputFolder.find(IMPORT, out, [src], others=others, overwrite=overwrite)
    store = folder.store
    if overwrite:
        _check_own(store)
    request = Request(
        src, store.child(INPUT), images, dict(mapping or {}), TextOptions(encoding), say
    )
    plan = chosen.plan(request)
    groups = group_units(plan.units, plan.has_bytes, plan.together)
    if not groups:
        raise ManifestError(f"{public(src)}: it has no rows")
    identity: dict[str, Any] = {"format": format, "rules": RULES}
    identity |= {f"input.{key}": value for key, value in plan.fingerprint.items()}
    identity |= {f"input.map.{role}": name for role, name in (mapping or {}).items()}
    identity |= {"input.encoding": encoding, "input.images": images, "groups": len(groups)}
    if folder.is_begun(identity) and store.exists(IMPORT_DONE):
        folder.sweep()
        counts = Counts.of(store.read_record(IMPORT_DONE))
        say(f"already finished: {counts.rows:,} rows are there, nothing is imported")
    else:
        with folder.launch(identity, say) as launch:
            if not launch.resumes:
                launch.clear()
                launch.keep_inputs(plan.inputs)
                launch.write_record()
            counts = _finish(launch, plan, groups, say, progress or in_lines(say))
            launch.finish()
    if counts.passed:
        say(f"passed over in the shards: {counted(counts.passed)}")
    return ImportSummary(
        out,
        counts.rows,
        counts.elements,
        dict(counts.spoiled),
        plan.only_prompts,
        time.monotonic() - started,
    )


def _check_own(store: Store) -> None:
    """Refuses to delete anything but an import, whose record says what it is."""
    if store.names() and not store.exists(IMPORT.record):
        raise OutputError(
            f"output folder {store.uri!r} holds {store.names()[0]!r} and is of no import; "
            f"--overwrite deletes imports only: choose another folder"
        )


def _finish(
    launch: Launch, plan: Plan, groups: Sequence[Sequence[Unit]], say: Say, watch: Watch
) -> Counts:
    """Writes the groups that are missing; what is in all."""
    store = launch.folder.store
    counts = Counts()
    names = {name.removesuffix(".json") for name in store.names(GROUPS)}
    there = [number for number in range(len(groups)) if f"{number:06d}" in names]
    with ThreadPoolExecutor(_THREADS) as pool:
        for record in pool.map(lambda number: store.read_record(marker(number)), there):
            counts.add(Counts.of(record))
    todo = sorted({*range(len(groups))} - {*there})
    if there and todo:
        say(f"{len(there):,} of {len(groups):,} groups are there already")
    if todo:
        with ray_session():
            given = _looked_at(plan.index, groups, say) if plan.index is not None else {}
            blocks = [
                to_block(number, groups[number], [given.get(u.number) for u in groups[number]])
                for number in todo
            ]
            write = WriteGroups(launch.lease, plan.convert, plan.index, plan.has_bytes)
            total = None if plan.index is not None else _n_rows(groups)
            _run(write, blocks, counts, functools.partial(_tell, watch, total))
    launch.lease.confirm()
    store.write_json(IMPORT_DONE, counts.record())
    store.delete(INPUT)
    return counts


def _tell(watch: Watch, total: int | None, pace: Pace, there: int) -> None:
    watch(pace.progress("importing", total, there=there))


def _n_rows(groups: Sequence[Sequence[Unit]]) -> int | None:
    counts = [unit.n_rows for group in groups for unit in group]
    return None if None in counts else sum(n for n in counts if n is not None)


def _looked_at(index: Index, groups: Sequence[Sequence[Unit]], say: Say) -> dict[int, bytes]:
    """What each unit is given, after all have been looked at."""
    blocks: list[Any] = [to_block(number, group) for number, group in enumerate(groups)]
    with made_of(blocks, ScanUnits(index)) as batches:
        scanned = pa.concat_tables([table for table in batches if table.num_columns])
    given, lines = index.settle(scanned)
    for line in lines:
        say(line)
    return {number: pack_table(table) for number, table in given.items()}


def _run(write: WriteGroups, blocks: list[Any], counts: Counts, tell: Any) -> None:
    pace, there = Pace(), counts.rows
    with made_of(blocks, write) as batches:
        tell(pace, there)
        for batch in batches:
            texts: list[Any] = batch["counts"].to_pylist()
            for text in texts:
                own = Counts.of_text(text)
                counts.add(own)
                pace.count({"rows": own.rows})
            tell(pace, there)
