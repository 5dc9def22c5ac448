"""Both stages as Ray Data calls them, on Arrow tables and without Ray."""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.datasets.manifest import find_columns
from tokenfocus_ray.distributed.score.finish import finish
from tokenfocus_ray.schema import SCORE_SCHEMA, ScoreRow, sample_id
from tokenfocus_ray.scoring.prepare import PrepareStage
from tokenfocus_ray.scoring.stage import ScoreStage
from tokenfocus_ray.scoring.wire import ID, PREPARED, prepared_column, rows_to_table, with_errors

CONFIG = ScoringConfig(backbone="tiny-qwen2_5_vl")
SPEC = loading.image_spec(registry.resolve(CONFIG.backbone))
PROMPT = "one red circle on snow"
_RNG = np.random.default_rng(0)
PIXELS = [_RNG.integers(0, 256, size=(48, 64, 3), dtype=np.uint8) for _ in range(3)]
ELEMENT = pa.struct([("text", pa.string()), ("type", pa.string())])


def png(pixels: np.ndarray[Any, Any] = PIXELS[0]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of images, sound and otherwise, that relative paths start from."""
    for i, pixels in enumerate(PIXELS):
        (tmp_path / f"{i}.png").write_bytes(png(pixels))
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"hello, I am no image")
    (tmp_path / "cut.png").write_bytes(png()[:500])
    (tmp_path / "thin.png").write_bytes(png(np.zeros((1, 201, 3), np.uint8)))
    (tmp_path / "folder.png").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def scorer() -> ScoreStage:
    torch.set_num_threads(1)
    table = pa.table({"prompt": ["x"], "image_uri": ["x"]})
    columns = find_columns(table.column_names, {}, "m")
    return ScoreStage(CONFIG, registry.resolve(CONFIG.backbone), columns, "cpu", None)


def prepare(
    table: pa.Table, base: Path | str = "/", mapping: dict[str, str] | None = None
) -> pa.Table:
    columns = find_columns(table.column_names, mapping or {}, "m")
    return PrepareStage(columns, {0: SPEC}, str(base))(table)


def images_of(table: pa.Table) -> list[dict[str, Any]]:
    """What became of each row's image."""
    return table[prepared_column(0)].to_pylist()


def run(
    stage: ScoreStage,
    table: pa.Table,
    base: Path | str = "/",
    mapping: dict[str, str] | None = None,
) -> pa.Table:
    """All stages, one actor's weights whatever the manifest's columns."""
    stage.columns = find_columns(table.column_names, mapping or {}, "m")
    return finish(stage(prepare(table, base, mapping)), stage.columns, ["one"])


BAD_FILES = {
    "nowhere.png": "image_missing",
    "": "image_missing",
    "folder.png": "image_not_a_file",
    "gopher://host/a.png": "image_unreadable",
    "empty.png": "image_corrupt",
    "text.png": "image_corrupt",
    "cut.png": "image_corrupt",
    "thin.png": "image_aspect_ratio",
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_marks_its_row_only(name: str, images: Path, scorer: ScoreStage) -> None:
    table = pa.table({"prompt": [PROMPT] * 3, "image_uri": ["0.png", name, "1.png"]})
    out = run(scorer, table, images)
    assert out["status"].to_pylist() == ["ok", "unscored", "ok"]
    assert out["error_code"].to_pylist() == [None, BAD_FILES[name], None]
    assert [math.isnan(score) for score in out["score"].to_pylist()] == [False, True, False]


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
        prepare(pa.table({"prompt": [PROMPT] * len(uris), "image_uri": pa.array(uris)}), images)
        for uris in (["0.png"], ["cut.png"], pa.array([], pa.string()))
    ]
    assert schemas[0].schema.equals(schemas[1].schema)
    assert schemas[0].schema.field(prepared_column(0)).type == PREPARED
    assert schemas[2].schema.field(prepared_column(0)).type == PREPARED


def test_given_id_is_kept(scorer: ScoreStage) -> None:
    table = pa.table({"prompt": [PROMPT] * 2, "image": [png()] * 2, "sample_id": ["b", "a"]})
    assert run(scorer, table)["sample_id"].to_pylist() == ["b", "a"]


def test_given_number_becomes_a_text(scorer: ScoreStage) -> None:
    table = pa.table({"prompt": [PROMPT], "image": [png()], "uid": [12]})
    out = run(scorer, table, mapping={"sample_id": "uid"})
    assert out["sample_id"].to_pylist() == ["12"]


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


def structs(*items: dict[str, Any] | None) -> pa.Array:
    return pa.array(items, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def test_hugging_face_images(images: Path, scorer: ScoreStage) -> None:
    column = structs(
        {"bytes": png(), "path": "0.png"},
        {"bytes": png(), "path": None},
        {"bytes": None, "path": str(images / "0.png")},
        {"bytes": None, "path": None},
        {"bytes": b"hello", "path": "a.png"},
        None,
    )
    table = pa.table({"prompt": [PROMPT] * 6, "image": column})
    out = run(scorer, table)
    assert out["error_code"].to_pylist() == [
        None,
        None,
        None,
        "image_missing",
        "image_corrupt",
        "image_missing",
    ]
    scores = out["score"].to_pylist()[:3]
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-5)


def test_path_of_a_hugging_face_image_starts_from_the_base(images: Path) -> None:
    table = pa.table({"prompt": [PROMPT], "image": structs({"bytes": None, "path": "0.png"})})
    assert [image["error_code"] for image in images_of(prepare(table, images))] == [None]


def test_path_in_an_image_column_starts_from_the_base(images: Path) -> None:
    table = pa.table({"prompt": [PROMPT], "image": ["0.png"]})
    assert [image["error_code"] for image in images_of(prepare(table, images))] == [None]


def sample_table(**more: Any) -> pa.Table:
    return pa.table(
        {
            "prompt": [PROMPT, "two blue stars, a very much longer prompt", None],
            "image": [png(pixels) for pixels in PIXELS],
            "elements": pa.array(
                [[{"text": "circle", "type": "object"}], None, [{"text": "ring", "type": None}]],
                pa.list_(ELEMENT),
            ),
            "prompt_type": ["real", None, "synthetic"],
            **more,
        }
    )


def test_scores_equal_those_in_process(scorer: ScoreStage) -> None:
    """One pipeline, several runners."""
    table = sample_table()
    rows = table.to_pylist()
    expected = scorer.scorer.score(
        PIXELS,
        [row["prompt"] for row in rows],
        [row["elements"] for row in rows],
        [row["prompt_type"] for row in rows],
    )
    out = run(scorer, table).to_pylist()
    for got, want in zip(out, expected, strict=True):
        assert (got["status"], got["error_code"]) == (want.status, want.error_code)
        assert got["error_message"] == want.error_message
        for name in ("score", "member_scores", "level_mass", "entropy", "element_scores"):
            assert got[name] == pytest.approx(getattr(want, name), abs=1e-5, nan_ok=True)
        for name in ("level_probs", "member_element_scores"):
            wanted = getattr(want, name)
            assert len(got[name]) == len(wanted)
            for mine, theirs in zip(got[name], wanted, strict=True):
                assert mine == pytest.approx(theirs, abs=1e-5)
        for name in ("width", "height", "n_visual_tokens"):
            assert got[name] == getattr(want, name)


def test_score_columns_have_the_schema(scorer: ScoreStage) -> None:
    out = run(scorer, sample_table())
    assert out.select(SCORE_SCHEMA.names).schema.remove_metadata() == SCORE_SCHEMA


def test_other_columns_pass_through_untouched(scorer: ScoreStage) -> None:
    nested = pa.array([[{"a": 1}], None, []], pa.list_(pa.struct([("a", pa.int8())])))
    table = sample_table(
        seed=pa.array([1, None, 3], pa.uint16()),
        meta=nested,
        kind=pa.array(["x", "y", "x"]).dictionary_encode(),
        blob=[b"1", None, b"3"],
    )
    out = run(scorer, table)
    kept = ["prompt", "elements", "prompt_type", "seed", "meta", "kind", "blob"]
    assert out.column_names == [*kept, *SCORE_SCHEMA.names]
    assert out.select(kept).replace_schema_metadata(None).equals(table.select(kept))


def test_column_with_the_name_of_a_score_column_is_renamed(scorer: ScoreStage) -> None:
    out = run(scorer, sample_table(score=[1, 2, 3], width=["a", "b", "c"]))
    assert out["input_score"].to_pylist() == [1, 2, 3]
    assert out["input_width"].to_pylist() == ["a", "b", "c"]
    assert out["width"].to_pylist() == [64, 64, 64]


def test_image_bytes_stay_behind(scorer: ScoreStage) -> None:
    assert "image" not in run(scorer, sample_table()).column_names


@pytest.mark.parametrize(
    "column",
    [
        pa.array([["circle (object)"]]),
        pa.array(['["circle (object)"]']),
        pa.array([[{"text": "circle", "type": "object"}]], pa.list_(ELEMENT)),
    ],
    ids=["labels", "json", "structs"],
)
def test_elements_in_any_form(column: pa.Array, scorer: ScoreStage) -> None:
    table = pa.table({"prompt": [PROMPT], "image": [png()], "elements": column})
    (row,) = run(scorer, table).to_pylist()
    (expected,) = scorer.scorer.score([PIXELS[0]], [PROMPT], [["circle (object)"]])
    assert row["element_scores"] == pytest.approx(expected.element_scores, abs=1e-5)


def test_elements_that_cannot_be_read_mark_their_row_only(scorer: ScoreStage) -> None:
    table = pa.table({"prompt": [PROMPT] * 2, "image": [png()] * 2, "elements": ["no json", "[]"]})
    out = run(scorer, table)
    assert out["error_code"].to_pylist() == ["elements_invalid", None]


@pytest.mark.parametrize("prompt", [None, "", " \n"], ids=repr)
def test_empty_prompt_marks_its_row_only(prompt: str | None, scorer: ScoreStage) -> None:
    table = pa.table({"prompt": [prompt, PROMPT], "image": [png()] * 2})
    assert run(scorer, table)["error_code"].to_pylist() == ["prompt_empty", None]


def test_prompts_that_are_numbers_are_asked_as_text(scorer: ScoreStage) -> None:
    table = pa.table({"prompt": [1984], "image": [png()]})
    (row,) = run(scorer, table).to_pylist()
    (expected,) = scorer.scorer.score([PIXELS[0]], ["1984"])
    assert row["score"] == pytest.approx(expected.score, abs=1e-5)
    assert row["prompt"] == 1984


def test_what_is_no_single_text_or_image_is_unscored(scorer: ScoreStage) -> None:
    """Before, Python's way of printing it was scored, or one row ended the job."""
    raw = pa.array([PROMPT.encode(), b"caf\xe9", b"", None], pa.binary())
    not_utf8 = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    for prompts in (raw, not_utf8):
        out = run(scorer, pa.table({"prompt": prompts, "image": [png()] * 4}))
        codes = out["error_code"].to_pylist()
        assert codes == [None, "text_invalid", "prompt_empty", "prompt_empty"]
        assert out["prompt"].to_pylist() == [PROMPT, "caf\\xe9", "", None]
        out["prompt"].validate(full=True)
    (expected,) = scorer.scorer.score([PIXELS[0]], [PROMPT])
    assert out["score"][0].as_py() == pytest.approx(expected.score, abs=1e-5)
    prompts = pa.array([[PROMPT], [PROMPT, "a sow"]])
    out = run(scorer, pa.table({"prompt": prompts, "image": [[png()], [png()]]}))
    assert out["error_code"].to_pylist() == [None, "type_invalid"]
    assert out["score"][0].as_py() == pytest.approx(expected.score, abs=1e-5)
    out = run(scorer, pa.table({"prompt": [PROMPT] * 2, "image": [[png()], [png(), png()]]}))
    assert out["error_code"].to_pylist() == [None, "type_invalid"]


def test_ids_and_paths_that_are_not_utf8_mark_their_row(scorer: ScoreStage, images: Path) -> None:
    raw = pa.array([b"0.png", b"caf\xe9.png"], pa.binary())
    names = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    table = pa.table({"prompt": [PROMPT] * 2, "image_uri": names, "sample_id": names})
    out = run(scorer, table, images)
    assert out["error_code"].to_pylist() == [None, "text_invalid"]
    assert out["sample_id"].to_pylist() == ["0.png", "caf\\xe9.png"]


def test_table_in_several_chunks(scorer: ScoreStage) -> None:
    """As a concatenation of blocks comes: tiles are looked up across chunks."""
    table = sample_table()
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    whole, parts = run(scorer, table)["score"], run(scorer, chunked)["score"]
    assert parts.to_pylist()[:2] == pytest.approx(whole.to_pylist()[:2], abs=1e-5)


def test_table_without_rows_keeps_its_schema(scorer: ScoreStage) -> None:
    table = sample_table(seed=[1, 2, 3])
    assert run(scorer, table.slice(0, 0)).schema.equals(run(scorer, table).schema)


def test_metadata_says_what_scored(scorer: ScoreStage) -> None:
    metadata = run(scorer, sample_table()).schema.metadata
    assert metadata == {k.encode(): v.encode() for k, v in scorer.scorer.metadata.items()}


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
        first, _ = out[prepared_column(backbone)].to_pylist()
        assert first["tiles"] == spec.prepare(PIXELS[0]).tiles_NHWC.tobytes()
    codes = [out[prepared_column(i)].to_pylist()[1]["error_code"] for i in (0, 2)]
    assert codes == ["image_aspect_ratio", None]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [("why", ["why"] * 3), (pa.chunked_array([[None, "cut", None]]), [None, "cut", None])],
    ids=["all", "some"],
)
def test_rows_that_are_not_to_be_scored(messages: Any, expected: list[str | None]) -> None:
    table = with_errors(prepare(sample_table()), 0, "source_corrupt", messages)
    found = images_of(table)
    assert [image["error_message"] for image in found] == expected
    codes = ["source_corrupt" if message else None for message in expected]
    assert [image["error_code"] for image in found] == codes
    assert found[0]["tiles"] == images_of(prepare(sample_table()))[0]["tiles"]


def test_rows_without_elements_or_members() -> None:
    table = rows_to_table([ScoreRow("a", "unscored", "prompt_empty", "give a prompt")])
    assert table.schema == SCORE_SCHEMA
    (row,) = table.to_pylist()
    assert (row["element_scores"], row["member_scores"], row["level_probs"]) == ([], [], [])


def test_no_rows() -> None:
    assert rows_to_table([]).schema == SCORE_SCHEMA


def test_images_outside_their_folder_are_refused_where_asked(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    data = png()
    (tmp_path / "outside.png").write_bytes(data)
    (tmp_path / "images" / "inside.png").write_bytes(data)
    table = pa.table({"prompt": ["a", "b"], "path": ["inside.png", "../outside.png"]})
    columns = find_columns(table.column_names, {}, "m")
    for confined, codes in ((False, [None, None]), (True, [None, "image_outside"])):
        stage = PrepareStage(columns, {0: SPEC}, str(tmp_path / "images"), confined)
        prepared = stage(table)["tokenfocus_prepared_0"].to_pylist()
        assert [row["error_code"] for row in prepared] == codes
