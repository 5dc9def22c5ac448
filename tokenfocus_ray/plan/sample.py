"""Some rows of a manifest that stand for all: drawn by a seed, spread over its files.

Bounded whatever the manifest: few units are looked into, and image bytes are kept up to a limit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tokenfocus_ray.datasets.role_values import valid_values
from tokenfocus_ray.datasets.units import Source, Unit, read_unit
from tokenfocus_ray.errors import RowError
from tokenfocus_ray.scoring.fetch import original
from tokenfocus_ray.scoring.image import size_of
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE

#: Units that are looked into: of those with image bytes each costs a row group or more.
MOST_UNITS, MOST_UNITS_WITH_BYTES = 24, 8
#: Rows of a table while positions are picked out.
_ROWS = 8192
#: Images fetched at a time; and bytes of them that are kept for the measurements.
_FETCHES, KEPT_BYTES = 16, 256 * 2**20
#: Columns of the images' sizes, as img2dataset and many others name them; and rows whose images
#: they are compared with.
SIZES, COMPARED = ("width", "height"), 64
#: Bytes of a tar's blocks: one is a file's header, and whole ones hold its content.
_TAR_BLOCK = 512


@dataclass(slots=True)
class SampledRow:
    """A row that was drawn.

    Attributes:
        weight: Rows of the manifest that it stands for.
        base: Folder that a relative path of its image starts from.
        values: Its columns of a role; those of image bytes until the image was looked at.
        size: Width and height of the image in pixels; None where ``error`` says why.
        data: The encoded image, as far as bytes are kept.
        error: Why it cannot be scored, as far as that can be seen.
    """

    weight: float
    base: str
    values: dict[str, Any]
    size: tuple[int, int] | None = None
    data: bytes | None = None
    error: RowError | None = None


@dataclass(slots=True)
class Sample:
    """The rows, and how they were drawn.

    Attributes:
        rows: In random order.
        n_rows: Rows of the manifest, or an estimate.
        is_estimate: Whether it is one: tar shards tell only by being read.
        n_units: Units of the manifest: runs of its rows.
        n_read: Units that were looked into.
        n_opened: Rows whose image was opened; the others' sizes are columns of the manifest.
        notes: What was noticed, a line each.
    """

    rows: list[SampledRow]
    n_rows: float
    is_estimate: bool
    n_units: int
    n_read: int
    n_opened: int = 0
    notes: list[str] = field(default_factory=list)


def draw(source: Source, size: int, seed: int = 0) -> Sample:
    """Draws rows and looks at their images' sizes.

    The units are cut into runs of equal length, of each run one unit is drawn, and rows of it in
    proportion to the run's; of units with image bytes the first rows, since to reach others all
    before them would have to be read.

    Args:
        source: Of the manifests.
        size: Rows to draw, or all there are.
        seed: Equal seeds draw equal rows.

    Raises:
        ManifestError: a file cannot be read.
    """
    rng = np.random.default_rng(seed)
    most = MOST_UNITS_WITH_BYTES if source.has_bytes else MOST_UNITS
    most = min(len(source.units), most, size)
    edges = np.linspace(0, len(source.units), most + 1).round().astype(int).tolist()
    runs = [source.units[a:b] for a, b in itertools.pairwise(edges)]
    chosen = [run[int(rng.integers(len(run)))] for run in runs]
    known = source.n_rows is not None
    shares = [float(sum(u.n_rows or 0 for u in run)) if known else 1.0 for run in runs]
    found = Sample([], 0.0, False, len(source.units), len(chosen))
    looking = _Looking(source)
    for run, unit, share in zip(runs, chosen, shares, strict=True):
        wanted = max(1, math.ceil(size * share / sum(shares)))
        table, is_whole = _rows_of(source, unit, wanted, rng)
        stands_for = share if known else _tar_rows(run, unit, table, is_whole)
        found.n_rows += stands_for
        found.is_estimate |= not known and not (is_whole and len(run) == 1)
        table = valid_values(table, source.columns, source.encoding)
        weight = stands_for / max(1, table.num_rows)
        rows = [SampledRow(weight, unit.base, row) for row in table.to_pylist()]
        if source.has_bytes:  # now, so that no more bytes are held than are to be kept
            looking(rows)
        found.rows += rows
    order = rng.permutation(len(found.rows)).tolist()
    found.rows = [found.rows[i] for i in order]
    if not source.has_bytes:
        _look_or_ask_columns(found, looking)
    found.n_opened = looking.opened
    return found


def _look_or_ask_columns(found: Sample, looking: _Looking) -> None:
    """Opens the images; of a manifest that names sizes only some, if these agree."""
    rows = found.rows
    looking(rows[:COMPARED])
    first, rest = rows[:COMPARED], rows[COMPARED:]
    named = [row for row in rest if row.values[ERROR_CODE] is None and _named_size(row)]
    if not named:
        looking(rest)
        return
    compared = [(row.size, _named_size(row)) for row in first if row.size]
    wrong = sum(named is not None and sorted(named) != sorted(own) for own, named in compared)
    if wrong or not compared:
        found.notes.append(
            f"columns {' and '.join(SIZES)} differ from the images in {wrong} of {len(compared)} "
            f"rows that were compared, so sizes are read from the images"
        )
        looking(rest)
        return
    ids = {id(row) for row in named}
    for row in named:
        row.size = _named_size(row)
    looking([row for row in rest if id(row) not in ids])


def _named_size(row: SampledRow) -> tuple[int, int] | None:
    width, height = (row.values.get(name) for name in SIZES)
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return width, height
    return None


class _Looking:
    """Opens images, and keeps their bytes up to the limit.

    Args:
        source: Of the rows.
    """

    def __init__(self, source: Source) -> None:
        self._source, self._held, self.opened = source, 0, 0

    def __call__(self, rows: Sequence[SampledRow]) -> None:
        with ThreadPoolExecutor(_FETCHES) as pool:
            for start in range(0, len(rows), _FETCHES):  # each may be large
                some = rows[start : start + _FETCHES]
                list(pool.map(self._look, some))
                for row in some:
                    self._held += len(row.data or b"")
                    row.data = row.data if self._held <= KEPT_BYTES else None
        self.opened += len(rows)

    def _look(self, row: SampledRow) -> None:
        source, values = self._source, row.values
        try:
            if values[ERROR_CODE] is not None:
                raise RowError(values[ERROR_CODE], values[ERROR_MESSAGE])
            c = source.columns
            uri, value = (values[name] if name else None for name in (c.image_uri, c.image))
            column = c.image_uri or c.image
            data, where = original(value, uri, row.base, column=column, confined=source.confined)
            row.size, row.data = size_of(data, where=where), data
        except RowError as error:
            row.error = error
        if source.columns.image:
            values.pop(source.columns.image, None)


def _rows_of(
    source: Source, unit: Unit, wanted: int, rng: np.random.Generator
) -> tuple[pa.Table, bool]:
    """Rows of a unit, and whether they are all of it."""
    c = source.columns
    schema = source.schema
    if unit.groups:
        roles = (c.image, c.image_uri, c.prompt, c.sample_id, c.elements, c.prompt_type)
        names = {n for n in (*roles, *SIZES, ERROR_CODE, ERROR_MESSAGE) if n}
        schema = pa.schema([f for f in schema if f.name in names])
    data = source.inputs.get(unit.uri.rpartition("/")[2])
    if source.has_bytes or unit.n_rows is None:
        tables = read_unit(schema, unit, wanted, source.encoding, data)
        table = next(tables, schema.empty_table())
        return table, next(tables, None) is None
    wanted = min(wanted, unit.n_rows)
    at = np.sort(rng.choice(unit.n_rows, wanted, replace=False))
    found, start = [schema.empty_table()], 0
    for table in read_unit(schema, unit, _ROWS, source.encoding, data):
        here = at[(at >= start) & (at < start + table.num_rows)] - start
        found.append(table.take(pa.array(here, pa.int64())))
        start += table.num_rows
    return pa.concat_tables(found), wanted == unit.n_rows


def _tar_rows(run: Sequence[Unit], unit: Unit, table: pa.Table, whole: bool) -> float:
    """Rows of a run of tar shards, from their sizes and the samples that were read of one."""
    sizes = {u.number: _bytes_of(u) for u in run}
    if whole:
        rows = float(table.num_rows)
    else:
        files = [n for n in table.column_names if n in ("prompt", "json")]
        files += [f.name for f in table.schema if pa.types.is_large_binary(f.type)]
        each = 0
        for value in (value.as_py() for name in files for value in table[name] if value.is_valid):
            content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
            each += _TAR_BLOCK * (1 + math.ceil(len(content) / _TAR_BLOCK))
        rows = sizes[unit.number] / max(1.0, each / max(1, table.num_rows))
    return rows * sum(sizes.values()) / max(1, sizes[unit.number])


def _bytes_of(unit: Unit) -> int:
    store = Store.of(unit.uri)
    return int(store.filesystem.get_file_info(store.root).size or 0)
