"""Elements for prompts that bring none, on Ray Data: each different prompt is decomposed once.

Three passes, each over what an earlier launch left: the prompts of all rows are read, and numbered
in the order in which they come; files of them are decomposed; rows are read again and written with
what became of their prompts. See :mod:`~tokenfocus_ray.distributed.elements.files`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.units import Source
from tokenfocus_ray.distributed.blocks import made_of
from tokenfocus_ray.distributed.elements import files
from tokenfocus_ray.distributed.elements.methods import Method, method_of
from tokenfocus_ray.distributed.elements.summary import (
    ElementsSummary,
    image_folder,
    say_reasons,
    summarise,
)
from tokenfocus_ray.distributed.elements.tasks import ReadPrompts, WriteRows, unit_table
from tokenfocus_ray.distributed.layout import INPUT
from tokenfocus_ray.distributed.output import Launch, OutputFolder, OutputKind
from tokenfocus_ray.distributed.session import ray_session
from tokenfocus_ray.elements.index import PromptIndex
from tokenfocus_ray.elements.rows import check_form
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.progress import Pace, Watch
from tokenfocus_ray.say import Say, in_lines
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import TextOptions

if TYPE_CHECKING:
    from tokenfocus_ray.elements.endpoint import Endpoint

ELEMENTS = OutputKind("data elements", "no job that makes elements", files.RECORD)


def make_elements(
    manifest: str | Sequence[str],
    out: str,
    *,
    method: str = "rules",
    backbone: str | None = None,
    workers: int | None = None,
    endpoint: Endpoint | None = None,
    mapping: Mapping[str, str] | None = None,
    encoding: str | None = None,
    quotes: bool = True,
    replace: bool = False,
    say: Say = print,
    progress: Watch | None = None,
) -> ElementsSummary:
    """Writes a manifest again with elements for every prompt that brings none.

    Launched again with the same configuration, it goes on where it stood.

    Args:
        manifest: One or several: all that can be scored, and tables without images.
        out: Folder for the Parquet files, local or ``s3://``; every node must reach it.
        method: ``rules``; ``backbone``, a language model in actors; ``endpoint``, a server.
        backbone: Of the second: built-in name, folder or hub id.
        workers: Likewise: actors; None: one a GPU, or one.
        endpoint: Of the third: which server, and how it is asked.
        mapping: Role -> column name, see :mod:`~tokenfocus_ray.datasets.manifest`.
        encoding: Of text without a byte order mark, as Python names it; None: UTF-8.
        quotes: Whether quotes in ``.csv`` and ``.tsv`` stand around values; else they are text.
        replace: Whether rows that bring elements get new ones too.
        say: Takes lines of what happens.
        progress: Is told where the job stands; None: ``say`` takes lines of it.

    Raises:
        ManifestError: a manifest cannot be read or has no prompts, or its elements are in a form
            that new ones cannot take.
        ConfigError: there is no such method, what it needs is not installed or not given, ``out``
            was begun with another configuration or input, or a server does not let us in.
        BackboneError: the backbone is not there.
        JobError: a server does not answer; launching again goes on.
        OutputError: ``out`` is not writable, holds something else, lies in the input folder, or
            another launch is writing to it.
    """
    return run_elements(
        [manifest] if isinstance(manifest, str) else list(manifest),
        out,
        method_of(method, backbone, workers, endpoint),
        mapping=mapping or {},
        text=TextOptions(encoding, quotes),
        replace=replace,
        say=say,
        progress=progress,
    )


def run_elements(
    manifests: Sequence[str],
    out: str,
    how: Method,
    *,
    mapping: Mapping[str, str],
    text: TextOptions,
    replace: bool,
    say: Say,
    progress: Watch | None = None,
) -> ElementsSummary:
    """:func:`make_elements` in a way of the caller's.

    Args:
        manifests: See :func:`make_elements`.
        out: Likewise.
        how: The way.
        mapping: See :func:`make_elements`.
        text: How text of the input is read.
        replace: See :func:`make_elements`.
        say: Likewise.
        progress: Likewise.
    """
    started = time.monotonic()
    folder = OutputFolder.find(ELEMENTS, out, manifests)
    store = folder.store
    source = plan_source(
        manifests, None, mapping, store.child(INPUT), text, say, needs_images=False
    )
    if problem := check_form(source.schema, source.columns):
        raise ManifestError(f"{source.where}: {problem}")
    identity = {
        **how.identity(),
        "replace": replace,
        **{f"input.{name}": value for name, value in source.fingerprint.items()},
        **{f"input.column.{role}": name for role, name in asdict(source.columns).items() if name},
        **({"input.encoding": text.encoding} if text.encoding else {}),
    }
    used = ""
    if folder.is_begun(identity) and _is_finished(store, source):
        folder.sweep()
        say("already finished: all rows are there, nothing is decomposed")
    else:
        with folder.launch(identity, say) as launch:
            if not launch.resumes:
                launch.keep_inputs(source.inputs)
                launch.write_record()
            with ray_session():
                run = _Run(launch, source, how, replace, say, progress or in_lines(say))
                used = run.finish()
            launch.finish()
    summary = summarise(store, source, out, say)
    say_reasons(summary, say)
    if where := image_folder(source):
        say(
            f"paths of images stay as they are, and relative ones start from the input's folder: "
            f"score with --images {where}"
        )
    return _timed(summary, time.monotonic() - started, used)


def _timed(summary: ElementsSummary, seconds: float, used: str) -> ElementsSummary:
    return replace(summary, seconds=seconds, used=used)


class _Run:
    """The driver of one launch.

    Args:
        launch: Of the output folder.
        source: What to read.
        how: What decomposes.
        replace: Whether rows with elements get new ones too.
        say: Takes lines.
        watch: Is told where it stands.
    """

    def __init__(
        self,
        launch: Launch,
        source: Source,
        how: Method,
        replace: bool,
        say: Say,
        watch: Watch,
    ) -> None:
        self._launch, self._source, self._how = launch, source, how
        self._replace, self._say, self._watch = replace, say, watch
        self._store = launch.folder.store

    def finish(self) -> str:
        """Does what is left; returns what was used, in words."""
        light = replace(self._source, units=(), inputs={})
        if not self._store.exists(files.COUNTED):
            self._read(light)
        record = self._store.read_record(files.COUNTED)
        prompts, chunk = int(record["prompts"]), int(record["chunk"])
        used = self._decompose(prompts, chunk)
        self._write(light, chunk)
        return used

    def _read(self, light: Source) -> None:
        """Numbers all different prompts."""
        store, lease, pace = self._store, self._launch.lease, Pace()
        blocks = [unit_table(unit) for unit in self._source.units]
        with PromptIndex() as index:
            with made_of(blocks, ReadPrompts(light, self._replace)) as found:
                for prompts in found:
                    index.add(prompts)
                    pace.count({"prompts": prompts.num_rows})
                    self._watch(pace.progress("reading prompts", None, unit="prompts"))
            total = index.number()
            for unit, numbers in index.units():
                lease.confirm()
                files.write_column(store, files.numbers_name(unit), numbers)
            chunk = self._how.chunk_of(total)
            for number, texts in enumerate(index.prompts(chunk)):
                lease.confirm()
                column = pa.array(texts, pa.large_string())
                files.write_column(store, files.prompts_name(number), column)
        store.write_json(files.COUNTED, {"prompts": total, "chunk": chunk})
        self._say(f"{total:,} different prompts to decompose")

    def _decompose(self, prompts: int, chunk: int) -> str:
        """Decomposes what no launch has decomposed."""
        made = files.there(self._store, files.MADE)
        todo = [c for c in range(math.ceil(prompts / chunk)) if c not in made]
        if not todo:
            return ""
        done = prompts - sum(min(chunk, prompts - c * chunk) for c in todo)
        if done:
            self._say(f"{done:,} of {prompts:,} prompts are decomposed already")
        pace, pool = Pace(), self._how.pool(self._launch.lease)
        blocks = [pa.table({"chunk": [c]}) for c in todo]
        with made_of(blocks, pool.stage, **pool.options) as results:
            self._tell(pace, prompts, done, "")
            for batch in results:
                pool.account(batch)
                pace.count({"prompts": sum(_whole(batch["prompts"]))})
                self._tell(pace, prompts, done, pool.used())
        return pool.used()

    def _tell(self, pace: Pace, prompts: int, done: int, used: str) -> None:
        self._watch(pace.progress("decomposing", prompts, unit="prompts", part=used, there=done))

    def _write(self, light: Source, chunk: int) -> None:
        """Writes the rows of units that no launch has written."""
        done = files.there(self._store, files.DONE)
        blocks = [unit_table(u) for u in self._source.units if u.number not in done]
        if not blocks:
            return
        write, pace = WriteRows(self._launch.lease, light, self._replace, chunk), Pace()
        with made_of(blocks, write) as batches:
            for batch in batches:
                pace.count({"rows": sum(_whole(batch["rows"]))})
                self._watch(pace.progress("writing", self._source.n_rows))


def _whole(column: Any) -> list[int]:
    values: list[int] = column.to_pylist()
    return values


def _is_finished(store: Store, source: Source) -> bool:
    return len(files.there(store, files.DONE)) == len(source.units)
