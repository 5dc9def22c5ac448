"""What a selection writes, and how it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.selecting import row, table_of, write
from tokenfocus_ray.config import Selection
from tokenfocus_ray.datasets.recorded import RecordedInput
from tokenfocus_ray.distributed.outcomes import parts
from tokenfocus_ray.distributed.outcomes.select import select_scores
from tokenfocus_ray.errors import ConfigError, ManifestError, OutputError
from tokenfocus_ray.tables.members import ScoreTableInfo


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 4)
    monkeypatch.setattr(parts, "GROUP_ROWS", 2)


def recorded(folder: Path, base: str = "/data") -> str:
    """Says where the images of a score table are."""
    given = RecordedInput(manifests=(f"{base}/m.csv",), bases=(base,))
    (folder / "__job").mkdir(parents=True)
    (folder / "__job" / "run.json").write_text(json.dumps({"input": given.model_dump()}))
    return str(folder)


def make(folder: Path, n: int = 11) -> str:
    """Rows of rising scores, the fourth unscored."""
    rows = [row(i, None if i == 3 else 1 + i / 4) for i in range(n)]
    write(folder, table_of(rows), files=2)
    return recorded(folder)


def select(scores: str, out: str | None, **options: Any) -> Any:
    return select_scores(scores, out, say=lambda line: None, **options)


def test_every_row_is_kept_or_dropped_in_order(tmp_path: Path) -> None:
    lines: list[str] = []
    scores, out = make(tmp_path / "s"), tmp_path / "out"
    found = select_scores(scores, str(out), Selection(min_score=1.5), say=lines.append)
    assert lines == [
        "kept 8 of 11 rows (72.7%)", "dropped 3: 2 min_score, 1 unscored:image_missing",
    ]  # fmt: skip
    assert (found.rows, found.kept) == (11, 8)
    assert found.dropped == {"min_score": 2, "unscored:image_missing": 1}
    assert found.line().startswith("rows=11 kept=8 dropped=3 seconds=")
    assert found.line().endswith(f" out={out}")
    whole, kept, dropped = (pq.read_table(p) for p in (scores, out / "kept", out / "dropped"))
    assert kept.schema.equals(whole.schema, check_metadata=True)
    assert ScoreTableInfo.of(dropped.schema, "").members == ("q/m0", "q/m1", "r/m0")
    ids: list[Any] = kept["sample_id"].to_pylist()
    assert [int(v, 16) for v in ids] == [2, 4, 5, 6, 7, 8, 9, 10]
    assert dropped.drop_columns(["dropped_reason", "dropped_message"]).schema == whole.schema
    assert dropped.select(["sample_id", "dropped_reason", "dropped_message"]).to_pylist() == [
        {
            "sample_id": f"{i:032x}",
            "dropped_reason": reason,
            "dropped_message": message,
        }
        for i, reason, message in (
            (0, "min_score", "score 1 is below 1.5"),
            (1, "min_score", "score 1.25 is below 1.5"),
            (3, "unscored:image_missing", "no score: no image"),
        )
    ]
    sizes = [pq.read_metadata(p).num_rows for p in sorted((out / "kept").glob("*.parquet"))]
    assert sizes == [4, 4]
    record = json.loads((out / "selection.json").read_text())
    assert record["selection"] == {"min_score": 1.5}
    assert (record["rows"], record["kept"], record["dropped"]) == (11, 8, found.dropped)
    assert record["input"]["rows"] == 11
    assert record["members"] == ["q/m0", "q/m1", "r/m0"]


def test_paths_lead_to_the_images_from_anywhere(tmp_path: Path) -> None:
    given = ["a/b.png", "/x/c.png", "s3://bucket/d.png", None, " "]
    rows = [row(i, 3.0, image_uri=path) for i, path in enumerate(given)]
    write(tmp_path / "s", table_of(rows))
    select(recorded(tmp_path / "s"), str(tmp_path / "out"))
    kept = pq.read_table(tmp_path / "out" / "kept")
    assert kept["image_uri"].to_pylist() == ["/data/a/b.png", *given[1:]]
    found = RecordedInput.find(str(tmp_path / "out" / "kept"))
    assert found is not None
    assert found.manifests == ("/data/m.csv",)


def test_paths_in_a_store_are_without_steps(tmp_path: Path) -> None:
    rows = [row(i, 3.0, image_uri=p) for i, p in enumerate(["./a.png", "../b//c.png", "d.png"])]
    write(tmp_path / "s", table_of(rows))
    select(recorded(tmp_path / "s", "s3://bucket/x"), str(tmp_path / "out"))
    kept = pq.read_table(tmp_path / "out" / "kept")
    assert kept["image_uri"].to_pylist() == [
        "s3://bucket/x/a.png", "s3://bucket/b/c.png", "s3://bucket/x/d.png",
    ]  # fmt: skip


def test_paths_from_an_unknown_folder_stay_and_are_told(tmp_path: Path) -> None:
    lines: list[str] = []
    write(tmp_path / "s", table_of([row(0, 3.0)]))
    select_scores(str(tmp_path / "s"), str(tmp_path / "out"), say=lines.append)
    assert lines == [
        "image paths such as 'images/0.png' are relative, and nothing says from which folder, so "
        "they stay as they are; name it with --images",
        "kept 1 of 1 rows (100.0%)",
    ]
    lines.clear()
    options = Selection(balance="generator")
    select_scores(str(tmp_path / "s"), str(tmp_path / "c"), options, say=lines.append)
    assert [line.partition(" ")[0] for line in lines] == ["balance", "image", "kept"]
    select(str(tmp_path / "s"), str(tmp_path / "b"), images=str(tmp_path))
    kept = pq.read_table(tmp_path / "b" / "kept")
    assert kept["image_uri"].to_pylist() == [f"{tmp_path}/images/0.png"]


def test_nothing_kept_is_a_table_without_rows(tmp_path: Path) -> None:
    select(make(tmp_path / "s"), str(tmp_path / "out"), selection=Selection(min_score=5.0))
    kept = pq.read_table(tmp_path / "out" / "kept")
    assert (kept.num_rows, pq.read_table(tmp_path / "out" / "dropped").num_rows) == (0, 11)
    assert kept.schema.names[:2] == ["image_uri", "prompt"]


def test_the_same_again_is_finished_and_another_is_refused(tmp_path: Path) -> None:
    scores, out = make(tmp_path / "s"), str(tmp_path / "out")
    first = select(scores, out, selection=Selection(budget=2), npy=True)
    lines: list[str] = []
    second = select_scores(scores, out, Selection(budget=2), npy=True, say=lines.append)
    assert lines[0] == "already finished: 11 rows are there, nothing is selected"
    assert (second.kept, second.dropped, second.uids) == (2, first.dropped, 2)
    with pytest.raises(ConfigError) as caught:
        select(scores, out, selection=Selection(budget=3), npy=True)
    assert str(caught.value) == (
        f"{out} was begun with another configuration (selection.budget: 2 there, 3 now); set it "
        f"back to go on, or choose another --out"
    )


def test_a_killed_launch_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, out = make(tmp_path / "s"), tmp_path / "out"
    real, calls = parts.PartWriter.add, 0

    def dies(self: Any, rows: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        real(self, rows)

    monkeypatch.setattr(parts.PartWriter, "add", dies)
    monkeypatch.setattr("tokenfocus_ray.exports.select.BATCH_ROWS", 4)
    with pytest.raises(KeyboardInterrupt):
        select(scores, str(out), selection=Selection(min_score=1.5))
    assert (out / "__job" / "select.json").exists()
    assert not (out / "selection.json").exists()
    (out / "kept").mkdir(exist_ok=True)
    (out / "kept" / "part-00007.parquet").write_bytes(b"of the one that was killed")
    monkeypatch.undo()
    found = select(scores, str(out), selection=Selection(min_score=1.5))
    assert pq.read_table(out / "kept").num_rows == found.kept == 8


def test_what_is_refused_leaves_nothing(tmp_path: Path) -> None:
    """So that another try may write there."""
    scores, out = make(tmp_path / "s"), tmp_path / "out"
    with pytest.raises(ConfigError):
        select(scores, str(out), selection=Selection(element_types=("animal",)))
    assert [p for p in out.rglob("*") if p.is_file()] == []
    assert select(scores, str(out)).kept == 10


def test_a_dry_run_counts_the_same_and_writes_nothing(tmp_path: Path) -> None:
    scores, options = make(tmp_path / "s"), Selection(min_score=1.5, top=0.5)
    lines: list[tuple[str, ...]] = []
    for out in (None, str(tmp_path / "out")):
        own: list[str] = []
        found = select_scores(scores, out, options, say=own.append)
        lines.append(tuple(own))
        assert (found.kept, found.out) == (4, out)
        assert (tmp_path / "out").exists() == (out is not None)
    assert lines[0] == lines[1]


def test_output_inside_the_input_or_a_foreign_folder(tmp_path: Path) -> None:
    scores = make(tmp_path / "s")
    with pytest.raises(OutputError) as caught:
        select(scores, f"{scores}/kept")
    assert "lies in the input folder" in str(caught.value)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError) as caught:
        select(scores, str(tmp_path / "other"))
    assert str(caught.value) == (
        f"output folder '{tmp_path}/other' holds 'notes.txt', which no selection wrote; choose "
        f"another"
    )


def test_npy_is_what_datacomps_resharder_reads(tmp_path: Path) -> None:
    uids = [f"{i * 7919 % 11:016x}{'f' * 15}{i:x}".upper() for i in range(4)]
    rows = [row(i, 3.0 + i, uid=u) for i, u in enumerate([*uids, uids[0], "no uid"])]
    rows[5] |= {"status": "unscored", "score": float("nan")}  # what is dropped may have any id
    write(tmp_path / "s", table_of(rows, uid=pa.string()))
    lines: list[str] = []
    found = select_scores(recorded(tmp_path / "s"), str(tmp_path / "out"), npy=True,
                          say=lines.append)  # fmt: skip
    loaded = np.load(tmp_path / "out" / "subset.npy")
    expected = np.array(
        sorted((int(u[:16], 16), int(u[16:], 16)) for u in uids), dtype=np.dtype("u8,u8")
    )
    assert loaded.dtype == np.dtype("u8,u8")
    assert loaded.tolist() == expected.tolist()
    assert found.uids == 4
    assert lines[0] == ("subset.npy: 1 kept rows repeat the uid of another, and stand in it once")
    assert " uids=4 " in found.line()


@pytest.mark.parametrize("out", [None, "out"])
def test_npy_refuses_other_ids_by_value(out: str | None, tmp_path: Path) -> None:
    rows = [row(0, 3.0, sample_id="a" * 31), row(1, 3.0)]
    write(tmp_path / "s", table_of(rows))
    place = None if out is None else str(tmp_path / out)
    with pytest.raises(ManifestError) as caught:
        select(recorded(tmp_path / "s"), place, npy=True)
    assert str(caught.value) == (
        f"{tmp_path}/s: column 'sample_id' holds '{'a' * 31}', which is no uid of 32 hexadecimal "
        f"digits, as --npy needs; leave --npy out, or name the column of uids with --uid"
    )
    with pytest.raises(ManifestError) as caught:
        select(str(tmp_path / "s"), place, npy=True, uid="prompts")
    assert str(caught.value).startswith(
        f"--uid prompts: {tmp_path}/s has no column 'prompts'. Did you mean 'prompt'? Known: "
    )


def test_columns_of_the_names_that_dropped_rows_need(tmp_path: Path) -> None:
    """As of rows that an earlier selection dropped."""
    rows = [row(0, None, dropped_reason="x", dropped_message="y")]
    table = table_of(rows, dropped_reason=pa.string(), dropped_message=pa.string())
    write(tmp_path / "s", table)
    select(recorded(tmp_path / "s"), str(tmp_path / "out"))
    (found,) = pq.read_table(tmp_path / "out" / "dropped").to_pylist()
    assert (found["input_dropped_reason"], found["input_dropped_message"]) == ("x", "y")
    assert found["dropped_reason"] == "unscored:image_missing"


def test_a_selection_of_a_selection(tmp_path: Path) -> None:
    select(make(tmp_path / "s"), str(tmp_path / "a"), selection=Selection(min_score=1.5))
    found = select(f"{tmp_path}/a/kept", str(tmp_path / "b"), selection=Selection(budget=3))
    assert (found.rows, found.kept, found.dropped) == (8, 3, {"budget": 5})
