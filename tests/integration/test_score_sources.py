"""Every form of input, local and on S3, gives the same scores; what befalls rows and the store."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.standin import run_pixels
from tokenfocus_ray.errors import ManifestError, OutputError, TokenFocusError
from tokenfocus_ray.storage import Store

COUNT = 11
PROMPTS = [f"prompt {i}" for i in range(COUNT)]


def png(i: int) -> bytes:
    generator = np.random.default_rng(i)
    picture = generator.integers(0, 256, (40 + 7 * (i % 3), 60, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def rows(**more: Callable[[int], Any]) -> list[dict[str, Any]]:
    return [
        {"n": i, "prompt": PROMPTS[i]} | {k: f(i) for k, f in more.items()} for i in range(COUNT)
    ]


def write_images(folder: Path) -> None:
    for i in range(COUNT):
        (folder / "images").mkdir(exist_ok=True)
        (folder / "images" / f"{i}.png").write_bytes(png(i))


def parquet_uris(folder: Path) -> str:
    write_images(folder)
    table = pa.Table.from_pylist(rows(image_uri=lambda i: f"images/{i}.png"))
    pq.write_table(table, folder / "m.parquet", row_group_size=3)
    return "m.parquet"


def parquet_bytes(folder: Path) -> str:
    """As img2dataset's ``parquet`` and Hugging Face's data sets have it, in two files."""
    for k, part in enumerate((range(5), range(5, COUNT))):
        table = pa.Table.from_pylist([rows(png=png)[i] for i in part])
        pq.write_table(table, folder / f"{k}.parquet", row_group_size=2)
    return ""


def parquet_structs(folder: Path) -> str:
    struct = rows(image=lambda i: {"bytes": png(i), "path": f"{i}.png"})
    pq.write_table(pa.Table.from_pylist(struct), folder / "m.parquet")
    return "m.parquet"


def csv_text(folder: Path) -> str:
    write_images(folder)
    frame = pd.DataFrame(rows(file_name=lambda i: f"images/{i}.png"))
    frame.to_csv(folder / "metadata.csv", index=False)
    return ""


def jsonl_text(folder: Path) -> str:
    write_images(folder)
    lines = (json.dumps(row) + "\n" for row in rows(path=lambda i: f"images/{i}.png"))
    (folder / "m.jsonl").write_text("".join(lines))
    return "m.jsonl"


def tar_shards(folder: Path) -> str:
    for k, part in enumerate((range(7), range(7, COUNT))):
        with tarfile.open(folder / f"0000{k}.tar", "w") as tar:
            for i in part:
                files = {"png": png(i), "txt": PROMPTS[i].encode(), "json": b'{"n": %d}' % i}
                for ending, data in files.items():
                    info = tarfile.TarInfo(f"{i:05d}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return ""


def captioned_images(folder: Path) -> str:
    write_images(folder)
    for i, prompt in enumerate(PROMPTS):
        (folder / "images" / f"{i}.txt").write_text(prompt)
    return ""


FORMS = [parquet_uris, parquet_bytes, parquet_structs, csv_text, jsonl_text, tar_shards,
         captioned_images]  # fmt: skip


def upload(folder: Path, uri: str) -> None:
    store = Store.of(uri)
    for path in folder.rglob("*.*"):
        store.write_bytes(str(path.relative_to(folder)), path.read_bytes())


def read(out: str) -> pd.DataFrame:
    store = Store.of(out)
    data = pads.dataset(store.root, filesystem=store.filesystem, format="parquet")
    return data.to_table().to_pandas()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Prompt -> score."""
    folder = tmp_path_factory.mktemp("expected")
    run_pixels(str(folder / parquet_uris(folder)), str(folder / "out"))
    frame = read(str(folder / "out"))
    assert len(set(frame["score"])) == COUNT
    return dict(zip(frame["prompt"], frame["score"], strict=True))


@pytest.mark.parametrize(
    ("form", "place"),
    [
        *((form, "local") for form in FORMS),
        *((form, "s3") for form in (parquet_uris, parquet_bytes, tar_shards, captioned_images)),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_each_form_gives_the_same_scores(
    form: Callable[[Path], str],
    place: str,
    expected: dict[str, float],
    tmp_path: Path,
    s3_bucket: str,
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    name, base = form(folder), str(folder)
    if place == "s3":
        base = f"{s3_bucket}/data"
        upload(folder, base)
    out = f"{s3_bucket}/out" if place == "s3" else str(tmp_path / "out")
    summary = run_pixels(f"{base}/{name}" if name else base, out)
    assert (summary.rows, summary.scored) == (COUNT, COUNT)
    frame = read(out)
    assert dict(zip(frame["prompt"], frame["score"], strict=True)) == expected
    assert frame["sample_id"].is_unique
    if form is tar_shards:
        assert [json.loads(v)["n"] for v in frame["json"]] == list(range(COUNT))
    elif form is not captioned_images:
        numbers = range(COUNT)
        assert list(frame["n"]) == (list(map(str, numbers)) if form is csv_text else [*numbers])
    assert {"image", "png"}.isdisjoint(frame.columns)
    # nothing is left to do, and nothing is done
    again = run_pixels(f"{base}/{name}" if name else base, out)
    assert (again.rows, again.scored) == (COUNT, COUNT)
    assert again.seconds < 5


def message(error: type[TokenFocusError], *arguments: Any, **options: Any) -> str:
    with pytest.raises(error) as caught:
        run_pixels(*arguments, **options)
    return str(caught.value)


def test_stores_that_cannot_be_used(
    tmp_path: Path, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clear errors at the start, before Ray is asked for anything."""
    folder = tmp_path / "data"
    folder.mkdir()
    manifest = str(folder / parquet_uris(folder))
    gone = message(ManifestError, f"{s3_bucket}/gone/", str(tmp_path / "out"))
    assert gone == f"manifest '{s3_bucket}/gone/' does not exist"
    nowhere = message(OutputError, manifest, "s3://no-such-bucket-here/out")
    assert nowhere.startswith("cannot write to 's3://no-such-bucket-here/out': ")
    assert nowhere.endswith("make the bucket, or correct its name")
    no_bucket = message(ManifestError, "s3://no-such-bucket-here/m", str(tmp_path / "out"))
    assert no_bucket == "manifest 's3://no-such-bucket-here/m' does not exist"
    upload(folder, f"{s3_bucket}/data")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    wrong = message(ManifestError, f"{s3_bucket}/data", str(tmp_path / "out"))
    assert wrong.startswith(f"'{s3_bucket}/data' cannot be read: ")
    assert "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in wrong
    assert not (tmp_path / "out").exists()


def test_bad_files_of_a_shard_are_rows_and_the_rest_is_said(tmp_path: Path) -> None:
    """Read and prepared in tasks, committed, and told by the driver."""
    files = {
        "a.png": png(0), "a.txt": b"a pig", "._a.png": b"AppleDouble", "b.png": png(1),
        "b.json": b"[" * 100_000, "c.1.png": png(2), "c.2.png": png(3), "README": b"",
        "a.gif": png(4), "d.png": png(5), "d.txt": b"a cow",
    }  # fmt: skip
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    said: list[str] = []
    summary = run_pixels(str(tmp_path / "s.tar"), str(tmp_path / "out"), say=said.append)
    codes = {"member_invalid": 1, "member_ambiguous": 1, "member_duplicate": 1}
    assert (summary.rows, summary.scored, summary.unscored) == (5, 2, codes)
    assert "passed over in the tar shards: 1 hidden, 1 without an ending" in said


def test_text_that_cannot_be_asked_marks_its_row(tmp_path: Path) -> None:
    """Through tasks and files, where Arrow does not look; a column of paths travels on."""
    write_images(tmp_path)
    images = [f"images/{i}.png".encode() for i in range(3)] + [b"images/caf\xe9.png"]
    prompts = [b"prompt 0", b"caf\xe9", "a café".encode(), b"prompt 3"]
    raw = {"image": images, "prompt": prompts, "note": [b"\xff"] * 4}
    columns = {}
    for name, values in raw.items():
        array = pa.array(values, pa.binary())
        columns[name] = pa.Array.from_buffers(pa.string(), 4, array.buffers())
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    summary = run_pixels(str(tmp_path / "m.parquet"), str(tmp_path / "out"))
    assert (summary.rows, summary.unscored) == (4, {"text_invalid": 2})
    store = Store.of(tmp_path / "out")
    table = pads.dataset(store.root, format="parquet").to_table()
    assert table["error_code"].to_pylist() == [None, "text_invalid", None, "text_invalid"]
    assert table["prompt"].to_pylist() == ["prompt 0", "caf\\xe9", "a café", "prompt 3"]
    assert table["image"].to_pylist()[2:] == ["images/2.png", "images/caf\\xe9.png"]
    assert table["note"].cast(pa.binary()).to_pylist() == [b"\xff"] * 4
    again = run_pixels(str(tmp_path / "m.parquet"), str(tmp_path / "out"))
    assert again.unscored == {"text_invalid": 2}
