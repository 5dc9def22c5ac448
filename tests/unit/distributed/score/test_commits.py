"""What is done stays done: pieces, parts, duplicates and rows to try again, without Ray."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.scores import info, metadata, older_metadata
from tokenfocus_ray.datasets.row_table import RowTable
from tokenfocus_ray.datasets.units import UNIT_ROWS, Unit
from tokenfocus_ray.distributed.layout import COMMITS
from tokenfocus_ray.distributed.score.commits import (
    Piece,
    read_scored,
    retried_positions,
    write_commit,
    write_scored,
)
from tokenfocus_ray.distributed.score.ids import SeenIds, digests
from tokenfocus_ray.distributed.score.ledger import Ledger, parts_of
from tokenfocus_ray.distributed.score.publish import publish
from tokenfocus_ray.distributed.score.reopen import reopen
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.wire import rows_to_table
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.members import KEY, EnsembleInfo, ScoreTableInfo
from tokenfocus_ray.tables.parquet import read_parquet


def unit(number: int, n_rows: int | None) -> Unit:
    return Unit(number, f"{number}.parquet", (0,), 0, n_rows, ".")


def scored(*ids: str, code: str | None = None) -> pa.Table:
    """Score rows with a passthrough column before them."""
    rows = []
    for i in ids:
        if code is None:
            rows.append(ScoreRow(i, "ok", score=2.5, member_scores=[2.5], element_scores=[0.5, 1]))
        else:
            rows.append(ScoreRow(i, "unscored", code, "why", element_scores=[math.nan] * 2))
    table = rows_to_table(rows)
    table = table.add_column(0, "prompt", pa.array([f"prompt of {i}" for i in ids]))
    return table.replace_schema_metadata({"tokenfocus.backbone": "b"})


def commit(ledger: Ledger, number: int, piece: int, last: bool, table: pa.Table) -> None:
    write_commit(ledger.store, Piece(number, piece, last), table, None)
    ledger.add(Piece(number, piece, last), digests(table["sample_id"]).tobytes())


def publish_next(ledger: Ledger) -> list[int]:
    ready = ledger.next_part()
    assert ready is not None
    part, duplicates = ready
    publish(ledger.store, part, ledger.pieces_of(part), duplicates)
    ledger.forget(part)
    return duplicates


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("counts", "parts"),
    [
        ([], []),
        ([5], [range(1)]),
        ([UNIT_ROWS, 1], [range(1), range(1, 2)]),
        ([40_000, 20_000, 11_000, UNIT_ROWS], [range(2), range(2, 3), range(3, 4)]),
        ([None, None], [range(1), range(1, 2)]),
    ],
)
def test_parts_follow_the_input(counts: list[int | None], parts: list[range]) -> None:
    assert parts_of([unit(i, n) for i, n in enumerate(counts)]) == parts


def test_seen_ids_finds_every_repetition() -> None:
    generator = np.random.default_rng(0)
    seen, known = SeenIds(), set()
    for _ in range(40):
        new = [f"id {i}" for i in generator.integers(0, 3000, size=generator.integers(0, 90))]
        expected = []
        for position, name in enumerate(new):
            if name in known:
                expected.append(position)
            known.add(name)
        assert seen.add(digests(pa.array(new, pa.string()))) == expected


def test_a_job_from_its_first_piece_to_its_output(tmp_path: Path) -> None:
    """Pieces come in any order; a part is written once it is whole, and its pieces go."""
    units = [unit(0, 3), unit(1, UNIT_ROWS)]
    ledger = Ledger(Store.of(tmp_path), units)
    assert [u.number for u in ledger.pending()] == [0, 1]
    commit(ledger, 1, 0, True, scored("d"))
    commit(ledger, 0, 1, True, scored("c"))
    assert ledger.next_part() is None
    commit(ledger, 0, 0, False, scored("a", "b"))
    assert ledger.pending() == []
    assert publish_next(ledger) == []
    assert publish_next(ledger) == []
    assert ledger.next_part() is None
    assert ledger.is_finished
    assert files(tmp_path) == ["part-00000.parquet", "part-00001.parquet"]
    table = pq.read_table(tmp_path / "part-00000.parquet")
    assert table["sample_id"].to_pylist() == ["a", "b", "c"]
    assert table["prompt"].to_pylist() == ["prompt of a", "prompt of b", "prompt of c"]
    assert table.schema.metadata[b"tokenfocus.backbone"] == b"b"


def test_another_launch_goes_on(tmp_path: Path) -> None:
    """What a killed driver left: some pieces, and a part whose pieces were not yet deleted."""
    units = [unit(0, 1), unit(1, UNIT_ROWS), unit(2, UNIT_ROWS)]
    ledger = Ledger(Store.of(tmp_path), units)
    commit(ledger, 0, 0, True, scored("a"))
    publish_next(ledger)
    write_commit(ledger.store, Piece(0, 0, True), scored("a"), None)
    write_commit(ledger.store, Piece(1, 0, False), scored("b"), None)
    write_commit(ledger.store, Piece(2, 0, True), scored("a"), None)

    again = Ledger(Store.of(tmp_path), units)
    assert [u.number for u in again.pending()] == [1]
    assert set(again.states[1].pieces) == {0}
    assert files(tmp_path / COMMITS) == [Piece(1, 0, False).name, Piece(2, 0, True).name]
    assert again.next_part() is None
    commit(again, 1, 1, True, scored("b"))
    assert publish_next(again) == [1]
    assert publish_next(again) == [0]
    assert again.is_finished


def test_a_part_of_another_job_is_told(tmp_path: Path) -> None:
    Store.of(tmp_path).write_bytes("part-00002.parquet", b"")
    with pytest.raises(OutputError) as caught:
        Ledger(Store.of(tmp_path), [unit(0, 10)])
    assert str(caught.value) == (
        f"output folder {str(tmp_path)!r} holds 'part-00002.parquet', but this job has 1 parts, "
        f"from 0 on; move that file away"
    )


def test_what_is_there_already_is_said(tmp_path: Path) -> None:
    """In rows, or in pieces of shards, whose rows only reading tells."""
    units = [unit(0, UNIT_ROWS), unit(1, 10), unit(2, 7)]
    ledger = Ledger(Store.of(tmp_path), units)
    assert ledger.done_in_words(4) == "0 of 65,553 rows are there already"
    commit(ledger, 0, 0, True, scored("a"))
    publish_next(ledger)
    commit(ledger, 1, 0, False, scored("b"))
    commit(ledger, 1, 2, True, scored("c"))
    commit(ledger, 2, 1, True, scored("d"))
    assert ledger.done_in_words(4) == "65,545 of 65,553 rows are there already"
    shards = Ledger(Store.of(tmp_path / "shards"), [unit(0, None), unit(1, None)])
    commit(shards, 0, 0, True, scored("a"))
    publish_next(shards)
    commit(shards, 1, 0, False, scored("b"))
    assert shards.done_in_words(4) == (
        "1 of 2 shards are there already, and 1 pieces of at most 4 rows of others"
    )


def test_the_second_row_of_an_id_loses_its_score(tmp_path: Path) -> None:
    ledger = Ledger(Store.of(tmp_path), [unit(0, 3)])
    commit(ledger, 0, 0, True, scored("a", "b", "a"))
    publish_next(ledger)
    rows = pq.read_table(tmp_path / "part-00000.parquet").to_pylist()
    assert [r["sample_id"] for r in rows] == ["a", "b", "a#0-2"]
    assert [r["status"] for r in rows] == ["ok", "ok", "unscored"]
    assert rows[0]["score"] == 2.5
    assert math.isnan(rows[2]["score"])
    assert rows[2]["prompt"] == "prompt of a"
    assert rows[2]["error_code"] == "duplicate_id"
    assert rows[2]["error_message"] == (
        "sample_id 'a' stands in an earlier row too, and is that row's; give each row an id of its "
        "own"
    )
    assert rows[2]["member_scores"] == []
    assert all(map(math.isnan, rows[2]["element_scores"]))
    assert len(rows[2]["element_scores"]) == 2


def test_a_failed_row_with_a_repeated_id_keeps_its_own_reason(tmp_path: Path) -> None:
    """As two shards that are cut off, whose rows have neither image nor prompt to tell them apart.

    And a row that repeats the id of a failed one hears nothing of a score that is not there.
    """
    broken = [scored("x", code="source_corrupt") for _ in range(3)]
    table: Any = pa.concat_tables([*broken, scored("x")])
    ledger = Ledger(Store.of(tmp_path), [unit(0, 4)])
    commit(ledger, 0, 0, True, table)
    publish_next(ledger)
    rows = pq.read_table(tmp_path / "part-00000.parquet").to_pylist()
    assert [r["sample_id"] for r in rows] == ["x", "x#0-1", "x#0-2", "x#0-3"]
    assert [r["error_code"] for r in rows] == ["source_corrupt"] * 3 + ["duplicate_id"]
    assert [r["error_message"] for r in rows] == ["why"] * 3 + [
        "sample_id 'x' stands in an earlier row too, and is that row's; give each row an id of its "
        "own"
    ]
    assert [r["status"] for r in rows] == ["unscored"] * 4
    assert all(math.isnan(r["score"]) for r in rows)


@pytest.mark.parametrize("merged", [False, True])
def test_a_repeated_row_keeps_input_columns_of_an_ensembles_names(
    tmp_path: Path, merged: bool
) -> None:
    """They are the ensemble's where the metadata name one, and the input's elsewhere."""
    values = pa.array([1.5, 2.5], pa.float32()) if merged else pa.array(["low", "lower"])
    table = scored("a", "a").append_column("score_low", values)
    if merged:
        by = EnsembleInfo(fingerprint="0f", coverage=0.9)
        about = info({"q": ["base"]}).model_copy(update={"ensemble": by}).to_metadata()
        table = table.replace_schema_metadata(dict(about))
    ledger = Ledger(Store.of(tmp_path), [unit(0, 2)])
    commit(ledger, 0, 0, True, table)
    assert publish_next(ledger) == [1]
    found = pq.read_table(tmp_path / "part-00000.parquet")
    assert found["error_code"].to_pylist() == [None, "duplicate_id"]
    expected = [1.5, math.nan] if merged else ["low", "lower"]
    assert repr(found["score_low"].to_pylist()) == repr(expected)


def test_a_job_that_an_earlier_release_began_ends_as_one_table(tmp_path: Path) -> None:
    """A part of before stays as it is; one of old and new pieces says who scored as new ones do."""
    backbones = {"q": ["m0", "m1"], "i": ["a,b"]}
    older, new = older_metadata(backbones), metadata(backbones)
    before = Ledger(Store.of(tmp_path), [unit(0, UNIT_ROWS), unit(1, 2)])
    commit(before, 0, 0, True, scored("a"))
    publish_next(before)
    part = scored("a").replace_schema_metadata(dict(older))
    pq.write_table(part, tmp_path / "part-00000.parquet")
    commit(before, 1, 0, False, scored("b").replace_schema_metadata(dict(older)))

    ledger = Ledger(Store.of(tmp_path), [unit(0, UNIT_ROWS), unit(1, 2)])
    commit(ledger, 1, 1, True, scored("c").replace_schema_metadata(dict(new)))
    publish_next(ledger)
    assert ledger.is_finished
    each = [pq.read_schema(path) for path in sorted(tmp_path.glob("*.parquet"))]
    assert [KEY.encode() in own.metadata for own in each] == [False, True]
    said = [ScoreTableInfo.of(own, "t").members for own in each]
    assert said == [("q/m0", "q/m1", "i/a,b")] * 2
    table = RowTable.of(str(tmp_path), Store.of(tmp_path / "none"))
    assert table.n_rows == 3
    found = read_parquet(str(tmp_path), None, ["sample_id"])
    assert found["sample_id"].to_pylist() == ["a", "b", "c"]
    assert ScoreTableInfo.of(found.schema, "t").members == said[0]


def test_rows_that_a_store_did_not_hand_out_are_scored_again(tmp_path: Path) -> None:
    """Only they; the rest of their piece is kept, and stays in its place."""
    store, units = Store.of(tmp_path), [unit(0, 5)]
    ledger = Ledger(store, units)
    lost: Any = scored("b", code="storage")
    first = pa.concat_tables([scored("a"), lost, scored("c", code="image_corrupt")])
    commit(ledger, 0, 0, False, first.replace_schema_metadata(lost.schema.metadata))
    commit(ledger, 0, 1, True, scored("d", "e"))
    publish_next(ledger)

    assert reopen(ledger) == 1
    assert files(tmp_path) == [
        f"{COMMITS}/{Piece(0, 0, False, kept=True).name}",
        f"{COMMITS}/{Piece(0, 1, True).name}",
    ]
    ledger = Ledger(store, units)
    assert [u.number for u in ledger.pending()] == [0]
    assert ledger.states[0].kept == {0}
    positions = retried_positions(store, Piece(0, 0, False))
    assert positions == [1]
    whole = write_commit(store, Piece(0, 0, False), scored("b"), positions)
    ledger.add(Piece(0, 0, False), digests(whole["sample_id"]).tobytes())
    publish_next(ledger)
    rows = pq.read_table(tmp_path / "part-00000.parquet").to_pylist()
    assert [r["sample_id"] for r in rows] == ["a", "b", "c", "d", "e"]
    assert [r["error_code"] for r in rows] == [None, None, "image_corrupt", None, None]
    assert files(tmp_path) == ["part-00000.parquet"]
    assert reopen(Ledger(store, units)) == 0


def test_rows_of_a_job_that_is_not_finished_are_scored_again(tmp_path: Path) -> None:
    """Their piece waits beside its copy, whichever of the two a kill leaves."""
    store, units = Store.of(tmp_path), [unit(0, 4)]
    ledger = Ledger(store, units)
    both = [scored("a"), scored("b", code="process_died")]
    commit(ledger, 0, 0, False, pa.concat_tables(both))
    assert reopen(ledger) == 1
    kept = Piece(0, 0, False, kept=True)
    assert files(tmp_path) == [f"{COMMITS}/{kept.name}"]
    assert Ledger(store, units).states[0].kept == {0}

    commit(ledger, 0, 0, False, pa.concat_tables(both))  # killed before the piece was deleted
    ledger = Ledger(store, units)
    assert set(ledger.states[0].pieces) == {0}
    commit(ledger, 0, 1, True, scored("c", "d"))
    publish_next(ledger)
    Ledger(store, units)
    assert files(tmp_path) == ["part-00000.parquet"]


def test_large_parts_are_written_in_groups(tmp_path: Path) -> None:
    """Duplicates are found by their place in the part, whichever row group they are in."""
    ledger = Ledger(Store.of(tmp_path), [unit(0, 11_000)])
    names = [f"id {i}" for i in range(11_000)]
    names[3], names[9_500] = names[0], names[1]
    for piece in range(20):
        table = scored(*names[piece * 550 : piece * 550 + 550])
        commit(ledger, 0, piece, piece == 19, table)
    assert publish_next(ledger) == [3, 9_500]
    file = pq.ParquetFile(tmp_path / "part-00000.parquet")
    assert file.num_row_groups == 2
    table = file.read()
    found = table["sample_id"].to_pylist()
    assert found == [*names[:3], "id 0#0-3", *names[4:9_500], "id 1#0-9500", *names[9_501:]]
    codes = table["error_code"].to_pylist()
    assert [i for i, code in enumerate(codes) if code == "duplicate_id"] == [3, 9_500]
    assert reopen(Ledger(ledger.store, ledger.units)) == 0


def test_backbones_one_after_another(tmp_path: Path) -> None:
    """Scores by the first wait beside the piece; what is done of each pass is known again."""
    store, units = Store.of(tmp_path), [unit(0, 2), unit(1, 1)]
    first = pa.table({"tokenfocus_scores_0": [1.0]})
    both = first.append_column("tokenfocus_scores_1", pa.array([2.0]))
    ledger = Ledger(store, units)
    for number, last in ((0, False), (1, True)):
        write_scored(store, Piece(0, number, last, scored=1), first)
        ledger.note_scored(Piece(0, number, last, scored=1))
    assert [u.number for u in ledger.pending(1)] == [1]
    assert [u.number for u in ledger.pending(2)] == [0, 1]
    assert [u.number for u in ledger.pending()] == [0, 1]
    write_scored(store, Piece(0, 0, False, scored=2), both)
    write_commit(store, Piece(0, 1, True), scored("b"), None, backbones=3)

    again = Ledger(store, units)
    assert [u.number for u in again.pending(1)] == [1]
    assert [u.number for u in again.pending(2)] == [1]
    assert (again.states[0].done(2), again.states[0].done()) == ({0, 1}, {1})
    assert read_scored(store, Piece(0, 0, False, scored=2)).equals(both)
    names = [Piece(0, 0, False, scored=2).name, Piece(0, 1, True).name]
    assert files(tmp_path / COMMITS) == names
    write_commit(store, Piece(0, 0, False), scored("a"), None, backbones=3)
    assert files(tmp_path / COMMITS) == [Piece(0, 0, False).name, names[1]]
    write_scored(store, Piece(0, 0, False, scored=1), first)  # killed before it was deleted
    Ledger(store, units)
    assert files(tmp_path / COMMITS) == [Piece(0, 0, False).name, names[1]]


def test_a_part_whose_pieces_were_half_deleted(tmp_path: Path) -> None:
    """A process that died there is followed by another, which does the same."""
    ledger = Ledger(Store.of(tmp_path), [unit(0, 2)])
    commit(ledger, 0, 0, False, scored("a"))
    commit(ledger, 0, 1, True, scored("b"))
    ready = ledger.next_part()
    assert ready is not None
    pieces = ledger.pieces_of(0)
    publish(ledger.store, 0, pieces, [])
    write_commit(ledger.store, Piece(0, 1, True), scored("b"), None)
    publish(ledger.store, 0, pieces, [])
    assert files(tmp_path) == ["part-00000.parquet"]
    assert pq.read_table(tmp_path / "part-00000.parquet")["sample_id"].to_pylist() == ["a", "b"]


def test_two_jobs_in_one_folder_are_told(tmp_path: Path) -> None:
    ledger = Ledger(Store.of(tmp_path), [unit(0, 1)])
    commit(ledger, 0, 0, True, scored("a"))
    ledger.commits.delete(Piece(0, 0, True).name)
    with pytest.raises(OutputError) as caught:
        publish_next(ledger)
    path = tmp_path / COMMITS / Piece(0, 0, True).name
    assert str(caught.value) == (
        f"{str(path)!r} has gone; another job must be writing to this folder: let one finish, and "
        f"run again"
    )
