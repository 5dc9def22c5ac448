from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.pairs import table_of, written
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.exports.scored_rows import ScoredRows
from tokenfocus_ray.storage import Store

ROWS = {"p": [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (3.0, 3.0, 3.0)]}


def images_of(scores: str, images: str | None = None) -> tuple[list[object], list[str]]:
    rows = ScoredRows(ScoredTable.open(scores, images=images))
    return [path for table in rows.batches() for path in table["image"].to_pylist()], rows.notes


def test_where_nothing_is_recorded(tmp_path: Path) -> None:
    table = table_of(ROWS, image_uri=["a.png", "/b.png", None])
    scores = written(table, tmp_path / "scores")
    assert images_of(scores) == (
        ["a.png", "/b.png", None],
        [
            "image paths such as 'a.png' are relative, and nothing says from which folder, so they "
            "stay as they are; name it with --images"
        ],
    )
    assert images_of(scores, f"{tmp_path}/i") == ([f"{tmp_path}/i/a.png", "/b.png", None], [])


def test_manifests_in_several_folders(tmp_path: Path) -> None:
    """``images/0.png`` is another image in each of them."""
    for name, n in (("a", 2), ("b", 1)):
        (tmp_path / name).mkdir()
        rows = {"prompt": ["p"] * n, "image_uri": [f"images/{i}.png" for i in range(n)]}
        pq.write_table(pa.table(rows), tmp_path / name / "m.parquet")
    paths = ["images/0.png", "images/1.png", "images/0.png"]
    scores = written(table_of(ROWS, image_uri=paths), tmp_path / "scores")
    manifests = [str(tmp_path / name / "m.parquet") for name in "ab"]
    bases = [str(tmp_path / name) for name in "ab"]
    Store.of(scores).write_json(
        "__job/run.json", {"input": {"manifests": manifests, "bases": bases}}
    )
    assert images_of(scores)[0] == [
        f"{tmp_path}/a/images/0.png", f"{tmp_path}/a/images/1.png", f"{tmp_path}/b/images/0.png",
    ]  # fmt: skip


def test_images_in_the_manifest(tmp_path: Path) -> None:
    scores = written(table_of(ROWS), tmp_path / "scores")
    job = {"input": {"manifests": ["/m.parquet"], "bases": ["/"], "has_bytes": True}}
    Store.of(scores).write_json("__job/run.json", job)
    assert images_of(scores)[1] == [
        "the manifest held the images themselves: their paths are written as they stand there, "
        "whether or not such files exist"
    ]


def test_what_is_seen_on_the_way(tmp_path: Path) -> None:
    table = table_of({"p": [(1.0,) * 3, None], " ": [(2.0,) * 3]})
    table = table.set_column(
        table.schema.get_field_index("seed"), "seed", pa.array([7.0, float("nan"), float("nan")])
    )
    rows = ScoredRows(ScoredTable.open(written(table, tmp_path / "scores")))
    (found,) = rows.batches()
    assert found["id"].to_pylist() == ["p/0"]
    assert (rows.facts.rows, rows.facts.scored) == (3, 1)
    assert rows.facts.unscored == {"image_missing": 1, "prompt_empty": 1}
    nan = pa.array([float("nan")])
    table = table.slice(0, 1).set_column(table.schema.get_field_index("seed"), "seed", nan)
    rows = ScoredRows(ScoredTable.open(written(table, tmp_path / "one")))
    assert next(rows.batches())["seed"].to_pylist() == [None]
