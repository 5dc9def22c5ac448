"""A labelled manifest, planned as one to score is, and read without its images."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa

from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.datasets.names import counted
from tokenfocus_ray.datasets.role_values import valid_values
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.tars import PASSED_OVER
from tokenfocus_ray.datasets.units import UNIT_ROWS, Source, Unit, read_unit
from tokenfocus_ray.errors import ManifestError, shown
from tokenfocus_ray.say import Say, silent
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import TextOptions, readable
from tokenfocus_ray.training.samples import RATINGS, SAMPLES

_THREADS = 8
#: Rows of a tar shard that are held with their images, which are let go at once.
_SHARD_ROWS = 16
#: What a ``KEY.json`` may say of its sample for training.
_OF_KEY_JSON = (*RATINGS, "prompt_id")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A labelled manifest, without its images.

    Attributes:
        source: Its files, as for scoring.
        table: Every column but image bytes.
        starts: First row of each unit of the source, and behind them the number of all rows.
    """

    source: Source
    table: pa.Table
    starts: tuple[int, ...]

    @property
    def where(self) -> str:
        """As the user gave it, for messages."""
        return self.source.where

    @property
    def columns(self) -> Columns:
        """Which column is what."""
        return self.source.columns

    @property
    def base(self) -> str:
        """Folder that relative image paths start from."""
        return self.source.units[0].base

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
        if _of_tars(self.source):  # whose images have no reference
            digest.update(self.source.fingerprint["content"].encode())
        return digest.hexdigest()[:16]


def read_manifest(
    uri: str, config: TrainConfig, keep: Store | None = None, say: Say = silent
) -> Manifest:
    """Reads a labelled manifest, all columns but image bytes.

    Args:
        uri: See :mod:`~tokenfocus_ray.datasets.sources`.
        config: Whose options say how it is read: ``images``, ``map``, ``encoding``, ``quotes``.
        keep: Where what is no Parquet will lie as such, if images are to be read from it.
        say: Takes a line about what is passed over.

    Raises:
        ManifestError: it cannot be read, or lacks columns.
        ConfigError: there is no such encoding.
    """
    text = TextOptions(config.encoding, config.quotes)
    keep = keep or Store.of("unwritten")
    source = plan_source([uri], config.images, config.map, keep, text, say)
    with ThreadPoolExecutor(_THREADS) as pool:
        tables = list(pool.map(lambda unit: _read(source, unit), source.units))
    passed: Counter[str] = Counter()
    for table in tables:
        passed.update(json.loads((table.schema.metadata or {}).get(PASSED_OVER, b"{}")))
    if passed:
        say(f"passed over in the tar shards: {counted(passed)}")
    whole = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    if not whole.num_rows:
        raise ManifestError(f"manifest {source.where!r} has no rows")
    if _of_tars(source):
        whole = _with_labels(whole)
    starts = tuple(accumulate((table.num_rows for table in tables), initial=0))
    return Manifest(source, valid_values(whole, source.columns, config.encoding), starts)


def _of_tars(source: Source) -> bool:
    return not source.units[0].groups


def _read(source: Source, unit: Unit) -> pa.Table:
    """The unit without its images, with what was passed over in a shard."""
    if unit.groups:
        light = pa.schema([f for f in source.schema if f.name != source.columns.image])
        data = source.inputs.get(unit.uri.rpartition("/")[2])
        return pa.concat_tables(
            [light.empty_table(), *read_unit(light, unit, UNIT_ROWS, source.encoding, data)]
        )
    images = [f.name for f in source.schema if f.type == pa.large_binary()]
    tables, passed = [source.schema.empty_table().drop_columns(images)], Counter[str]()
    for table in read_unit(source.schema, unit, _SHARD_ROWS, source.encoding):
        passed.update(json.loads((table.schema.metadata or {})[PASSED_OVER]))
        tables.append(table.drop_columns(images).replace_schema_metadata(None))
    return pa.concat_tables(tables).replace_schema_metadata({PASSED_OVER: json.dumps(passed)})


def _with_labels(table: pa.Table) -> pa.Table:
    """The rows of tar shards with what each ``KEY.json`` says for training, as JSON text."""
    known = list(_objects(table["json"].to_pylist()))
    for name in _OF_KEY_JSON:
        values = [_as_json(row.get(name)) for row in known]
        if name not in table.column_names and any(value is not None for value in values):
            table = table.append_column(name, pa.array(values, pa.string()))
    return table


def _objects(texts: list[str | None]) -> Iterator[dict[str, Any]]:
    """What the texts say; nothing where one is no object, which its row says already."""
    for text in texts:
        try:
            value = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            value = {}
        yield value if isinstance(value, dict) else {}


def _as_json(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return readable(value) if isinstance(value, str) else json.dumps(value)
    except RecursionError:  # the limit is a little lower than for reading
        return readable(shown(value))
