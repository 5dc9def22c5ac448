"""A labelled manifest, read without its images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pads

from tokenfocus_ray.datasets.asked import as_asked, by_type, check_file
from tokenfocus_ray.datasets.evalmuse import read_evalmuse
from tokenfocus_ray.datasets.footers import File, footer
from tokenfocus_ray.datasets.manifest import Columns, find_columns
from tokenfocus_ray.datasets.schemas import unified
from tokenfocus_ray.datasets.text_tables import read_small
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store, public
from tokenfocus_ray.tables.text import TextOptions
from tokenfocus_ray.training.samples import (
    SAMPLES,
)

_THREADS = 16


@dataclass(frozen=True, slots=True)
class Manifest:
    """A labelled manifest, without its images.

    Attributes:
        path: As the user gave it.
        table: Every column but image bytes.
        columns: Which column is what.
        base: Folder that relative image paths start from.
    """

    path: str
    table: pa.Table
    columns: Columns
    base: str

    @property
    def fingerprint(self) -> str:
        """Hash of what is trained on: prompts, labels and references to images."""
        names = [n for n in (*SAMPLES.names, "prompt_id") if n in self.table.column_names]
        c = self.columns
        names += [n for n in (c.prompt, c.image_uri, c.elements, c.sample_id) if n]
        digest = hashlib.sha256()
        for name in dict.fromkeys(names):
            digest.update(name.encode())
            for value in self.table[name].to_pylist():
                digest.update(repr(value).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


def read_manifest(
    path: str, images: str | None, mapping: Mapping[str, str], encoding: str | None = None
) -> Manifest:
    """Reads a labelled manifest, all columns but image bytes.

    Args:
        path: Parquet (a file or a folder of them), ``.jsonl`` or EvalMuse's ``.json``; local or
            s3://.
        images: Folder that relative image paths start from; the manifest's own by default.
        mapping: Role -> column name.
        encoding: Of text; None: UTF-8.

    Raises:
        ManifestError: it cannot be read, or lacks columns.
        ConfigError: there is no such encoding.
    """
    remote, text = "://" in path, TextOptions(encoding)
    suffix = Path(path).suffix
    if not remote and not Path(path).exists():
        raise ManifestError(f"manifest {path!r} does not exist")
    if suffix == ".json" or (suffix == ".jsonl" and not remote):
        if suffix == ".json":
            table = read_evalmuse(path, encoding=text.encoding)
        else:
            table = read_small(Path(path), mapping, text)
        columns = by_type(find_columns(table.column_names, mapping, path), table.schema, mapping)
        check_file(table.schema, table.schema, columns, path, table.num_rows)
    elif suffix in (".parquet", "") or (not remote and Path(path).is_dir()):
        store = Store.of(path)
        try:
            data = pads.dataset(store.root, filesystem=store.filesystem, format="parquet")
            scheme = "" if store.is_local else "s3://"
            files = [File(f"{scheme}{name}", path, 0) for name in data.files]
            with ThreadPoolExecutor(_THREADS) as pool:
                footers = list(pool.map(footer, files))
            schema = unified(files, footers)
            columns = by_type(find_columns(schema.names, mapping, path), schema, mapping)
            for file, own in zip(files, footers, strict=True):
                kinds = own.schema.to_arrow_schema()
                check_file(kinds, schema, columns, public(file.uri), own.num_rows)
            whole = pads.dataset(data.files, schema, filesystem=store.filesystem, format="parquet")
            table = whole.to_table(columns=[n for n in schema.names if n != columns.image])
        except (OSError, pa.ArrowException) as error:
            raise ManifestError(f"{path}: cannot be read as Parquet: {error}") from error
    else:
        raise ManifestError(
            f"manifest {path!r}: cannot tell its format from {suffix!r}; wanted .parquet, .jsonl "
            f"(local) or .json (EvalMuse)"
        )
    if table.num_rows == 0:
        raise ManifestError(f"manifest {path!r} has no rows")
    is_folder = suffix != ".parquet" and suffix not in (".json", ".jsonl")
    base = images or (path if is_folder else path.rpartition("/")[0] or ".")
    if "://" not in base:
        base = os.path.abspath(base)
    return Manifest(path, as_asked(table, columns, encoding), columns, base)
