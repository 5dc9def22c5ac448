"""Which units one task writes, and what is counted in them."""

from __future__ import annotations

import json

import pyarrow as pa

from tokenfocus_ray.datasets.tars import PASSED_OVER
from tokenfocus_ray.datasets.units import Unit
from tokenfocus_ray.distributed import import_groups
from tokenfocus_ray.distributed.import_groups import Counts, group_units, marker, to_block
from tokenfocus_ray.tables.text import ERROR_CODE


def units(*counts: int | None) -> list[Unit]:
    return [Unit(i, f"{i}.parquet", (i,), 0, count, "/") for i, count in enumerate(counts)]


def test_small_units_are_written_together() -> None:
    most = import_groups.GROUP_ROWS[True]
    found = group_units(units(most // 2, most // 2, 1, most + 5, 1), has_bytes=True)
    assert [[unit.number for unit in group] for group in found] == [[0, 1], [2], [3], [4]]
    assert len(group_units(units(most, most, most), has_bytes=False)) == 1
    assert group_units([], has_bytes=True) == []


def test_a_shard_is_a_group_of_its_own() -> None:
    found = group_units(units(1, None, None, 1), has_bytes=True)
    assert [[unit.number for unit in group] for group in found] == [[0], [1], [2], [3]]
    found = group_units(units(*[None] * 5), has_bytes=False, together=2)
    assert [[unit.number for unit in group] for group in found] == [[0, 1], [2, 3], [4]]


def test_units_cross_to_their_tasks_whole() -> None:
    block = to_block(7, units(3, None), [b"x", None])
    ((number, found),) = import_groups._of_block(block)
    assert (number, found) == (7, list(zip(units(3, None), [b"x", None], strict=True)))


def test_counts() -> None:
    table = pa.table(
        {
            "elements": pa.array([["a", "b"], None, ["c"]]),
            ERROR_CODE: pa.array([None, "image_missing", "image_missing"]),
        }
    ).replace_schema_metadata({PASSED_OVER: b'{"hidden": 2}'})
    counts = Counts()
    counts.count(table)
    counts.count(pa.table({ERROR_CODE: pa.array([None], pa.string())}))
    assert counts == Counts(4, 3, counts.spoiled, counts.passed)
    assert (dict(counts.spoiled), dict(counts.passed)) == ({"image_missing": 2}, {"hidden": 2})
    again = Counts.of_text(json.dumps(counts.record()))
    again.add(counts)
    assert again.record() == {
        "rows": 8, "elements": 6, "spoiled": {"image_missing": 4}, "passed": {"hidden": 4},
    }  # fmt: skip
    assert marker(12) == "__job/groups/000012.json"
