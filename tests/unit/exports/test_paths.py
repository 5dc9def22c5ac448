"""Image paths that lead to the images from wherever a table lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.selecting import scored_manifest
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.exports.paths import ImagePaths


def listed(folder: Path, n: int) -> str:
    folder.mkdir()
    (folder / "m.csv").write_text("image_path,prompt\n" + "".join(f"{i}.png,p\n" for i in range(n)))
    return str(folder / "m.csv")


def led(scored: ScoredTable, rows: int = 3) -> list[Any]:
    """Paths of all rows, made absolute a few rows at a time."""
    paths, found, start = ImagePaths.of(scored), [], 0
    for table in scored.read(rows=rows):
        found += paths.lead(table, start)["image_path"].to_pylist()
        start += table.num_rows
    return found


def test_of_several_folders_each_row_has_its_own(tmp_path: Path) -> None:
    manifests = [listed(tmp_path / "a", 2), listed(tmp_path / "b", 3), listed(tmp_path / "c", 2)]
    scored = ScoredTable.open(scored_manifest(manifests, str(tmp_path / "s")))
    expected = [f"{tmp_path}/{f}/{i}.png" for f, n in (("a", 2), ("b", 3), ("c", 2))
                for i in range(n)]  # fmt: skip
    for rows in (1, 3, 100):
        assert led(scored, rows) == expected
    # once they are absolute, any folder does, and no manifest is looked for
    recorded = ImagePaths.of(scored).recorded(scored)
    assert recorded is not None
    assert (recorded.bases, recorded.numbers) == ((f"{tmp_path}/a",), None)


def test_confined_to_several_folders_a_row_needs_its_number(tmp_path: Path) -> None:
    """Since each image has to lie in the folder of its own manifest."""
    manifests = [listed(tmp_path / "a", 2), listed(tmp_path / "b", 3)]
    scores = scored_manifest(manifests, str(tmp_path / "s"), images_only=True)
    scored = ScoredTable.open(scores)
    paths = ImagePaths.of(scored)
    recorded = paths.recorded(scored)
    assert recorded is not None
    assert recorded.bases == (f"{tmp_path}/a", f"{tmp_path}/b")
    assert recorded.numbers == paths.number == "source_row"
    (table,) = scored.read(None, 2, 4)
    assert paths.lead(table, 2)["source_row"].to_pylist() == [2, 3]
    assert paths.schema(table.schema).names == [*table.schema.names, "source_row"]


def test_a_column_of_that_name_stays(tmp_path: Path) -> None:
    """Of the input: it says nothing of where its image is."""
    rows = [{"jpg": b"i", "caption": "p", "source_row": 70}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    scored = ScoredTable.open(scored_manifest([f"{tmp_path}/m.parquet"], str(tmp_path / "s")))
    (table,) = scored.read()
    found = ImagePaths.of(scored).lead(table, 0)
    assert found["source_row"].to_pylist() == [70]
    assert found["tokenfocus_source_row"].to_pylist() == [0]
