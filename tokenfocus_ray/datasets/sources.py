"""What to score -> the units that tasks read: Parquet, tar shards, text manifests, image folders.

Text manifests and folders of images are small beside the images; they become one Parquet file
first, so that two kinds of unit remain.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from tokenfocus_ray.datasets.evalmuse import read_evalmuse
from tokenfocus_ray.datasets.files import File, unreadable
from tokenfocus_ray.datasets.folders import (
    absolute_folder,
    captioned,
    check_finished,
    find_input,
    from_top,
    path_column,
)
from tokenfocus_ray.datasets.footers import digest, read_footer, read_footers
from tokenfocus_ray.datasets.manifest import CONVENTIONS, Columns, find_columns
from tokenfocus_ray.datasets.names import counted, ending, is_image
from tokenfocus_ray.datasets.role_types import ambiguous_columns, check_types, roles_by_type
from tokenfocus_ray.datasets.role_values import check_first_rows
from tokenfocus_ray.datasets.tars import SAMPLE_RULES, TAR_COLUMNS, tar_schema
from tokenfocus_ray.datasets.text_tables import read_small
from tokenfocus_ray.datasets.units import UNIT_ROWS, Source, Unit
from tokenfocus_ray.datasets.watch import stamps
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.say import Say, silent
from tokenfocus_ray.storage import Store, public
from tokenfocus_ray.tables.text import PLAIN, TextOptions

TEXTS = (".csv", ".tsv", ".jsonl", ".json")
FORMS = (
    "a .parquet file or a folder of them, .csv, .tsv, .jsonl, EvalMuse's .json, .tar shards of "
    "webdataset, or a folder of images with a .txt beside each"
)
_THREADS = 16
#: Rows that are looked at where a column's type does not tell whether it can be asked.
_FIRST_ROWS = 64


def plan_source(
    manifests: Sequence[str],
    images: str | None,
    mapping: Mapping[str, str],
    keep: Store,
    text: TextOptions = PLAIN,
    say: Say = silent,
    *,
    needs_images: bool = True,
) -> Source:
    """Finds all files, checks their columns and cuts them into units.

    Args:
        manifests: Files, folders or prefixes, local or in a store.
        images: Folder that relative image paths start from; each manifest's own by default.
        mapping: Role -> column name.
        keep: Where text manifests will lie as Parquet.
        text: How text is read.
        say: Takes a line for each folder of which something is passed over.
        needs_images: Whether rows without an image are refused, as for scoring.

    Raises:
        ManifestError: a manifest is missing, empty, unreadable, of no known form, or lacks columns.
        OutputError: a store cannot be read.
    """
    if images is not None:
        images = absolute_folder(images)
    files: list[File] = []
    for number, uri in enumerate(manifests):
        files += files_of(uri, images, mapping, keep.child(f"{number}.parquet"), text, say)
    where = ", ".join(map(public, manifests))
    return source_of(files, mapping, where, text.encoding, needs_images=needs_images)


def source_of(
    files: Sequence[File],
    mapping: Mapping[str, str],
    where: str,
    encoding: str | None,
    *,
    needs_images: bool = True,
) -> Source:
    """As :func:`plan_source`, of files that are found: Parquet, or tar shards."""
    kinds = {PurePosixPath(f.uri).suffix.lower() for f in files}
    if len(kinds) > 1:
        raise ManifestError(
            f"{where}: tar shards and Parquet cannot be scored in one job, since their columns "
            f"differ; score them one after another"
        )
    if kinds == {".tar"}:
        return replace(_of_tars(files, mapping, where), encoding=encoding)
    return _of_parquet(files, mapping, where, encoding, needs_images)


def files_of(
    uri: str,
    images: str | None,
    mapping: Mapping[str, str] | None,
    keep: Store,
    text: TextOptions = PLAIN,
    say: Say = silent,
) -> list[File]:
    """The Parquet files or tar shards that a manifest is, or becomes.

    Args:
        uri: Of a file or folder, local or in a store.
        images: Folder that relative image paths start from; None: that of the manifest.
        mapping: Role -> column name; None: a table of scores, in which no column has a role.
        keep: Where a text manifest will lie as Parquet.
        text: How text is read.
        say: Takes a line about a folder of which something is passed over.

    Raises:
        ManifestError: there is nothing to read.
    """
    store = Store.of(uri)
    try:
        info = store.filesystem.get_file_info(store.root)
        if info.type == fs.FileType.NotFound:
            what = "manifest" if mapping is not None else "table of scores"
            raise ManifestError(f"{what} {public(uri)!r} does not exist")
        if info.type == fs.FileType.Directory:
            return _files_below(store, images, mapping, keep, text, say)
    except OSError as error:
        raise unreadable(store, error) from error
    base = images or posixpath.dirname(store.absolute)
    suffix = PurePosixPath(store.uri).suffix.lower()
    if suffix in (".parquet", ".tar"):
        return [File(store.absolute, base, info.size)]
    if suffix in TEXTS:
        return [_as_parquet(_read_text(store, mapping, text), base, keep)]
    raise ManifestError(
        f"manifest {public(uri)!r}: cannot tell its format from {suffix!r}; wanted {FORMS}"
    )


def _files_below(
    folder: Store,
    images: str | None,
    mapping: Mapping[str, str] | None,
    keep: Store,
    text: TextOptions,
    say: Say,
) -> list[File]:
    """What a folder holds, the first that is there: tar shards, captioned images, Parquet, text."""
    check_finished(folder)
    found = find_input(folder)
    base = images or folder.absolute
    names = found.names
    several = found.form == "tables" and ending(names[0]) != "parquet" and len(names) > 1
    if several or not names:
        which = f"; it holds several manifests, name one: {list(names[:5])}" if names else ""
        raise ManifestError(f"folder {public(folder.uri)!r}: wanted {FORMS}{which}")
    if found.passed:
        say(f"{public(folder.uri)}: {found.what()}; passed over: {counted(found.passed)}")
    if found.form == "captions":
        return [_as_parquet(captioned(folder, found, text.encoding), base, keep)]
    files: list[File] = []
    for i, name in enumerate(names):
        store = folder.child(name)
        file = File(store.absolute, base, found.sizes[name])
        moved = found.form == "metadata" and "/" in name and images is None
        if ending(name) in ("csv", "tsv", "jsonl"):
            table = _read_text(store, mapping, text)
        elif moved and path_column(read_footer(file).schema.to_arrow_schema().names, mapping):
            table = pq.read_table(store.root, filesystem=store.filesystem, partitioning=None)
        else:
            files.append(file)
            continue
        table = from_top(table, name, mapping) if moved else table
        files.append(_as_parquet(table, base, _numbered(keep, i)))
    return files


def _numbered(keep: Store, number: int) -> Store:
    """Of several files that one manifest becomes."""
    if not number:
        return keep
    uri, root = (f"{p.removesuffix('.parquet')}-{number}.parquet" for p in (keep.uri, keep.root))
    return replace(keep, uri=uri, root=root)


def _read_text(store: Store, mapping: Mapping[str, str] | None, text: TextOptions) -> pa.Table:
    is_evalmuse = store.root.lower().endswith(".json")
    if is_evalmuse:
        table = read_evalmuse(store.uri, encoding=text.encoding)
    else:
        table = read_small(store, mapping, text)
    if table.num_rows == 0:
        raise ManifestError(f"manifest {public(store.uri)!r} has no rows")
    return table


def _as_parquet(table: pa.Table, base: str, keep: Store) -> File:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=UNIT_ROWS)
    data = sink.getvalue().to_pybytes()
    return File(keep.uri, base, len(data), data)


def _of_tars(files: Sequence[File], mapping: Mapping[str, str], where: str) -> Source:
    image = mapping.get("image")
    if image is not None and not is_image(f"x.{image}"):
        image = None
    fields = {
        name
        for role, name in mapping.items()
        if role in CONVENTIONS and name not in (*TAR_COLUMNS, image)
    }
    schema = tar_schema(sorted(fields), image)
    units = tuple(Unit(i, f.uri, (), 0, None, f.base) for i, f in enumerate(files))
    fingerprint = {
        "files": len(files),
        "sample_rules": SAMPLE_RULES,
        **stamps(files),
        "content": digest((f.name, f.size) for f in files),
    }
    return Source(where, find_columns(schema.names, mapping, where), schema, units, fingerprint)


def _of_parquet(
    files: Sequence[File],
    mapping: Mapping[str, str],
    where: str,
    encoding: str | None,
    needs_images: bool,
) -> Source:
    footers, schema, fingerprint = read_footers(files)
    columns = find_columns(schema.names, mapping, where, needs_images=needs_images)
    columns = roles_by_type(columns, schema, mapping)
    for file, own in zip(files, footers, strict=True):
        name = where if file.data is not None else public(file.uri)
        check_types(own.schema.to_arrow_schema(), schema, columns, name, own.num_rows)
    _check_first(files, footers, columns, where, encoding)
    units: list[Unit] = []
    for file, own in zip(files, footers, strict=True):
        sizes = [own.row_group(i).num_rows for i in range(own.num_row_groups)]
        for groups, start, n_rows in _runs(sizes, columns.image is not None):
            units.append(Unit(len(units), file.uri, groups, start, n_rows, file.base))
    if not units:
        raise ManifestError(f"manifest {where!r} has no rows")
    inputs = {f.name: f.data for f in files if f.data is not None}
    return Source(where, columns, schema, tuple(units), fingerprint, inputs, encoding=encoding)


def _check_first(
    files: Sequence[File],
    footers: Sequence[pq.FileMetaData],
    columns: Columns,
    where: str,
    encoding: str | None,
) -> None:
    """Looks at the first rows of columns whose type does not tell whether they can be asked."""
    for file, own in zip(files, footers, strict=True):
        names = ambiguous_columns(own.schema.to_arrow_schema(), columns)
        if own.num_rows and names and file.data is None:
            store = Store.of(file.uri)
            with pq.ParquetFile(store.root, filesystem=store.filesystem) as parquet:
                batch = next(parquet.iter_batches(_FIRST_ROWS, columns=names))
            check_first_rows(pa.Table.from_batches([batch]), columns, where, encoding)
            return


def _runs(sizes: Sequence[int], has_bytes: bool) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Row groups, first row and number of rows of each unit of a file.

    Image bytes are decoded where they are read, so there a unit is one row group, and a file has
    as many tasks as row groups.

    >>> list(_runs([10, 0, 20], has_bytes=True))
    [((0,), 0, 10), ((2,), 0, 20)]
    >>> list(_runs([40_000, 20_000, 100_000], has_bytes=False))
    [((0, 1), 0, 60000), ((2,), 0, 65536), ((2,), 65536, 34464)]
    """
    waiting: list[int] = []
    for group, size in enumerate(sizes):
        full = sum(sizes[g] for g in waiting) + size > UNIT_ROWS
        if waiting and (has_bytes or full):
            yield tuple(waiting), 0, sum(sizes[g] for g in waiting)
            waiting = []
        if size > UNIT_ROWS and not has_bytes:
            for start in range(0, size, UNIT_ROWS):
                yield (group,), start, min(UNIT_ROWS, size - start)
        elif size:
            waiting.append(group)
    if waiting:
        yield tuple(waiting), 0, sum(sizes[g] for g in waiting)
