"""Folders: which files they hold, which of them are the input, and what is passed over."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import fs

from tokenfocus_ray.datasets.files import unreadable
from tokenfocus_ray.datasets.manifest import CONVENTIONS
from tokenfocus_ray.datasets.names import (
    IMPORT_BEGUN,
    IMPORT_DONE,
    ending,
    is_hidden,
    is_image,
)
from tokenfocus_ray.errors import ManifestError, RowError
from tokenfocus_ray.storage import Store, public, split_uri
from tokenfocus_ray.tables.text import (
    ERROR_CODE,
    ERROR_MESSAGE,
    decode_text,
    is_valid,
    make_valid,
)

#: Endings of tables: as Spark and Hive have it, those whose name begins with ``_`` are no data.
TABLES = ("parquet", "csv", "tsv", "jsonl")
#: Hugging Face's manifests of a folder of images: paths in them start from where they lie.
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_THREADS = 16


@dataclass(frozen=True, slots=True)
class Found:
    """The input in a folder.

    Attributes:
        form: ``tars``, ``captions``, ``tables``, ``metadata``, or empty where there is none.
        names: Shards, images or tables, sorted.
        captions: Image without its ending -> name of its text.
        sizes: Name -> bytes, of all.
        passed: What is passed over: kind -> number of files.
    """

    form: str
    names: tuple[str, ...]
    captions: dict[str, str]
    sizes: dict[str, int]
    passed: Counter[str]

    def what(self) -> str:
        """The input in words."""
        kind = {"tars": "tar shard", "captions": "image"}.get(self.form, "manifest")
        return f"{len(self.names):,} {kind}{'s' if len(self.names) > 1 else ''}"


def absolute_folder(uri: str) -> str:
    """Path or URI of a folder of images, for any process.

    Raises:
        ManifestError: it cannot be looked at, or is no folder.
    """
    store = Store.of(uri)
    try:
        kind = store.filesystem.get_file_info(store.root).type
    except OSError as error:
        raise unreadable(store, error) from error
    if store.is_local and kind != fs.FileType.Directory:
        raise ManifestError(f"image folder {uri!r} is not a directory")
    return store.absolute


def check_finished(folder: Store) -> None:
    """Refuses a folder that an import has yet to fill.

    Raises:
        ManifestError: saying how to go on.
    """
    if folder.exists(IMPORT_BEGUN) and not folder.exists(IMPORT_DONE):
        raise ManifestError(
            f"folder {public(folder.uri)!r}: its import is not finished, so a part of the rows is "
            f"there; launch the same `tokenfocus data import` again"
        )


def find_input(folder: Store) -> Found:
    """Finds the input, the first that is there: tar shards, captioned images, Parquet, text.

    Args:
        folder: Local or an S3 prefix. Links are followed, but no folder is listed twice.

    Raises:
        OSError: it cannot be listed.
    """
    sizes, passed = _listed(folder)
    names = sorted(sizes)
    captions = {_stem(n): n for n in reversed(names) if ending(n) == "txt"}  # .txt before .TXT
    captions |= {_stem(n): n for n in names if n.endswith(".txt")}
    pictures = [n for n in names if is_image(n)]
    tables = {kind: [n for n in names if ending(n) == kind and _is_data(n)] for kind in TABLES}
    if tars := [n for n in names if ending(n) == "tar" and is_valid(n)]:
        form, chosen = "tars", tars
    elif any(_stem(n) in captions for n in pictures):
        form, chosen = "captions", pictures
    elif tables["parquet"] and not all(_is_metadata(n) for n in tables["parquet"]):
        form, chosen = "tables", tables["parquet"]
    else:
        texts = [n for kind in ("csv", "tsv", "jsonl") for n in tables[kind]]
        chosen = tables["parquet"] or texts
        form = "metadata" if chosen and _are_one(chosen) else "tables" if chosen else ""
    used = set(chosen) | {captions.get(_stem(n), "") for n in chosen}
    for name in names:
        beside = form in ("tables", "metadata") and ending(name) not in (*TABLES, "tar")
        if name not in used and not beside:  # images beside a table are what it names
            passed[_kind(name)] += 1
    return Found(form, tuple(chosen), captions, sizes, passed)


def _kind(name: str) -> str:
    if not is_valid(name):
        return "of a name that is no Unicode"
    kind = ending(name)
    if kind in TABLES and not _is_data(name):
        return f"_*.{kind}"
    return f".{kind}" if kind else "without an ending"


def _is_data(name: str) -> bool:
    return is_valid(name) and not any(part.startswith("_") for part in name.split("/"))


def _is_metadata(name: str) -> bool:
    return posixpath.basename(name) in METADATA


def _are_one(names: Sequence[str]) -> bool:
    """Whether they are one manifest: Hugging Face's, of one format, in several folders."""
    return all(map(_is_metadata, names)) and len(set(map(posixpath.basename, names))) == 1


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _listed(folder: Store) -> tuple[dict[str, int], Counter[str]]:
    """Name -> size of the files, and what is passed over whatever it is."""
    passed: Counter[str] = Counter()
    if folder.is_local:
        return _walk(folder.root, passed), passed
    selector = fs.FileSelector(folder.root, recursive=True)
    sizes: dict[str, int] = {}
    for info in folder.filesystem.get_file_info(selector):
        name = info.path[len(folder.root) :].lstrip("/")
        if info.type != fs.FileType.File:
            continue
        if is_hidden(name):
            passed["hidden"] += 1
        else:
            sizes[name] = info.size
    return sizes, passed


def _walk(root: str, passed: Counter[str]) -> dict[str, int]:
    """Each folder once, by its real path: a link to one that was seen would multiply its files."""
    sizes: dict[str, int] = {}
    seen, folders, links = set[str](), [""], list[str]()
    while folders or links:
        at = folders.pop() if folders else links.pop(0)  # a folder itself before links to it
        real = os.path.realpath(os.path.join(root, at))
        if real in seen:
            passed["linked folders that are read already"] += 1
            continue
        seen.add(real)
        with os.scandir(real) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                name = posixpath.join(at, entry.name)
                if is_hidden(entry.name):
                    passed["hidden"] += 1
                elif entry.is_file():
                    sizes[name] = entry.stat().st_size
                elif entry.is_dir() and entry.is_symlink():
                    links.append(name)
                elif entry.is_dir():
                    folders.append(name)
                else:
                    passed["broken links or special files"] += 1
    return sizes


def captioned(folder: Store, found: Found, encoding: str | None) -> pa.Table:
    """Images with the text beside each; without one, the row has no prompt.

    Args:
        folder: That was looked at.
        found: What is there.
        encoding: Of texts without a byte order mark; None: UTF-8.
    """

    def row(name: str) -> dict[str, Any]:
        made: dict[str, Any] = {"image_uri": name, "prompt": None}
        text = found.captions.get(_stem(name))
        if text is not None:
            try:
                made["prompt"] = decode_text(folder.read_bytes(text), encoding, text).strip()
            except RowError as error:
                made |= {ERROR_CODE: error.code, ERROR_MESSAGE: error.message}
        return make_valid(made, ["image_uri"])

    with ThreadPoolExecutor(_THREADS) as pool:
        rows = list(pool.map(row, found.names))
    errors = (ERROR_CODE, ERROR_MESSAGE) if any(ERROR_CODE in r for r in rows) else ()
    schema = pa.schema(dict.fromkeys(("image_uri", "prompt", *errors), pa.string()))
    return pa.Table.from_pylist(rows, schema=schema)


def path_column(names: Sequence[str], mapping: Mapping[str, str] | None) -> str | None:
    """The column of a manifest that has the paths of the images, if any."""
    if mapping is None:
        return None
    tried = [mapping["image_uri"]] if "image_uri" in mapping else CONVENTIONS["image_uri"]
    return next((name for name in tried if name in names), None)


def from_top(table: pa.Table, name: str, mapping: Mapping[str, str] | None) -> pa.Table:
    """A manifest whose relative paths start from its folder -> from the folder at the top.

    Args:
        table: The manifest.
        name: Its path below the top.
        mapping: Role -> column name; None: no column has a role.
    """
    column = path_column(table.column_names, mapping)
    if column is None:
        return table
    folder = posixpath.dirname(name)
    values: list[Any] = table[column].to_pylist()
    moved = [posixpath.join(folder, v) if _is_relative(v) else v for v in values]
    at = table.column_names.index(column)
    return table.set_column(at, column, pa.array(moved, table.schema.field(column).type))


def _is_relative(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not split_uri(value)[0]
