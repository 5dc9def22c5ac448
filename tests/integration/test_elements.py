"""Elements on Ray: every row once and in order, each prompt once, gone on with when killed."""

from __future__ import annotations

import csv
import io
import random
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.unit.elements.test_rules import TABLES
from tokenfocus_ray.cli.app import app
from tokenfocus_ray.distributed.elements import methods
from tokenfocus_ray.distributed.elements.job import make_elements
from tokenfocus_ray.errors import ConfigError, ManifestError
from tokenfocus_ray.schema import Element
from tokenfocus_ray.storage import Store

PROMPTS = list(TABLES)
#: Which are none, or strange.
STRANGE = [
    "", " ", "!!!", "\u732b\u3068\u72ac", "\U0001f431", "http://x.y/z.png", "a cat\nand a dog",
    "ein Hund und eine Katze", "a red cube, " * 500,
]  # fmt: skip
ROWS = random.Random(5).choices(PROMPTS, k=300) + STRANGE


def write_csv(path: Path, rows: list[str]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["n", "words"])
        writer.writerows(enumerate(rows))
    return str(path)


def read(out: str) -> list[dict[str, Any]]:
    store = Store.of(out)
    names = [name for name in store.names() if name.endswith(".parquet")]
    parts = [pq.read_table(pa.BufferReader(store.read_bytes(name))) for name in names]
    rows: list[dict[str, Any]] = pa.concat_tables(parts).to_pylist()
    return rows


def labels(row: dict[str, Any]) -> list[str]:
    return [Element(e["text"], e["type"]).label() for e in row["elements"] or ()]


def test_csv_without_images(tmp_path: Path) -> None:
    """By the command; launched again it has nothing to do."""
    path, out = write_csv(tmp_path / "m.csv", ROWS), str(tmp_path / "out")
    command = ["data", "elements", path, "--map", "prompt=words", "--with", "rules", "--out", out]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    rows = read(out)
    assert [int(row["n"]) for row in rows] == [*range(len(ROWS))]
    assert [row["words"] for row in rows] == ROWS
    for row in rows[:300]:
        assert (labels(row), row["elements_status"]) == (TABLES[row["words"]], "made")
    strange = rows[300:]
    assert [row["elements_status"] for row in strange] == [
        "none", "none", "none", "none", "none", "none", "made", "none", "made"
    ]  # fmt: skip
    assert [row["elements_reason"] for row in strange[:3]] == [
        "the prompt is empty", "the prompt is empty", "the prompt has no letters"
    ]  # fmt: skip
    different = len({*ROWS}) - 2  # without the empty ones, which are not decomposed
    assert f"{different} different prompts to decompose\n" in result.output
    assert f"rows={len(ROWS)} prompts={different} elements=" in result.output
    assert " given=0 made=302 cut=0 none=7 failed=0 " in result.output
    again = CliRunner().invoke(app, [*command, "--quiet"])
    assert again.exit_code == 0, again.output
    assert again.output.startswith(f"rows={len(ROWS)} prompts={different} ")
    assert read(out) == rows


def test_what_is_there_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a launch that was killed, in either pass."""
    monkeypatch.setattr(methods, "chunk_size", lambda prompts, fewest, most: 10)
    folder = tmp_path / "m"
    folder.mkdir()
    for part in range(3):
        own = range(part * 100, part * 100 + 100)
        table = pa.table({"prompt": [ROWS[i] for i in own], "n": own})
        pq.write_table(table, folder / f"{part}.parquet", row_group_size=40)
    out, lines = tmp_path / "out", list[str]()
    make_elements(str(folder), str(out), say=lines.append)
    rows = read(str(out))
    made = sorted((out / "__job" / "made").iterdir())
    stamps = {path: path.stat().st_mtime_ns for path in made[2:]}
    for path in (*made[:2], out / "__job/done/00001.json", out / "part-00001-0000.parquet"):
        path.unlink()
    lines.clear()
    make_elements(str(folder), str(out), say=lines.append)
    total = len({*ROWS[:300]})
    assert f"{total - 20} of {total} prompts are decomposed already" in lines
    assert {path: path.stat().st_mtime_ns for path in made[2:]} == stamps
    assert read(str(out)) == rows
    assert [row["n"] for row in rows] == [*range(300)]
    with pytest.raises(ConfigError, match=r"begun with another configuration \(replace: False"):
        make_elements(str(folder), str(out), replace=True)


def test_parquet_on_s3_keeps_given_elements(s3_bucket: str) -> None:
    table = pa.table(
        {
            "prompt": ["a red cube", "a dog running", "three cats", "!!!"],
            "image_uri": ["a.png"] * 4,
            "elements": [["mine (object)"], None, [], None],
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    Store.of(s3_bucket).write_bytes("in/m.parquet", sink.getvalue())
    lines: list[str] = []
    summary = make_elements(f"{s3_bucket}/in", f"{s3_bucket}/out", say=lines.append)
    assert summary.statuses == {"given": 1, "made": 2, "none": 1}
    assert [row["elements"] for row in read(f"{s3_bucket}/out")] == [
        ["mine (object)"],
        ["dog (animal)", "dog running (activity)"],
        ["cats (animal)", "three cats (counting)"],
        None,
    ]
    assert lines[-2:] == [
        "1 rows without elements, or not all of them: 1: the prompt has no letters",
        f"paths of images stay as they are, and relative ones start from the input's folder: "
        f"score with --images {s3_bucket}/in",
    ]
    summary = make_elements(f"{s3_bucket}/in", f"{s3_bucket}/new", replace=True, say=lines.append)
    assert summary.statuses == {"made": 3, "none": 1}
    assert read(f"{s3_bucket}/new")[0]["elements"] == ["cube (object)", "red cube (color)"]


def test_tar_shards_keep_their_images(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, data in (("a.jpg", b"one"), ("a.txt", b"two dogs"), ("README", b""),
                           ("b.jpg", b"two"), ("b.json", b'{"caption": "a cat"}')):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    lines: list[str] = []
    summary = make_elements(str(tmp_path / "0.tar"), str(tmp_path / "out"), say=lines.append)
    assert summary.statuses == {"made": 2}
    assert "passed over in the tar shards: 1 without an ending" in lines
    found = [(row["image"], row["elements"]) for row in read(str(tmp_path / "out"))]
    assert found == [
        (b"one", '["dogs (animal)", "two dogs (counting)"]'), (b"two", '["cat (animal)"]')
    ]  # fmt: skip


def test_refusals(tmp_path: Path) -> None:
    path, out = write_csv(tmp_path / "m.csv", ["a cat"]), str(tmp_path / "out")
    with pytest.raises(ManifestError) as caught:
        make_elements(path, out)
    assert str(caught.value) == (
        f"{path}: found columns ['n', 'words']; wanted a prompt (one of ['prompt', 'caption', "
        f"'text']). Name it with --map, for example --map prompt=n"
    )
    with pytest.raises(ConfigError) as unknown:
        make_elements(path, out, method="magic", mapping={"prompt": "words"})
    assert str(unknown.value) == "--with 'magic': no such way. Known: backbone, endpoint, rules."
    assert not Path(out).exists()


def test_scoring_without_elements_says_how_to_make_some(
    tmp_path: Path, benchmark_folder: Path
) -> None:
    """Once; and the manifest that is made scores with them."""
    table = pq.read_table(benchmark_folder / "test.parquet").slice(0, 2)
    pq.write_table(table.drop_columns(["elements"]), tmp_path / "m.parquet")
    scoring = ["--backbone", "tiny-internvl", "--images", str(benchmark_folder)]
    plain = ["score", str(tmp_path / "m.parquet"), *scoring, "--out", str(tmp_path / "a")]
    result = CliRunner().invoke(app, plain)
    assert result.exit_code == 0, result.output
    assert result.output.count("no elements: prompts get a total score only; `tokenfocus") == 1
    command = ["data", "elements", str(tmp_path / "m.parquet"), "--out", str(tmp_path / "e")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(
        app, ["score", str(tmp_path / "e"), *scoring, "--out", str(tmp_path / "c")]
    )
    assert "no elements" not in result.output
    scored = read(str(tmp_path / "c"))
    assert [len(row["element_scores"]) for row in scored] == [
        len(row["elements"]) for row in scored
    ]
    assert min(len(row["elements"]) for row in scored) > 0
