"""Files of one job get one schema without loss, or are refused by name before anything runs."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.units import read_unit
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store


def shards(folder: Path, *values: Any, **options: Any) -> list[Any]:
    """A column ``x`` of so many files, as the job reads it."""
    for i, column in enumerate(values):
        table = {"prompt": ["a"] * len(column), "image_uri": ["x"] * len(column), "x": column}
        pq.write_table(pa.table(table), folder / f"{i}.parquet", **options)
    source = plan_source([str(folder)], None, {}, Store.of(folder / "keep"))
    tables = [t for u in source.units for t in read_unit(source.schema, u, 100)]
    return [v for t in tables for v in t["x"].to_pylist()]


def refused(folder: Path, *values: Any, **options: Any) -> str:
    with pytest.raises(ManifestError) as caught:
        shards(folder, *values, **options)
    return str(caught.value).replace(f"{folder}/", "")


LARGE = 2**53 + 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([pa.array([1, 2]), pa.array([0.5])], [1.0, 2.0, 0.5]),
        ([pa.array([0.5]), pa.array([None, 7])], [0.5, None, 7.0]),
        ([pa.array([[1, 2]]), pa.array([[0.5]])], [[1.0, 2.0], [0.5]]),
        ([pa.array([1], pa.int8()), pa.array([2], pa.int64())], [1, 2]),
        ([pa.array([1], pa.uint64()), pa.array([2], pa.int64())], [1, 2]),
        ([pa.array([None]), pa.array(["a"])], [None, "a"]),
        ([pa.array(["a"]), pa.array(["b"], pa.large_string())], ["a", "b"]),
        ([pa.array(["a"]), pa.array(["b"]).dictionary_encode()], ["a", "b"]),
        ([pa.array(["a"]), pa.array(["b"], pa.string_view())], ["a", "b"]),
        (
            [pa.array([{"a": 1}]), pa.array([{"b": "c"}])],
            [{"a": 1, "b": None}, {"a": None, "b": "c"}],
        ),
        ([pa.array([[]], pa.list_(pa.null())), pa.array([["a"]])], [[], ["a"]]),
        ([pa.array([LARGE]), pa.array([LARGE + 1])], [LARGE, LARGE + 1]),
    ],
)  # fmt: skip
def test_types_are_widened_without_loss(values: list[Any], expected: Any, tmp_path: Path) -> None:
    assert shards(tmp_path, *values) == expected


@pytest.mark.parametrize("statistics", [True, False])
def test_numbers_that_a_float_cannot_hold_are_refused_before_anything_runs(
    statistics: bool, tmp_path: Path
) -> None:
    """Before, the job started, died there, and died again at each launch."""
    good = pa.array([2**53, -(2**53)])
    assert shards(tmp_path, good, pa.array([0.5]), write_statistics=statistics) == [
        2.0**53, -(2.0**53), 0.5,
    ]  # fmt: skip
    assert refused(
        tmp_path, pa.array([0.5]), pa.array([1, LARGE]), write_statistics=statistics
    ) == (
        f"1.parquet: column 'x' is of type int64, which other files have as double: Integer value "
        f"{LARGE} not in range: -9007199254740992 to 9007199254740992; cast one of them, or take "
        f"the files one after another"
    )


def test_numbers_out_of_range_are_refused_before_anything_runs(tmp_path: Path) -> None:
    message = refused(tmp_path, pa.array([2**64 - 1], pa.uint64()), pa.array([-1]))
    assert message.startswith("0.parquet: column 'x' is of type uint64, which other files have as ")
    dates = [
        pa.array([datetime.datetime(9999, 1, 1)], pa.timestamp("s")),
        pa.array([1], pa.timestamp("ns")),
    ]
    message = refused(tmp_path, *dates)
    assert message.startswith("0.parquet: column 'x' is of type timestamp[")


def test_types_that_do_not_fit_are_refused_by_file_and_column(tmp_path: Path) -> None:
    assert refused(tmp_path, pa.array([1]), pa.array([2]), pa.array(["c"])) == (
        "2.parquet: column 'x' is of type string, and of int64 in 0.parquet; cast one of them, or "
        "take the files one after another"
    )


def test_a_column_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    names = ["prompt", "image_uri", "n", "n"]
    table = pa.Table.from_arrays([pa.array(["a"])] * 4, names=names)
    pq.write_table(table, tmp_path / "m.parquet")
    with pytest.raises(ManifestError) as caught:
        plan_source([str(tmp_path / "m.parquet")], None, {}, Store.of(tmp_path / "keep"))
    assert str(caught.value) == (
        f"{tmp_path}/m.parquet: column 'n' stands there twice; rename or drop one"
    )


@pytest.mark.parametrize(
    ("columns", "missing"),
    [(["image_uri"], "'prompt'"), (["prompt"], "'image' or 'image_uri'")],
)
def test_a_file_without_a_column_that_is_needed_is_refused_by_name(
    columns: list[str], missing: str, tmp_path: Path
) -> None:
    """Before, all its rows were scored without, or left unscored."""
    table = pa.table({"prompt": ["a"], "image_uri": ["x"], "image": [b"1"], "n": [1]})
    pq.write_table(table, tmp_path / "0.parquet")
    pq.write_table(table.select([*columns, "n"]), tmp_path / "1.parquet")
    with pytest.raises(ManifestError) as caught:
        plan_source([str(tmp_path)], None, {}, Store.of(tmp_path / "keep"))
    assert str(caught.value) == (
        f"{tmp_path}/1.parquet: there is no column {missing}, which other files have; found "
        f"{[*columns, 'n']}: write it there, or leave the file out"
    )
    pq.write_table(table.select(["n"]).slice(0, 0), tmp_path / "1.parquet")  # of no rows
    plan_source([str(tmp_path)], None, {}, Store.of(tmp_path / "keep"))


def test_paths_in_one_file_and_bytes_in_another_are_refused(tmp_path: Path) -> None:
    for i, image in enumerate((b"1", "0.png")):
        pq.write_table(pa.table({"prompt": ["a"], "image": [image]}), tmp_path / f"{i}.parquet")
    with pytest.raises(ManifestError) as caught:
        plan_source([str(tmp_path)], None, {}, Store.of(tmp_path / "keep"))
    assert str(caught.value) == (
        f"{tmp_path}/1.parquet: column 'image' (image) has paths, and bytes in other files; score "
        f"them one after another"
    )
