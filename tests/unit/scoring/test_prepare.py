"""The CPU stage, on Arrow tables and without Ray."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.support.stages import PIXELS, PROMPT, SPEC, images_of, png, prepare, structs
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.datasets.manifest import find_columns
from tokenfocus_ray.schema import sample_id
from tokenfocus_ray.scoring.prepare import PrepareStage
from tokenfocus_ray.scoring.wire import ID, PREPARED, prepared_column


@pytest.mark.parametrize("name", ["nowhere.png", "cut.png", "text.png"])
def test_message_names_the_file(name: str, images: Path) -> None:
    out = prepare(pa.table({"prompt": [PROMPT], "image_uri": [name]}), images)
    (image,) = images_of(out)
    assert name in image["error_message"]


def test_row_without_an_image() -> None:
    table = pa.table({"prompt": [PROMPT], "image_uri": pa.array([None], pa.string())})
    (row,) = images_of(prepare(table))
    assert row["error_code"] == "image_missing"
    assert row["error_message"] == (
        "the row has no image: column 'image_uri' is empty; give bytes, a path or a URI"
    )


def test_row_without_image_bytes() -> None:
    table = pa.table({"prompt": [PROMPT], "jpg": pa.array([None], pa.binary())})
    (row,) = images_of(prepare(table))
    assert row["error_message"] == (
        "the row has no image: column 'jpg' is empty; give bytes, a path or a URI"
    )


def test_uri_serves_where_bytes_are_missing(images: Path) -> None:
    table = pa.table(
        {
            "prompt": [PROMPT] * 2,
            "image": pa.array([None, png()], pa.binary()),
            "image_uri": ["0.png", "nowhere.png"],
        }
    )
    assert [image["error_code"] for image in images_of(prepare(table, images))] == [None, None]


def test_prepared_columns_come_last_and_bytes_go() -> None:
    table = pa.table({"seed": [7], "image": [png()], "prompt": [PROMPT]})
    assert prepare(table).column_names == ["seed", "prompt", ID, prepared_column(0)]


def test_what_is_prepared() -> None:
    (row,) = images_of(prepare(pa.table({"image": [png()], "prompt": [PROMPT]})))
    plan = SPEC.plan(64, 48)
    assert row["size"] == [64, 48]
    assert row["grid"] == list(plan.grid)
    assert row["n_visual_tokens"] == plan.n_visual_tokens
    assert row["tiles_shape"] == [1, plan.height, plan.width, 3]
    assert row["tiles"] == SPEC.prepare(PIXELS[0]).tiles_NHWC.tobytes()


def test_types_do_not_depend_on_the_rows(images: Path) -> None:
    """All bad, all good or none at all: blocks of one data set must share a schema."""
    schemas = [
        prepare(
            pa.table({"prompt": [PROMPT] * len(uris), "image_uri": pa.array(uris, pa.string())}),
            images,
        )
        for uris in (["0.png"], ["cut.png"], [])
    ]
    assert schemas[0].schema.equals(schemas[1].schema)
    assert schemas[0].schema.field(prepared_column(0)).type == PREPARED
    assert schemas[2].schema.field(prepared_column(0)).type == PREPARED


def test_id_of_a_uri_is_hashed(images: Path) -> None:
    table = pa.table({"prompt": [PROMPT], "image_uri": ["0.png"]})
    out = prepare(table, images)
    assert out["tokenfocus_id"].to_pylist() == [sample_id("0.png", PROMPT)]


def test_id_does_not_depend_on_where_images_lie(images: Path, tmp_path: Path) -> None:
    table = pa.table({"prompt": [PROMPT], "image_uri": ["0.png"]})
    here, there = (prepare(table, base)["tokenfocus_id"] for base in (images, "/nowhere"))
    assert here == there


def test_id_of_bytes_is_hashed() -> None:
    out = prepare(pa.table({"prompt": [PROMPT], "image": [png()]}))
    assert out["tokenfocus_id"].to_pylist() == [sample_id(png(), PROMPT)]


def test_missing_id_is_hashed() -> None:
    ids = pa.array(["a", None], pa.string())
    table = pa.table({"prompt": [PROMPT] * 2, "image": [png()] * 2, "sample_id": ids})
    out = prepare(table)
    assert out["tokenfocus_id"].to_pylist() == ["a", sample_id(png(), PROMPT)]


def test_prompts_of_one_image_have_ids_of_their_own() -> None:
    out = prepare(pa.table({"prompt": ["a", "b"], "image": [png()] * 2}))
    assert len(set(out["tokenfocus_id"].to_pylist())) == 2


def test_path_of_a_hugging_face_image_starts_from_the_base(images: Path) -> None:
    table = pa.table({"prompt": [PROMPT], "image": structs({"bytes": None, "path": "0.png"})})
    assert [image["error_code"] for image in images_of(prepare(table, images))] == [None]


def test_path_in_an_image_column_starts_from_the_base(images: Path) -> None:
    table = pa.table({"prompt": [PROMPT], "image": ["0.png"]})
    assert [image["error_code"] for image in images_of(prepare(table, images))] == [None]


def test_prepare_stage_survives_pickling(images: Path) -> None:
    table = pa.table({"prompt": [PROMPT], "image_uri": ["0.png"]})
    stage = PrepareStage(find_columns(table.column_names, {}, "m"), {0: SPEC}, str(images))
    assert pickle.loads(pickle.dumps(stage))(table).equals(stage(table))


def test_one_picture_for_several_backbones() -> None:
    """Read once, prepared for each; what one cannot take says nothing about the other."""
    other = loading.image_spec(registry.resolve("tiny-internvl"))
    table = pa.table(
        {"prompt": [PROMPT] * 2, "image": [png(), png(np.zeros((1, 201, 3), np.uint8))]}
    )
    stage = PrepareStage(find_columns(table.column_names, {}, "m"), {0: SPEC, 2: other}, "/")
    out = stage(table)
    assert out.column_names == ["prompt", ID, prepared_column(0), prepared_column(2)]
    for backbone, spec in {0: SPEC, 2: other}.items():
        first, _ = images_of(out, backbone)
        assert first["tiles"] == spec.prepare(PIXELS[0]).tiles_NHWC.tobytes()
    codes = [images_of(out, i)[1]["error_code"] for i in (0, 2)]
    assert codes == ["image_aspect_ratio", None]


def test_images_outside_their_folder_are_refused_where_asked(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    data = png()
    (tmp_path / "outside.png").write_bytes(data)
    (tmp_path / "images" / "inside.png").write_bytes(data)
    table = pa.table({"prompt": ["a", "b"], "path": ["inside.png", "../outside.png"]})
    columns = find_columns(table.column_names, {}, "m")
    for confined, codes in ((False, [None, None]), (True, [None, "image_outside"])):
        stage = PrepareStage(columns, {0: SPEC}, str(tmp_path / "images"), confined)
        assert [row["error_code"] for row in images_of(stage(table))] == codes
