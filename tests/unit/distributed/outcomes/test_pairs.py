"""Exports that hold no images need no Ray: the driver writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.pairs import table_of, with_intervals, written
from tokenfocus_ray.distributed.outcomes import pair_files
from tokenfocus_ray.distributed.outcomes.pairs import export_pairs
from tokenfocus_ray.errors import ConfigError, ManifestError, OutputError
from tokenfocus_ray.say import silent

PROMPTS: dict[str, list[tuple[float, ...] | None]] = {
    "a dog": [(4.0, 4.1, 4.0), (3.0, 3.1, 3.0), (2.0, 2.1, 2.0), None],
    "a cat": [(1.0, 1.0, 1.0), (5.0, 5.0, 5.0)],
    "a hat": [(2.0, 3.0, 4.0)],
}


@pytest.fixture
def scores(tmp_path: Path) -> str:
    return written(table_of(PROMPTS), tmp_path / "scores", parts=2)


def records(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted(out.iterdir()):
        if path.suffix == ".json":
            found += json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            found += map(json.loads, path.read_text().splitlines())
    return found


def test_pairs_and_what_is_said(scores: str, tmp_path: Path) -> None:
    lines: list[str] = []
    out = tmp_path / "out"
    summary = export_pairs(
        scores, str(out), format="hpdv3", min_margin=1.5, images="/data", say=lines.append
    )
    assert [(r["path1"], r["path2"]) for r in records(out)] == [
        ("/data/images/0.png", "/data/images/2.png"),
        ("/data/images/5.png", "/data/images/4.png"),
    ]
    assert lines == [
        "1 rows have no score: image_missing 1",
        "3 prompts, 1 of them with one scored image; 4 pairs of images of one prompt, 2 of them "
        "kept",
        "2 are no pair: their scores are closer than --min-margin (small_margin)",
    ]
    assert summary.reasons == {"small_margin": 2}
    assert summary.line().startswith("pairs=2 candidates=4 rows=7 unscored=1 seconds=")
    assert summary.line().endswith(f" out={out}")
    assert json.loads((out / "__job" / "summary.json").read_text()) == {
        "counts": {"candidates": 4, "pairs": 2, "prompts": 3, "alone": 1, "small_margin": 2},
        "rows": 7,
        "unscored": {"image_missing": 1},
        "written": 2,
    }


@pytest.mark.parametrize("name", ["hpdv3", "unified-reward", "ms-swift", "imagereward"])
def test_files_of_bounded_size(
    name: str, scores: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    first = export_pairs(scores, str(whole), format=name, images="/", say=silent)
    monkeypatch.setattr(pair_files, "FILE_RECORDS", 1)
    second = export_pairs(scores, str(parts), format=name, images="/", say=silent)
    n = {"imagereward": 2}.get(name, 4)
    assert first.written == second.written == n
    ending = ".jsonl" if name == "ms-swift" else ".json"
    assert sorted(p.name for p in parts.iterdir()) == [
        "__job", *(f"part-{i:05d}{ending}" for i in range(n))
    ]  # fmt: skip
    assert records(whole) == records(parts)
    assert len(records(whole)) == n


def rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 6)
        case list():
            return [rounded(one) for one in value]
        case dict():
            return {name: rounded(one) for name, one in value.items()}
    return value


@pytest.mark.parametrize("name", ["hpdv3", "unified-reward", "ms-swift", "imagereward"])
def test_read_back_by_datasets(name: str, scores: str, tmp_path: Path) -> None:
    """As a folder, whatever else a job keeps in it."""
    out = tmp_path / "out"
    export_pairs(scores, str(out), format=name, images="/", say=silent)
    data = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    # pandas reads ten digits of a number
    assert rounded([dict(row) for row in data]) == rounded(records(out))


def test_rewards(scores: str, tmp_path: Path) -> None:
    summary = export_pairs(scores, str(tmp_path / "out"), format="reward", images="/d", say=silent)
    assert summary.line().startswith("rewards=6 rows=7 unscored=1 seconds=")
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert table.column_names == [
        "sample_id", "prompt", "image", "reward", "reward_std", "generator", "seed",
    ]  # fmt: skip
    last = table.slice(5).to_pylist()[0]
    assert last["reward_std"] == pytest.approx(np.std([2, 3, 4], ddof=1))
    assert (last["reward"], last["image"], last["seed"]) == (3.0, "/d/images/6.png", 6)


def test_rewards_of_an_ensemble_are_in_its_units(tmp_path: Path) -> None:
    """Where the ensemble stretches the members' scores, so does it their deviation."""
    table = table_of({"p": [(2.0, 2.2, 2.4), (2.4, 2.6, 2.8), (2.8, 2.9, 3.0)]})
    members = [[2.0, 2.2, 2.4], [2.4, 2.6, 2.8], [2.8, 2.9, 3.0]]
    score = pa.array([3 * float(np.mean(own)) - 4 for own in members], pa.float32())
    at = table.schema.get_field_index("score")
    table = with_intervals(table.set_column(at, "score", score), 0.5)
    out = tmp_path / "out"
    export_pairs(written(table, tmp_path / "s"), str(out), format="reward", images="/", say=silent)
    found: list[Any] = pq.read_table(out / "part-00000.parquet")["reward_std"].to_pylist()
    assert found == pytest.approx([3 * np.std(own, ddof=1) for own in members], rel=1e-5)


def test_tasks_of_the_most_disputed(scores: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = export_pairs(
        scores, str(out), format="label-studio", limit=2, images="/d", say=silent
    )
    tasks = json.loads((out / "part-00000.json").read_text())
    assert [task["data"]["sample_id"] for task in tasks] == ["a hat/0", "a dog/0"]
    assert [p["model_version"] for p in tasks[0]["predictions"]] == ["q/m0", "q/m1", "r/m0"]
    assert 'maxRating="5"' in (out / "label_config.xml").read_text()
    assert summary.written == 2
    assert summary.counts == {"less_disputed": 4}


def test_a_second_launch(scores: str, tmp_path: Path) -> None:
    out, lines = str(tmp_path / "out"), list[str]()
    first = export_pairs(scores, out, format="hpdv3", images="/", say=silent)
    path = tmp_path / "out" / "part-00000.json"
    at = path.stat().st_mtime_ns
    again = export_pairs(scores, out, format="hpdv3", images="/", say=lines.append)
    assert lines[0] == "already finished: nothing is written"
    assert (path.stat().st_mtime_ns, again.written) == (at, first.written)
    with pytest.raises(ConfigError) as caught:
        export_pairs(scores, out, format="hpdv3", images="/", min_margin=1, say=silent)
    assert str(caught.value) == (
        f"{out} was begun with another configuration (min_margin: 0.0 there, 1 now); set it back "
        f"to go on, or choose another --out"
    )


def test_a_launch_after_one_that_was_killed(scores: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_pairs(scores, str(out), format="hpdv3", images="/", say=silent)
    whole = records(out)
    (out / "__job" / "summary.json").unlink()
    (out / "part-00000.json").unlink()
    (out / f".tmp-{'0' * 32}").write_bytes(b"half")
    export_pairs(scores, str(out), format="hpdv3", images="/", say=silent)
    assert records(out) == whole
    assert not list(out.glob(".tmp-*"))


def test_prompts_with_tags(tmp_path: Path) -> None:
    """A tag in the prompt would be an image too many to their readers."""
    scores = written(table_of({"an <image> tag": [(1.0,) * 3, (2.0,) * 3]}), tmp_path / "scores")
    lines: list[str] = []
    for name, n in (("ms-swift", 0), ("unified-reward", 0), ("hpdv3", 1)):
        out = str(tmp_path / name)
        summary = export_pairs(scores, out, format=name, images="/", say=lines.append)
        assert summary.written == n
    assert lines[1] == (
        "1 are no pair: the prompt holds a tag that means an image to the format's readers "
        "(tag_in_prompt)"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"format": "hpdv"},
            "--format 'hpdv': no such format. Did you mean 'hpdv3'? Known: diffusion-dpo, hpdv3, "
            "imagereward, kohya, label-studio, ms-swift, reward, trl, unified-reward.",
        ),
        (
            {"format": "reward", "majority": True},
            "--majority: --format reward is of single images, not of pairs; leave it out",
        ),
        (
            {"format": "hpdv3", "limit": 3},
            "--limit: is for --format label-studio only; --per-prompt limits the pairs of a prompt",
        ),
        ({"format": "label-studio", "limit": 0}, "--limit 0: wanted 1 or more"),
        (
            {"format": "imagereward", "per_prompt": 1},
            "--per-prompt 1: a ranking needs two images or more",
        ),
    ],
)
def test_options_that_cannot_be(
    options: dict[str, Any], message: str, scores: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        export_pairs(scores, str(tmp_path / "out"), say=silent, **options)
    assert str(caught.value) == message
    assert not (tmp_path / "out").exists()


def test_refusals_leave_nothing_behind(scores: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bare = table_of({"p": [(1.0,), (2.0,)]}, {"q": ["m0"]})
    one = written(bare, tmp_path / "one")
    for options in (
        {"format": "hpdv3", "min_confidence": 0.9},
        {"format": "hpdv3", "majority": True},
        {"format": "label-studio"},
    ):
        with pytest.raises(ConfigError):
            export_pairs(one, str(out), say=silent, **options)
    without = written(bare.drop_columns(["image_uri"]), tmp_path / "without")
    with pytest.raises(ManifestError) as caught:
        export_pairs(without, str(out), format="hpdv3", say=silent)
    assert str(caught.value) == (
        f"--format hpdv3: names images by path, and {without} has no column of paths, since the "
        f"images stood in the manifest itself; choose diffusion-dpo, trl or kohya, which hold the "
        f"images, or name the column with --map image_uri=COLUMN"
    )
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputError) as refused:
        export_pairs(scores, str(out), format="hpdv3", say=silent)
    assert str(refused.value) == (
        f"output folder {str(out)!r} holds 'mine.txt', which no export of pairs wrote; choose "
        f"another"
    )
    with pytest.raises(OutputError, match="lies in the input folder"):
        export_pairs(scores, f"{scores}/pairs", format="hpdv3", say=silent)


def test_encoding() -> None:
    import datetime
    import decimal

    record = {
        "text": 'ü "quoted"', "when": datetime.date(2025, 1, 2), "n": decimal.Decimal("1.50"),
        "bytes": b"a\xff", "nan": float("nan"),
    }  # fmt: skip
    assert json.loads(pair_files.encoded(record)) == {
        "text": 'ü "quoted"', "when": "2025-01-02", "n": "1.50", "bytes": "a\\xff", "nan": None,
    }  # fmt: skip
