"""A page of a table, but for Ray: tasks run one after another in this process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.reports import TWO, rows, without_ray, write
from tests.support.scores import random_scores
from tokenfocus_ray.distributed.report import tasks
from tokenfocus_ray.distributed.report.job import ReportSummary, write_report
from tokenfocus_ray.errors import ConfigError, ManifestError, OutputError
from tokenfocus_ray.report.cards import MESSAGE, cut, number

N = 230


def data_of(out: Path) -> dict[str, Any]:
    """What the page was given."""
    (found,) = re.findall(r'id="data">(.*?)</script>', out.read_text(encoding="utf-8"))
    data: dict[str, Any] = json.loads(found)
    return data


def made(scores: str, out: Path, **more: Any) -> tuple[ReportSummary, dict[str, Any], list[str]]:
    lines: list[str] = []
    with without_ray():
        summary = write_report(scores, str(out), say=lines.append, **more)
    return summary, data_of(out), lines


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every count of the page is that of the rows; several tasks change nothing but the time."""
    found = rows(N, tmp_path)
    scores = write(found, tmp_path / "scores.parquet")
    summary, data, lines = made(scores, tmp_path / "one.html")
    assert (summary.rows, summary.scored, lines) == (N, 209, [])
    assert summary.images == summary.shown == len(data["cards"])
    size = (tmp_path / "one.html").stat().st_size
    assert re.sub(r"seconds=\d+\.\d", "seconds=0.0", summary.line()) == (
        f"rows={N} scored=209 unscored=21 shown={summary.shown} images={summary.images} "
        f"bytes={size} seconds=0.0 out={tmp_path}/one.html"
    )
    scored = [row for row in found if row["status"] == "ok"]
    best = sorted((row["score"] for row in scored), reverse=True)[:24]
    assert [data["cards"][i]["score"] for i in data["best"]] == pytest.approx(best, abs=1e-4)
    counts = data["scores"]
    assert sum(counts["counts"]) == 209
    failed = sum(score < 0.5 for row in scored for score in row["element_scores"])
    assert (data["states"], sum(k["failed"] for k in data["kinds"]["listed"])) == (
        [failed, 3 * 209 - failed, 0], failed,
    )  # fmt: skip
    assert [one["code"] for one in data["unscored"]] == ["image_corrupt"]
    monkeypatch.setattr(tasks, "PART_ROWS", 37)
    _, again, _ = made(scores, tmp_path / "two.html")
    assert {**again, "generated": ""} == {**data, "generated": ""}


def test_against_row_by_row_and_by_id(tmp_path: Path) -> None:
    """A table in another order is joined by its ids, to the same comparison."""
    scores = write(rows(N, tmp_path), tmp_path / "scores.parquet")
    other = rows(N, seed=1)
    alike = write(other, tmp_path / "alike.parquet")
    turned = write([*other[100:], *other[:100]], tmp_path / "turned.parquet")
    fewer = write(other[:150], tmp_path / "fewer.parquet")
    first, second, third = (
        made(scores, tmp_path / "page.html", against=one)[1]["against"]
        for one in (alike, turned, fewer)
    )
    assert first["counts"] == {
        "both": 209, "first": 0, "second": 0, "neither": 21, "onlyFirst": 0, "onlySecond": 0,
    }  # fmt: skip
    assert {**second, "where": ""} == {**first, "where": ""}
    assert third["counts"]["both"] + third["counts"]["neither"] == 150
    assert (third["counts"]["onlyFirst"], third["isSample"]) == (80, False)


def test_tables_that_part_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenfocus_ray.distributed.report.job.FIRST_IDS", 10)
    scores = write(rows(N), tmp_path / "scores.parquet")
    other = rows(N)
    other[200], other[201] = other[201], other[200]
    _, data, _ = made(scores, tmp_path / "p.html", against=write(other, tmp_path / "other.parquet"))
    found = data["against"]
    assert (found["counts"]["both"], found["difference"], found["srcc"]) == (209, 0, 1)


def test_labels(tmp_path: Path) -> None:
    """Of some rows; the figures are those of `tokenfocus evaluate`."""
    from tokenfocus_ray import evaluate_scores

    table, labels = random_scores(TWO, 90, seed=2, unscored=(3,))
    pq.write_table(table, tmp_path / "scores.parquet")
    pq.write_table(labels[:60], tmp_path / "labels.parquet")
    scores, truth = str(tmp_path / "scores.parquet"), str(tmp_path / "labels.parquet")
    _, data, _ = made(scores, tmp_path / "page.html", labels=truth)
    wanted = evaluate_scores(scores, truth).report
    found = data["agreement"]
    assert (found["labels"], found["labelled"]) == (60, 59)
    by_title = {one["title"]: one for one in found["figures"]}
    for figure in wanted.figures:
        if figure.n:
            own = by_title[figure.title]
            assert (own["value"], own["n"]) == (pytest.approx(figure.value, abs=1e-4), figure.n)
            assert own["low"] == number(figure.low, 4)
    assert sum(one["n"] for one in found["stretches"]) == 59


def test_images_that_are_not_found_are_told(tmp_path: Path) -> None:
    summary, data, lines = made(write(rows(30), tmp_path / "s.parquet"), tmp_path / "page.html")
    assert (summary.images, lines) == (0, [])
    assert {card["thumb"]["error"] for card in data["cards"]} == {"image_missing"}
    table, _ = random_scores(TWO, 9)
    pq.write_table(table, tmp_path / "t.parquet")
    summary, data, lines = made(str(tmp_path / "t.parquet"), tmp_path / "page.html")
    why = (
        f"{tmp_path}/t.parquet: nothing says which images were scored: there is neither a column "
        f"of paths nor __job/run.json beside the scores; name the manifest that was scored with "
        f"--manifest"
    )
    assert lines == [f"the page will have no images: {why}"]
    assert {card["thumb"]["message"] for card in data["cards"]} == {cut(why, MESSAGE)}


def test_dependencies(tmp_path: Path) -> None:
    found = rows(12)
    for row in found:
        if row["status"] == "ok":
            row["element_scores"] = [0.1, 0.9, 0.9]
    parents = pa.array([[[], [0], []]] * 12, pa.list_(pa.list_(pa.int64())))
    scores = write(found, tmp_path / "s.parquet", element_parents=parents)
    _, plain, _ = made(scores, tmp_path / "page.html")
    _, data, _ = made(scores, tmp_path / "page.html", dependencies=True)
    assert (plain["states"], data["states"]) == ([11, 22, 0], [22, 11, 0])
    assert data["cards"][0]["elements"][1]["score"] == 0.1


def test_what_is_wrong_is_told_before_anything_is_read(tmp_path: Path) -> None:
    scores = write(rows(12), tmp_path / "s.parquet")
    with pytest.raises(ConfigError) as table:
        made(scores, tmp_path / "s.parquet")
    assert str(table.value) == (
        f"--out '{scores}': the page is HTML and replaces what is there; name a file that ends "
        f"with .html, such as report.html"
    )
    (tmp_path / "d.html").mkdir()
    with pytest.raises(OutputError) as folder:
        made(scores, tmp_path / "d.html")
    assert str(folder.value) == (
        f"cannot write '{tmp_path}/d.html': it is a folder; name a file in it, such as "
        f"{tmp_path}/d.html/report.html"
    )
    with pytest.raises(ConfigError) as parents:
        made(scores, tmp_path / "p.html", dependencies=True)
    assert str(parents.value) == (
        f"--dependencies: {scores} has no column of element parents; name it with --map "
        f"element_parents=COLUMN, or leave the option out"
    )
    none = write([], tmp_path / "none.parquet")
    with pytest.raises(ManifestError) as empty:
        made(none, tmp_path / "p.html")
    assert str(empty.value) == f"{none}: the table has no rows, so there is nothing to show"
    assert not (tmp_path / "p.html").exists()


def test_table_of_unscored_rows(tmp_path: Path) -> None:
    found = [row for row in rows(60) if row["status"] != "ok"]
    summary, data, _ = made(write(found, tmp_path / "s.parquet"), tmp_path / "page.html")
    assert (summary.scored, summary.shown, data["scores"], data["mean"]) == (0, 0, None, None)
    assert data["unscored"][0]["n"] == len(found)
