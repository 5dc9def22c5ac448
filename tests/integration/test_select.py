"""Selections with their images: copies and shards on Ray, read back as other tools read them."""

from __future__ import annotations

import io
import json
import runpy
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.processes import ROOT
from tests.support.selecting import scored_manifest
from tokenfocus_ray import Selection, select_scores
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.units import Source, read_unit
from tokenfocus_ray.distributed.outcomes import carry, select
from tokenfocus_ray.distributed.outcomes.carry import Carry
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store

N = 20
BEST = Selection(min_score=1.5)  # all but the first four


def picture(number: int, kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(sink, kind)
    return sink.getvalue()


def rows_of(source: Source) -> list[dict[str, Any]]:
    tables = [table for unit in source.units for table in read_unit(source.schema, unit, 99)]
    return [row for table in tables for row in table.to_pylist()]


def captions(folder: Path) -> str:
    """Images beside a text manifest; every other one is called .jpg, and is PNG all the same."""
    (folder / "pictures").mkdir(parents=True)
    lines = ["image_path,prompt,file_name"]
    for i in range(N):
        name = f"pictures/{i}.{'jpg' if i % 2 else 'png'}"
        (folder / name).write_bytes(picture(i))
        lines.append(f"{name},prompt {i},mine {i}")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "m.csv")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "FOLDER_ROWS", 5)


@pytest.mark.usefixtures("small")
def test_copies_and_shards(tmp_path: Path) -> None:
    scores = scored_manifest([captions(tmp_path / "m")], str(tmp_path / "s"))
    out = tmp_path / "out"
    (tmp_path / "m" / "pictures" / "6.png").unlink()
    (tmp_path / "m" / "pictures" / "7.jpg").write_bytes(b"no image by now")
    lines: list[str] = []
    found = select_scores(scores, str(out), BEST, copy_images=True, shard_size=6, say=lines.append)
    assert found.line().startswith(
        "rows=20 kept=16 dropped=4 images=14 shards=3 not_copied=2 seconds="
    )
    assert lines[-1] == "2 kept rows have no image any more: see not_copied/"
    there = [i for i in range(4, N) if i not in (6, 7)]
    check_shards(out / "shards", there)
    check_copies(out / "images", there)
    for kind in ("images", "shards"):
        files = sorted((out / "not_copied").glob(f"{kind}-*.parquet"))
        rows = [row for file in files for row in pq.read_table(file).to_pylist()]
        assert [row["prompt"] for row in rows] == ["prompt 6", "prompt 7"]
        assert [row["copy_error_code"] for row in rows] == ["image_missing", "image_corrupt"]
        assert "does not exist" in rows[0]["copy_error_message"]
    again = select_scores(scores, str(out), BEST, copy_images=True, shard_size=6, say=lines.append)
    assert (again.images, again.shards, again.not_copied) == (14, 3, 2)


def check_shards(folder: Path, numbers: list[int]) -> None:
    """As webdataset and `tokenfocus score` read them: sizes differ by one, but for what is lost."""
    assert sorted(p.name for p in folder.iterdir()) == ["00000.tar", "00001.tar", "00002.tar"]
    rows = rows_of(plan_source([str(folder)], None, {}, Store.of(".")))
    assert [row["prompt"] for row in rows] == [f"prompt {i}" for i in numbers]
    assert [row["image"] for row in rows] == [picture(i) for i in numbers]
    about = [json.loads(row["json"]) for row in rows]
    assert [one["score"] for one in about] == [1 + i / 8 for i in numbers]
    assert about[0]["member_scores"] == [1.5, 1.5, 1.5]
    assert about[0]["error_code"] is None
    with tarfile.open(folder / "00001.tar") as tar:
        assert tar.getnames()[:3] == ["000010000.png", "000010000.txt", "000010000.json"]
        assert len(tar.getnames()) == 3 * 5


def check_copies(folder: Path, numbers: list[int]) -> None:
    """As Hugging Face's imagefolder and `tokenfocus score` read them."""
    import datasets

    found: Any = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    assert sorted(found["prompt"]) == sorted(f"prompt {i}" for i in numbers)
    by_prompt = {one["prompt"]: one for one in found}
    for i in numbers:
        assert by_prompt[f"prompt {i}"]["image"].getpixel((0, 0)) == (i, 0, 0)
        assert by_prompt[f"prompt {i}"]["score"] == 1 + i / 8
        assert by_prompt[f"prompt {i}"]["file_name_given"] == f"mine {i}"
    source = plan_source([str(folder)], None, {"image_uri": "file_name"}, Store.of("."))
    data = list(source.inputs.values())
    assert source.n_rows == len(numbers)
    names = [n for d in data for n in pq.read_table(pa.BufferReader(d))["file_name"].to_pylist()]
    assert sorted((folder / str(n)).read_bytes() for n in names) == sorted(
        picture(i) for i in numbers
    )


def tars(folder: Path) -> list[str]:
    """Two shards, of ten samples each."""
    folder.mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for i in range(shard * 10, shard * 10 + 10):
                for ending, data in (("jpg", picture(i, "JPEG")), ("txt", f"prompt {i}".encode())):
                    member = tarfile.TarInfo(f"k{i}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return [str(folder)]


def parquet(folder: Path) -> list[str]:
    """Two files with image bytes, the second of which has row groups of three."""
    folder.mkdir()
    for n, stop in enumerate((7, N)):
        rows = [
            {"jpg": picture(i, "JPEG"), "caption": f"prompt {i}"}
            for i in range(0 if not n else 7, stop)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{n}.parquet", row_group_size=3)
    return [str(folder)]


@pytest.mark.parametrize("make", [tars, parquet], ids=["tars", "parquet"])
def test_images_in_tars_and_parquet(make: Any, tmp_path: Path) -> None:
    """Only a row's key, or its number, leads to its image; of a selection of a selection too."""
    scores = scored_manifest(make(tmp_path / "m"), str(tmp_path / "s"))
    select_scores(scores, str(tmp_path / "a"), BEST, say=str)
    kept = f"{tmp_path}/a/kept"
    out = str(tmp_path / "out")
    found = select_scores(kept, out, Selection(budget=5), shard_size=3, say=str)
    assert (found.kept, found.shards, found.not_copied) == (5, 2, 0)
    rows = rows_of(plan_source([f"{out}/shards"], None, {}, Store.of(".")))
    assert {row["prompt"]: row["image"] for row in rows} == {
        f"prompt {i}": picture(i, "JPEG") for i in range(15, 20)
    }


def test_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = scored_manifest([captions(tmp_path / "m")], str(tmp_path / "s"))
    out = tmp_path / "out"

    def killed(make: Carry, todo: list[int], there: int, watch: Any) -> None:
        make(pa.table({"run": todo[:1]}))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(carry, "_run", killed)
        with pytest.raises(KeyboardInterrupt):
            select_scores(scores, str(out), BEST, shard_size=6, say=str)
    first = (out / "shards" / "00000.tar").stat().st_mtime_ns
    assert not (out / "selection.json").exists()
    lines: list[str] = []
    found = select_scores(scores, str(out), BEST, shard_size=6, say=lines.append)
    assert lines[0] == "all rows are kept or dropped already; their images are gone on with"
    assert (found.kept, found.shards, found.not_copied) == (16, 3, 0)
    assert (out / "shards" / "00000.tar").stat().st_mtime_ns == first


def test_on_s3(tmp_path: Path, s3_bucket: str) -> None:
    captions(tmp_path / "m")
    store = Store.of(f"{s3_bucket}/m")
    for path in (tmp_path / "m").rglob("*.*"):
        if path.is_file():
            store.write_bytes(str(path.relative_to(tmp_path / "m")), path.read_bytes())
    scores = scored_manifest([f"{s3_bucket}/m/m.csv"], f"{s3_bucket}/s")
    found = select_scores(
        scores, f"{s3_bucket}/out", BEST, npy=True, copy_images=True, shard_size=8, say=str
    )
    assert (found.kept, found.uids, found.images, found.shards) == (16, 16, 16, 2)
    rows = rows_of(plan_source([f"{s3_bucket}/out/shards"], None, {}, Store.of(".")))
    assert [row["image"] for row in rows] == [picture(i) for i in range(4, N)]
    kept = plan_source([f"{s3_bucket}/out/kept"], None, {}, Store.of("."))
    assert rows_of(kept)[0]["image_path"] == f"{s3_bucket}/m/pictures/4.png"
    assert Store.of(f"{s3_bucket}/out").names() == [
        "__job", "dropped", "images", "kept", "selection.json", "shards", "subset.npy",
    ]  # fmt: skip


def test_images_that_nothing_leads_to(tmp_path: Path) -> None:
    scores = scored_manifest(parquet(tmp_path / "m"), str(tmp_path / "s"))
    (tmp_path / "s" / "__job" / "run.json").unlink()
    with pytest.raises(ManifestError) as caught:
        select_scores(scores, str(tmp_path / "out"), copy_images=True, say=str)
    assert str(caught.value) == (
        f"{scores}: nothing says which images were scored: there is neither a column of paths nor "
        f"__job/run.json beside the scores; name the manifest that was scored with --manifest"
    )
    assert not (tmp_path / "out").exists()


def test_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = scored_manifest([captions(tmp_path / "m")], str(tmp_path / "s"))
    config = tmp_path / "c.yaml"
    config.write_text("budget: 9\n")
    arguments = [scores, "--config", str(config), "--shard-size", "5", "--out", f"{tmp_path}/out"]
    monkeypatch.setattr(sys, "argv", ["select_scores.py", *arguments])
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    main = runpy.run_path(str(ROOT / "jobs" / "select_scores.py"))["main"]
    for _ in range(2):
        assert main() == 0
        last = "rows=20 kept=9 dropped=11 shards=2 not_copied=0 seconds="
        assert capsys.readouterr().out.splitlines()[-1].startswith(last)
    config.write_text("buget: 9\n")
    assert main() == 2
    assert capsys.readouterr().err.startswith(f"error: {config}: unknown key 'buget'. Did you mean")
