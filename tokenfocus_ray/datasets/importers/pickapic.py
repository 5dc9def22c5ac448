"""Pick-a-Pic: Parquet with two images of a prompt in each row, and which a person preferred.

``caption, jpg_0, jpg_1`` (bytes), ``label_0, label_1`` (1 and 0, or 0.5 each: a tie),
``image_0_uid, image_1_uid, image_0_url, image_1_url, model_0, model_1, ranking_id, user_id,
created_at, has_label, ...``. An image stands in several pairs of its prompt; here it becomes one
row, with all its comparisons, so that it is scored once. Source: https://arxiv.org/abs/2305.01569.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tokenfocus_ray.datasets.footers import read_footers
from tokenfocus_ray.datasets.importers.base import ROWS, ROWS_WITH_BYTES, Format, Plan, Request
from tokenfocus_ray.datasets.importers.rows import to_manifest
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.datasets.sources import files_of, plan_source
from tokenfocus_ray.datasets.units import Unit, read_unit
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.say import silent
from tokenfocus_ray.schema import sample_id
from tokenfocus_ray.storage import public
from tokenfocus_ray.tables.columns import numbers

_ID_BYTES: Any = pa.binary(16)
_SCANNED = pa.schema(
    [
        ("unit", pa.int64()),
        ("row", pa.int64()),
        ("side", pa.int8()),
        ("key", _ID_BYTES),
        ("other", _ID_BYTES),
        ("preference", pa.float64()),
        ("is_wrong", pa.bool_()),
        ("ranking_id", pa.string()),
        ("user_id", pa.string()),
    ]
)
#: One comparison: with which image, and how much of the preference this one got.
COMPARISON = pa.struct(
    [
        ("other", pa.string()),
        ("preference", pa.float64()),
        ("ranking_id", pa.string()),
        ("user_id", pa.string()),
    ]
)
_BARE = pa.struct([f.with_type(_ID_BYTES) if f.name == "other" else f for f in COMPARISON])
#: Columns that are of the prompt, and so of its images too.
_OF_PROMPT = ("num_example_per_prompt",)
_COLUMNS = Columns("prompt", "image", "image_url", "sample_id", None, None)


def plan(request: Request) -> Plan:
    """Finds the files.

    Raises:
        ManifestError: they are none of Pick-a-Pic.
    """
    request.refuse("pickapic", images="since rows hold them", mapping="since its columns are known")
    where = public(request.src)
    files = files_of(request.src, None, {}, request.keep, request.text, silent)
    if any(not file.uri.lower().endswith(".parquet") or file.data for file in files):
        raise ManifestError(f"{where}: wanted Pick-a-Pic's Parquet files")
    names = read_footers(files)[1].names
    has_bytes = {"jpg_0", "jpg_1"} <= set(names)
    needed = ["caption", "label_0", *(() if has_bytes else ("image_0_url", "image_1_url"))]
    if missing := [name for name in needed if name not in names]:
        raise ManifestError(
            f"{where}: there is no column {missing[0]!r}; found {', '.join(names)}: wanted "
            f"Pick-a-Pic's caption, jpg_0, jpg_1 and label_0"
        )
    image = {"image": "jpg_0"} if has_bytes else {"image_uri": "image_0_url"}
    mapping = {"prompt": "caption", **image}
    source = plan_source([request.src], None, mapping, request.keep, request.text, request.say)
    index = Pairs(source.schema, has_bytes)
    return Plan(source.units, None, dict(source.fingerprint), has_bytes=has_bytes, index=index)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which row of the input is the first of each image, and what it was compared with.

    Attributes:
        schema: Of the input.
        has_bytes: Whether it has images, and not their urls only.
    """

    schema: pa.Schema
    has_bytes: bool

    def scan(self, unit: Unit) -> pa.Table:
        """Ids and preferences of a unit; images are read where an image has no uid."""
        wanted = ["caption", "label_0", "label_1", "has_label", "ranking_id", "user_id"]
        wanted += [f"image_{side}_{what}" for side in (0, 1) for what in ("uid", "url")]
        own = pa.schema([field for field in self.schema if field.name in wanted])
        tables = list(read_unit(own, unit, ROWS))
        if self.has_bytes and any(not _have_uids(table) for table in tables):
            images = ["jpg_0", "jpg_1"]
            whole = read_unit(self.schema, unit, ROWS_WITH_BYTES)
            tables = [_with_ids(table).drop_columns(images) for table in whole]
        start, found = 0, []
        for table in tables:
            found.append(_compared(_with_ids(table), unit.number, start))
            start += table.num_rows
        return pa.concat_tables([_SCANNED.empty_table(), *found])

    def settle(self, scanned: pa.Table) -> tuple[dict[int, pa.Table], list[str]]:
        """First rows of the images of each unit, with all comparisons."""
        order: Any = [(name, "ascending") for name in ("unit", "row", "side")]
        scanned = scanned.sort_by(order).combine_chunks()
        keys_N = np.frombuffer(_flat(scanned["key"]), "V16")
        _, first_I, code_N = np.unique(keys_N, return_index=True, return_inverse=True)
        preference_N = numbers(scanned["preference"])
        by_code_C = np.argsort(code_N, kind="stable")
        by_code_C = by_code_C[np.isfinite(preference_N[by_code_C])]
        counts_I = np.bincount(code_N[by_code_C], minlength=len(first_I))
        offsets = np.concatenate([[0], np.cumsum(counts_I)])
        taken = scanned.select([f.name for f in _BARE]).take(by_code_C)
        values = pa.StructArray.from_arrays(
            [taken[f.name].combine_chunks() for f in _BARE], fields=list(_BARE)
        )
        lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)
        in_order_I = np.argsort(first_I, kind="stable")
        rows = scanned.select(["unit", "row", "side"]).take(first_I[in_order_I])
        rows = rows.append_column("comparisons", lists.take(pa.array(in_order_I, pa.int64())))
        units_I = np.asarray(rows["unit"])
        given = {}
        for number in np.unique(np.asarray(scanned["unit"])).tolist():
            low, high = np.searchsorted(units_I, [number, number + 1])
            given[int(number)] = rows.slice(int(low), int(high - low))
        return given, self._lines(scanned, preference_N, len(first_I))

    def _lines(self, scanned: pa.Table, preference_N: Any, n_images: int) -> list[str]:
        pairs = scanned.num_rows // 2
        used = int(np.isfinite(preference_N).sum()) // 2
        wrong = int(np.asarray(scanned["is_wrong"]).sum()) // 2
        lines = [f"{pairs:,} pairs of {n_images:,} images, {used:,} with a preference"]
        if wrong:
            first = scanned.filter(scanned["is_wrong"])["ranking_id"][0].as_py()
            which = "" if first is None else f"; the first has ranking_id {first}"
            lines.append(
                f"pairs whose images are kept without their preference, since its labels do not "
                f"add up to 1 or both images are one: {wrong:,}{which}"
            )
        return lines

    def convert(self, unit: Unit, given: pa.Table | None) -> Iterator[pa.Table]:
        """Yields the images that stand in this unit first."""
        firsts: dict[tuple[int, int], list[dict[str, Any]]] = {}
        for row in [] if given is None else given.to_pylist():
            firsts[row["row"], row["side"]] = row["comparisons"] or []
        start = 0
        for table in read_unit(self.schema, unit, ROWS_WITH_BYTES if self.has_bytes else ROWS):
            places = [
                (row, side)
                for row in range(table.num_rows)
                for side in (0, 1)
                if (start + row, side) in firsts
            ]
            own = [firsts[start + row, side] for row, side in places]
            start += table.num_rows
            if places:
                yield _images(_with_ids(table), places, own, unit.base)


def _images(
    table: pa.Table, places: list[tuple[int, int]], own: list[list[dict[str, Any]]], base: str
) -> pa.Table:
    """Rows of a manifest: an image each."""
    made: dict[str, Any] = {}
    sides = (
        ("sample_id", "id_{}"), ("image", "jpg_{}"), ("image_url", "image_{}_url"),
        ("image_uid", "image_{}_uid"), ("generator", "model_{}"),
    )  # fmt: skip
    for name, pattern in sides:
        two = [pattern.format(side) for side in (0, 1)]
        if set(two) <= set(table.column_names):
            kind = table[two[0]].type
            both = pa.chunked_array([c for n in two for c in table[n].cast(kind).chunks], kind)
            at = [row + side * table.num_rows for row, side in places]
            made[name] = both.take(pa.array(at, pa.int64()))
    rows = pa.array([row for row, _ in places], pa.int64())
    made["prompt"] = table["caption"].take(rows)
    named = [[{**one, "other": one["other"].hex()} for one in several] for several in own]
    wins = [sum(one["preference"] for one in several) for several in named]
    counts = [len(several) for several in named]
    shares = [win / n if n else None for win, n in zip(wins, counts, strict=True)]
    made["human_preference"] = pa.array(shares, pa.float64())
    made["human_wins"] = pa.array(wins, pa.float64())
    made["human_comparisons"] = pa.array(counts, pa.int32())
    made["comparisons"] = pa.array(named, pa.list_(COMPARISON))
    for name in _OF_PROMPT:
        if name in table.column_names:
            made[name] = table[name].take(rows)
    columns = replace(
        _COLUMNS,
        image="image" if "image" in made else None,
        image_uri=None if "image" in made else "image_url",
    )
    return to_manifest(pa.table(made), columns, base)


def _have_uids(table: pa.Table) -> bool:
    names = ("image_0_uid", "image_1_uid")
    return all(n in table.column_names and not table[n].null_count for n in names)


def _with_ids(table: pa.Table) -> pa.Table:
    """The table with ``id_0`` and ``id_1``: of an image's uid, else url, else bytes, and prompt."""
    if "id_0" in table.column_names:
        return table
    prompts: list[Any] = table["caption"].to_pylist()
    for side in (0, 1):
        names = (f"image_{side}_uid", f"jpg_{side}", f"image_{side}_url")
        columns: list[Any] = [table[n] for n in names if n in table.column_names]
        ids = []
        for row, prompt in enumerate(prompts):
            given = (column[row].as_py() for column in columns)
            reference = next((one for one in given if one), "")
            ids.append(sample_id(reference, prompt or ""))
        table = table.append_column(f"id_{side}", pa.array(ids, pa.string()))
    return table


def _compared(table: pa.Table, unit: int, start: int) -> pa.Table:
    """Two rows for each pair."""
    count = table.num_rows
    first_N = numbers(table["label_0"])
    second_N = numbers(table["label_1"]) if "label_1" in table.column_names else 1 - first_N
    none_N = ~np.isfinite(first_N)
    if "has_label" in table.column_names:
        none_N |= np.array([value is False for value in table["has_label"].to_pylist()], bool)
    ids: list[list[Any]] = [table[f"id_{side}"].to_pylist() for side in (0, 1)]
    same_N = np.array([one == other for one, other in zip(*ids, strict=True)], bool)
    off_N = (first_N < 0) | (first_N > 1) | ~(np.abs(first_N + second_N - 1) <= 1e-3)
    wrong_N = ~none_N & (off_N | same_N)
    raw = [[bytes.fromhex(one) for one in several] for several in ids]
    texts = {
        name: [None if v is None else str(v) for v in table[name].to_pylist()]
        if name in table.column_names
        else [None] * count
        for name in ("ranking_id", "user_id")
    }
    parts = []
    for side, label_N in enumerate((first_N, second_N)):
        preference_N = np.where(none_N | wrong_N, np.nan, label_N)
        part = {
            "unit": [unit] * count,
            "row": list(range(start, start + count)),
            "side": [side] * count,
            "key": raw[side],
            "other": raw[1 - side],
            "preference": pa.array(preference_N),
            "is_wrong": pa.array(wrong_N),
            **texts,
        }
        parts.append(pa.table(part, schema=_SCANNED))
    return pa.concat_tables(parts)


def _flat(column: Any) -> bytes:
    return b"".join(column.to_pylist())


PICKAPIC = Format("pairs of images with a preference, Parquet", plan)
