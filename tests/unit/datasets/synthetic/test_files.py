from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tokenfocus_ray.datasets.evalmuse import read_evalmuse
from tokenfocus_ray.datasets.manifest import find_columns
from tokenfocus_ray.datasets.synthetic.benchmark import generate
from tokenfocus_ray.datasets.synthetic.files import MANIFEST_SCHEMA, to_table, write_benchmark
from tokenfocus_ray.errors import ConfigError, OutputError

N, SEED = 24, 5


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmark")
    write_benchmark(str(path), N, SEED)
    return path


@pytest.fixture(scope="module")
def manifest(folder: Path) -> pa.Table:
    """Both splits."""
    return pa.concat_tables(pq.read_table(folder / f"{s}.parquet") for s in ("train", "test"))


def test_files(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "images",
        "train.parquet",
        "test.parquet",
        "train_list.json",
        "test_list.json",
    }
    assert len(list((folder / "images").rglob("*.png"))) == N


def test_counts(tmp_path: Path, folder: Path) -> None:
    counts = write_benchmark(str(tmp_path / "deep" / "new"), N, SEED)
    assert counts == {"train": 18, "test": 6}
    for split, count in counts.items():
        assert pq.read_table(folder / f"{split}.parquet").num_rows == count


def test_equal_seeds_give_equal_bytes(folder: Path, tmp_path: Path) -> None:
    write_benchmark(str(tmp_path), N, SEED)
    assert contents(tmp_path) == contents(folder)


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    write_benchmark(str(tmp_path), N, SEED)
    before = contents(tmp_path)
    write_benchmark(str(tmp_path), N, SEED)
    assert contents(tmp_path) == before


def test_other_seeds_give_other_files(folder: Path, tmp_path: Path) -> None:
    write_benchmark(str(tmp_path), N, SEED + 1)
    mine, theirs = contents(tmp_path), contents(folder)
    assert mine.keys() == theirs.keys()
    assert all(mine[name] != theirs[name] for name in mine)


def test_schema(manifest: pa.Table) -> None:
    assert manifest.schema == MANIFEST_SCHEMA


def test_images_are_where_the_manifest_says(folder: Path, manifest: pa.Table) -> None:
    samples = {s.img_path: s for s in generate(N, SEED)}
    for row in manifest.select(["image_uri", "img_path"]).to_pylist():
        with Image.open(folder / row["image_uri"]) as image:
            drawn = samples[row["img_path"]].image()
            np.testing.assert_array_equal(np.asarray(image), np.asarray(drawn))


def test_manifest_holds_the_samples(manifest: pa.Table) -> None:
    rows = {row["img_path"]: row for row in manifest.to_pylist()}
    for sample in generate(N, SEED):
        row = rows[sample.img_path]
        assert row["prompt"] == sample.prompt
        assert row["total_scores"] == list(sample.total_scores)
        assert row["element_truth"] == list(sample.truth)
        assert row["element_labels"] == [list(labels) for labels in sample.element_labels]
        assert row["true_alignment"] == pytest.approx(sample.quality, abs=1e-6)


def test_no_prompt_is_in_both_splits(folder: Path) -> None:
    train, test = (
        set(pq.read_table(folder / f"{split}.parquet")["prompt"].to_pylist())
        for split in ("train", "test")
    )
    assert not train & test


def test_sample_ids_are_all_different(manifest: pa.Table) -> None:
    assert len(set(manifest["sample_id"].to_pylist())) == N


def test_columns_are_found_without_a_map(manifest: pa.Table) -> None:
    columns = find_columns(manifest.column_names, {}, "train.parquet")
    assert (columns.prompt, columns.image, columns.image_uri) == ("prompt", None, "image_uri")
    assert (columns.sample_id, columns.elements) == ("sample_id", "elements")
    assert columns.prompt_type == "prompt_type"


@pytest.mark.parametrize("split", ["train", "test"])
def test_evalmuse_json_holds_the_same(split: str, folder: Path) -> None:
    table = pq.read_table(folder / f"{split}.parquet")
    back = read_evalmuse(str(folder / f"{split}_list.json"))
    same = [
        "sample_id",
        "prompt",
        "elements",
        "prompt_type",
        "prompt_id",
        "img_path",
        "generator",
        "total_scores",
        "element_labels",
    ]
    assert back.select(same).to_pylist() == table.select(same).to_pylist()


def test_evalmuse_json_finds_the_images(folder: Path) -> None:
    table = read_evalmuse(str(folder / "test_list.json"), images_root=str(folder / "images"))
    assert all(Path(str(uri)).is_file() for uri in table["image_uri"].to_pylist())


def test_no_samples_make_an_empty_table() -> None:
    assert to_table([]).schema == MANIFEST_SCHEMA


@pytest.mark.parametrize("n", [23, 0, -1])
def test_too_few_samples(n: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write_benchmark(str(tmp_path / "out"), n, 0)
    assert str(caught.value) == (
        f"samples must be at least 24 (six generators, four prompts), got {n}"
    )
    assert not (tmp_path / "out").exists()


def test_negative_seed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write_benchmark(str(tmp_path), 24, -1)
    assert str(caught.value) == "seed must be 0 or more, got -1"


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("")
    with pytest.raises(OutputError) as caught:
        write_benchmark(str(out), 24, 0)
    assert str(caught.value) == (
        f"benchmark folder {str(out)!r} cannot be written: [Errno 20] Not a directory: "
        f"{str(out / 'images' / 'sim-aurora')!r}"
    )
