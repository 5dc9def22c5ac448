"""A file that was written anew is told from the same one, and a copy is no other file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.datasets.test_sources import plan, write_tar
from tokenfocus_ray.datasets import watch
from tokenfocus_ray.datasets.files import File
from tokenfocus_ray.datasets.row_table import RowTable
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store


def write(path: Path, middle: str) -> Path:
    """Rows of which one differs, inside of the bounds and as long."""
    path.parent.mkdir(exist_ok=True)
    prompts = ["a cat", middle, "a fox"]
    table = pa.table({"prompt": prompts, "path": ["1.png", "2.png", "3.png"]})
    pq.write_table(table, path, use_dictionary=False, compression="none")
    return path


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {key for key in before | after if before.get(key) != after.get(key)}


def test_a_rewrite_that_keeps_sizes_and_bounds_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "m.parquet", "a cow")
    before = plan(path, keep=tmp_path).fingerprint
    scores = RowTable.of(str(path), Store.of(tmp_path)).fingerprint
    write(path, "a dog")
    assert changed(before, plan(path, keep=tmp_path).fingerprint) == {"bytes"}
    assert changed(scores, RowTable.of(str(path), Store.of(tmp_path)).fingerprint) == {"bytes"}


def test_a_shard_of_the_same_size_is_seen(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", {"a.txt": b"a cow", "a.jpg": b"x"})
    before = plan(path, keep=tmp_path).fingerprint
    write_tar(path, {"a.txt": b"a dog", "a.jpg": b"x"})
    assert changed(before, plan(path, keep=tmp_path).fingerprint) == {"bytes"}


def test_a_text_manifest_is_watched_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("prompt,path\na cow,1.png\n")
    before = plan(path, keep=tmp_path).fingerprint
    os.utime(path, (1, 1))
    assert plan(path, keep=tmp_path).fingerprint == before
    path.write_text("prompt,path\na dog,1.png\n")
    assert "bytes" in changed(before, plan(path, keep=tmp_path).fingerprint)


def test_a_copy_is_no_other_input(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "in" / f"{number}.parquet", "a cow")
    shutil.copytree(tmp_path / "in", tmp_path / "copy", copy_function=shutil.copyfile)
    for path in (tmp_path / "copy").iterdir():
        os.utime(path, (1, 1))
    first, second = (plan(tmp_path / f, keep=tmp_path).fingerprint for f in ("in", "copy"))
    assert first == second
    # what is in which file matters
    write(tmp_path / "copy" / "1.parquet", "a dog")
    third = plan(tmp_path / "copy", keep=tmp_path).fingerprint
    shutil.move(tmp_path / "copy" / "1.parquet", tmp_path / "copy" / "x")
    shutil.move(tmp_path / "copy" / "0.parquet", tmp_path / "copy" / "1.parquet")
    shutil.move(tmp_path / "copy" / "x", tmp_path / "copy" / "0.parquet")
    assert changed(third, plan(tmp_path / "copy", keep=tmp_path).fingerprint) == {"bytes"}


def test_large_files_are_watched_by_their_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "HASHED_BYTES", 10)
    path = write(tmp_path / "m.parquet", "a cow")
    before = plan(path, keep=tmp_path).fingerprint
    assert set(before) == {"files", "rows", "content", "mtimes"}
    write(path, "a dog")
    assert changed(before, plan(path, keep=tmp_path).fingerprint) == {"mtimes"}


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "m.parquet", "a cow")
    file = File(str(path), "", 10)
    path.unlink()
    with pytest.raises(ManifestError) as caught:
        watch.stamps([file])
    assert str(caught.value) == (
        f"{str(path)!r} cannot be read: No such file or directory; check the path, its permissions "
        f"and the disk"
    )
