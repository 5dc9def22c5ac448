"""What a job writes down of its input, and how it is read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.selecting import scored_manifest
from tokenfocus_ray.datasets.recorded import RecordedInput
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.storage import Store
from tokenfocus_ray.tables.text import TextOptions


def test_what_is_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By columns of the output: names of score columns have a prefix there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.csv").write_text("image_path,status\na.png,p\n")
    mapping, text = {"prompt": "status"}, TextOptions("latin-1", quotes=False)
    source = plan_source(["m.csv"], None, mapping, Store.of("."), text)
    made = RecordedInput.of(["m.csv"], source, None, mapping, text)
    assert made.manifests == (f"{tmp_path}/m.csv",)
    assert made.bases == (str(tmp_path),)
    assert made.columns == {"prompt": "input_status", "image_uri": "image_path"}
    assert (made.encoding, made.quotes, made.mapping) == ("latin-1", False, mapping)
    assert (made.has_bytes, made.images_only, made.numbers) == (False, False, None)
    Store.of(tmp_path / "s").write_json("__job/run.json", {"input": made.model_dump(), "rows": 1})
    assert RecordedInput.find(str(tmp_path / "s")) == made
    assert RecordedInput.find(str(tmp_path / "s" / "part-00000.parquet")) == made


def test_too_many_folders_are_left_to_be_found_again(tmp_path: Path) -> None:
    manifests = []
    for i in range(17):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "m.csv").write_text("image_path,prompt\na.png,p\n")
        manifests.append(str(tmp_path / str(i) / "m.csv"))
    found = RecordedInput.find(scored_manifest(manifests[:16], str(tmp_path / "s")))
    assert found is not None
    assert len(found.bases) == 16
    found = RecordedInput.find(scored_manifest(manifests, str(tmp_path / "t")))
    assert found is not None
    assert found.bases == ()


def test_nothing_is_there(tmp_path: Path) -> None:
    assert RecordedInput.find(str(tmp_path)) is None
    Store.of(tmp_path).write_json("__job/run.json", {"rows": 1})  # of an earlier release
    assert RecordedInput.find(str(tmp_path)) is None


def test_what_cannot_be_right(tmp_path: Path) -> None:
    (tmp_path / "__job").mkdir()
    (tmp_path / "__job" / "run.json").write_text(json.dumps({"input": {"manifests": 7}}))
    with pytest.raises(ManifestError) as caught:
        RecordedInput.find(str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}/__job/run.json: input: manifests = 7: Input should be a valid tuple; delete "
        f"the file, and name what was scored with --manifest"
    )
