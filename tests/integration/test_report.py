"""The page made by Ray, of tables and images in a store."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.reports import rows, write
from tests.unit.distributed.test_report import data_of, made
from tokenfocus_ray.cli.app import app
from tokenfocus_ray.config.selection import Selection
from tokenfocus_ray.distributed.outcomes.select import select_scores
from tokenfocus_ray.distributed.report import tasks
from tokenfocus_ray.say import silent
from tokenfocus_ray.storage import Store


def test_page_in_a_store(tmp_path: Path, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As made without Ray and without a store."""
    monkeypatch.setattr(tasks, "PART_ROWS", 64)
    (tmp_path / "images").mkdir()
    found = rows(150, tmp_path / "images")
    other = rows(150, tmp_path / "images", seed=1)
    local = write(found, tmp_path / "scores.parquet"), write(other, tmp_path / "other.parquet")
    bucket = Store.of(s3_bucket)
    for row in found:
        name = f"images/{Path(row['image_uri']).name}"
        bucket.write_bytes(name, Path(row["image_uri"]).read_bytes())
        row["image_uri"] = f"{s3_bucket}/{name}"
    remote = write(found, tmp_path / "remote.parquet")
    for path, name in ((remote, "scores.parquet"), (local[1], "other.parquet")):
        bucket.write_bytes(name, Path(path).read_bytes())
    arguments = ["report", f"{s3_bucket}/scores.parquet", "--against", f"{s3_bucket}/other.parquet"]
    result = CliRunner().invoke(app, [*arguments, "--out", f"{s3_bucket}/pages/report.html"])
    assert result.exit_code == 0, result.output
    assert "rows=150 scored=136 unscored=14 " in result.output
    (tmp_path / "page.html").write_bytes(bucket.read_bytes("pages/report.html"))
    page = data_of(tmp_path / "page.html")
    _, wanted, _ = made(local[0], tmp_path / "local.html", against=local[1])
    for name in ("rows", "scored", "scores", "kinds", "makers", "best", "worst", "disputed"):
        assert page[name] == wanted[name], name
    assert page["against"] | {"where": ""} == wanted["against"] | {"where": ""}
    assert [c["thumb"] for c in page["cards"]] == [c["thumb"] for c in wanted["cards"]]
    assert all("src" in card["thumb"] for card in page["cards"])


def test_the_slider_counts_what_select_keeps(tmp_path: Path) -> None:
    """Also of scores that lie on the threshold, which 32 bits do not hold."""
    found = rows(150)
    for row in found:
        row["score"] = round(row["score"], 1)
    scores = write(found, tmp_path / "scores.parquet")
    _, page, _ = made(scores, tmp_path / "page.html")
    bins = page["scores"]
    for threshold in (2.3, 2.9, 3.1, 3.7, 3.705):
        first = max(0, round(threshold * 1000) - bins["low"])
        assert bins["step"] == 1
        shown = sum(bins["counts"][first:])
        kept = select_scores(scores, None, Selection(min_score=threshold), say=silent)
        assert (threshold, kept.kept) == (threshold, shown)
