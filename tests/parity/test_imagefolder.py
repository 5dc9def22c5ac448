"""Which image each row of a Hugging Face ``imagefolder`` means, as ``datasets`` reads it."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
from PIL import Image

from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.units import read_unit
from tokenfocus_ray.storage import Store


def write(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(folder / name)
        lines.append(json.dumps({"file_name": name, "text": f"{folder.name} {name}"}) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines))


@pytest.mark.parametrize("folders", [["."], ["train"], ["train/a", "train/b"], ["train", "test"]])
def test_paths_start_from_the_metadata_file(tmp_path: Path, folders: list[str]) -> None:
    data = tmp_path / "data"
    for folder in folders:
        write(data / folder, ["1.png", "sub/2.png"])
    loaded = datasets.load_dataset("imagefolder", data_dir=str(data), streaming=True)
    expected = set()
    for split in loaded.values():
        for row in split.cast_column("image", datasets.Image(decode=False)):
            expected.add((str(Path(row["image"]["path"]).resolve()), row["text"]))
    keep = Store.of(tmp_path / "keep")
    source = plan_source([str(data)], None, {}, keep)
    for name, content in source.inputs.items():
        keep.write_bytes(name, content)
    found = set()
    for unit in source.units:
        for table in read_unit(source.schema, unit, 10):
            for row in table.to_pylist():
                path = (Path(unit.base) / row["file_name"]).resolve()
                assert path.is_file()
                found.add((str(path), row["text"]))
    assert found == expected
    assert len(found) == 2 * len(folders)
