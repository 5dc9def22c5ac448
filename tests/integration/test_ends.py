"""What a user can put right reaches them as it was raised, from whichever process it was."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.scores import random_scores
from tests.support.standin import PixelStage, run_pixels
from tests.support.train import small_config, small_data
from tests.unit.ensemble.test_apply import TWO, fitted
from tokenfocus_ray.backbones import loading
from tokenfocus_ray.distributed import merge, output
from tokenfocus_ray.distributed.output import Launch
from tokenfocus_ray.distributed.train.job import train_members
from tokenfocus_ray.errors import BackboneError, ManifestError, OutputError, UserError
from tokenfocus_ray.scoring.stage import ScoreStage
from tokenfocus_ray.storage import Store

FULL = "No space left on device; free space on its disk, or choose another"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), "orange").save(tmp_path / "a.png")
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"prompt": ["a", "b"], "path": ["a.png"] * 2}), path)
    return path


def refusal(manifest: Path, stage: type[ScoreStage] = PixelStage) -> tuple[type[UserError], str]:
    """How the job ends: what is raised has nothing of Ray's in its text."""
    with pytest.raises(UserError) as caught:
        run_pixels(str(manifest), str(manifest.parent / "out"), stage=stage)  # type: ignore[arg-type]
    return type(caught.value), str(caught.value)


def test_a_manifest_that_goes_away_while_it_is_read(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record = Launch.write_record

    def begin_and_remove(launch: Launch) -> None:
        write_record(launch)
        manifest.unlink()

    monkeypatch.setattr(Launch, "write_record", begin_and_remove)
    kind, message = refusal(manifest)
    assert kind is ManifestError
    assert message.startswith(f"{manifest}, row groups [0]: cannot be read: ")
    assert message.endswith(
        "No such file or directory; check the path, its permissions and the disk"
    )


@dataclass(frozen=True)
class FullSpec:
    """Cannot prepare an image: the disk is full."""

    def prepare(self, pixels: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_while_preparing(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "image_spec", lambda *_: FullSpec())
    assert refusal(manifest) == (OutputError, FULL)


class WithoutHead(ScoreStage):
    """A scorer whose checkpoint lacks a tensor."""

    def __init__(self, *arguments: Any) -> None:
        raise BackboneError("models/mine has no tensor 'lm_head.weight'; save it anew")


class WithFullDisk(PixelStage):
    """A scorer that meets a full disk."""

    def __call__(self, *arguments: Any, **options: Any) -> NoReturn:
        raise OutputError(FULL)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (WithoutHead, BackboneError("models/mine has no tensor 'lm_head.weight'; save it anew")),
        (WithFullDisk, OutputError(FULL)),
    ],
)
def test_an_actor(stage: type[ScoreStage], expected: UserError, manifest: Path) -> None:
    """While it loads, and while it scores: told by the first, which no other is started after."""
    assert refusal(manifest, stage) == (type(expected), str(expected))


@dataclass(frozen=True, slots=True)
class FullStore(Store):
    """A folder on a disk that is full as soon as scores are to be written."""

    def child(self, *names: str) -> Store:
        below = Store.child(self, *names)
        return FullStore(below.uri, below.filesystem, below.root)

    def _put(self, data: bytes | pa.Buffer) -> None:
        if self.root.endswith(".parquet"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.root)
        Store._put(self, data)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders that jobs write to are :class:`FullStore`."""

    def absolute_store(uri: str) -> Store:
        store = Store.of(uri)
        return FullStore(store.uri, store.filesystem, store.root)

    monkeypatch.setattr(output, "absolute_store", absolute_store)


def test_a_full_disk_while_committing(
    manifest: Path, full: None, capfd: pytest.CaptureFixture[str]
) -> None:
    kind, message = refusal(manifest)
    assert kind is OutputError
    commits = manifest.parent / "out" / "__job" / "commits"
    assert message.startswith(f"cannot write '{commits}/")
    assert message.endswith(f".parquet': {FULL}")
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_full_disk_while_merging(tmp_path: Path, full: None) -> None:
    table, _ = random_scores(TWO, 20)
    pq.write_table(table, tmp_path / "scores.parquet")
    out = str(tmp_path / "out")
    with pytest.raises(OutputError) as caught:
        merge.merge_scores([str(tmp_path / "scores.parquet")], out, fitted())
    assert str(caught.value) == f"cannot write '{out}/part-00000.parquet': {FULL}"


def test_a_file_in_the_way_while_samples_are_looked_at(tmp_path: Path) -> None:
    """Images of a manifest with bytes are kept in a folder of the run."""
    path, out = small_data(tmp_path / "data"), tmp_path / "run"
    table = pq.read_table(path)
    images = [(path.parent / str(uri)).read_bytes() for uri in table["image_uri"].to_pylist()]
    index = table.column_names.index("image_uri")
    pq.write_table(table.set_column(index, "image", pa.array(images)), path)
    out.mkdir()
    (out / "images").write_text("mine")
    with pytest.raises(OutputError) as caught:
        train_members(small_config(path), str(out), say=str)
    message = str(caught.value)
    assert message.startswith(f"cannot write '{out}/images/")
    assert message.endswith(
        "a file stands where a folder is needed: move it, or choose another folder"
    )
