"""Formats, and that the command's help names each of them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import layouts
from tests.support.imports import imported
from tokenfocus_ray.cli.data import import_
from tokenfocus_ray.datasets.importers.registry import FORMATS, format_of
from tokenfocus_ray.datasets.sources import plan_source
from tokenfocus_ray.datasets.units import read_unit
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.storage import Store


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        format_of("webdata")
    assert str(caught.value) == (
        "unknown format 'webdata'. Did you mean 'webdataset'? Known: diffusiondb, dsg, evalmuse, "
        "geneval2, hf-parquet, img2dataset, oneig, pickapic, tifa, webdataset."
    )


def test_the_help_names_every_format() -> None:
    source = inspect.getsource(import_)
    assert [name for name in FORMATS if not re.search(rf"\b{name}\b", source)] == []


def sources(folder: Path) -> dict[str, tuple[Path, dict[str, str]]]:
    """Every format's layout, and options."""
    pairs = [{"caption": "a", "images": (1, 2), "label_0": 0.5}]
    for name in ("w_5", "v_57", "0", "1", "drawbench_52", "coco_301091"):
        (folder / "own").mkdir(exist_ok=True)
        (folder / "own" / f"{name}.png").write_bytes(layouts.png(len(name)))
    own = {"images": str(folder / "own")}
    (folder / "own2" / "anime").mkdir(parents=True)
    (folder / "own2" / "anime" / "000.png").write_bytes(layouts.png(1))
    return {
        "evalmuse": (layouts.evalmuse(folder / "e") / "train_list.json", {}),
        "pickapic": (layouts.pickapic(folder / "p", pairs), {}),
        "hf-parquet": (layouts.hf_parquet(folder / "h"), {}),
        "img2dataset": (layouts.img2dataset(folder / "i", "webdataset"), {}),
        "webdataset": (layouts.webdataset(folder / "w"), {}),
        "diffusiondb": (
            layouts.diffusiondb(folder / "d") / "metadata.parquet",
            {"images": str(folder / "d" / "images")},
        ),
        "tifa": (layouts.tifa(folder / "tifa.json"), own),
        "dsg": (layouts.dsg(folder / "dsg.csv"), own),
        "geneval2": (layouts.geneval2(folder / "g.jsonl"), own),
        "oneig": (
            layouts.oneig(folder / "o"),
            {"images": f"{folder}/own2/{{category}}/{{id}}.png"},
        ),
    }


@pytest.mark.parametrize("name", FORMATS)
def test_scoring_takes_what_comes_out(name: str, tmp_path: Path) -> None:
    src, options = sources(tmp_path)[name]
    table = imported(name, src, tmp_path, **options)
    assert table.num_rows
    assert len(set(table["sample_id"].to_pylist())) == table.num_rows
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=2)
    source = plan_source([str(tmp_path / "m.parquet")], None, {}, Store.of(tmp_path / "kept2"))
    assert source.n_rows == table.num_rows
    columns = source.columns
    assert (columns.prompt, columns.sample_id, columns.image_uri) == (
        "prompt", "sample_id", "image_uri",
    )  # fmt: skip
    assert columns.image == ("image" if "image" in table.column_names else None)
    assert columns.elements == ("elements" if "elements" in table.column_names else None)
    back = pa.concat_tables([t for u in source.units for t in read_unit(source.schema, u, 3)])
    assert back.to_pylist() == table.to_pylist()
