"""Both stages as Ray Data calls them, on Arrow tables and without Ray."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from tests.support.stages import (
    CONFIG,
    ELEMENT,
    PIXELS,
    PROMPT,
    png,
    prepare,
    sample_table,
    structs,
)
from tokenfocus_ray.backbones import registry
from tokenfocus_ray.datasets.manifest import find_columns
from tokenfocus_ray.distributed.score.finish import finish_rows
from tokenfocus_ray.schema import SCORE_SCHEMA
from tokenfocus_ray.scoring.stage import ScoreStage

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


@pytest.fixture(scope="module")
def scorer() -> ScoreStage:
    torch.set_num_threads(1)
    table = pa.table({"prompt": ["x"], "image_uri": ["x"]})
    columns = find_columns(table.column_names, {}, "m")
    return ScoreStage(CONFIG, registry.resolve(CONFIG.backbone), columns, "cpu", None)


def run(
    stage: ScoreStage,
    table: pa.Table,
    base: Path | str = "/",
    mapping: dict[str, str] | None = None,
) -> pa.Table:
    """All stages, one actor's weights whatever the manifest's columns."""
    stage.columns = find_columns(table.column_names, mapping or {}, "m")
    return finish_rows(stage(prepare(table, base, mapping)), stage.columns, ["one"])


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_marks_its_row_only(name: str, images: Path, scorer: ScoreStage) -> None:
    table = pa.table({"prompt": [PROMPT] * 3, "image_uri": ["0.png", name, "1.png"]})
    out = run(scorer, table, images)
    assert out["status"].to_pylist() == ["ok", "unscored", "ok"]
    assert out["error_code"].to_pylist() == [None, BAD_FILES[name], None]
    scores: list[Any] = out["score"].to_pylist()
    assert [math.isnan(score) for score in scores] == [False, True, False]


def test_given_id_is_kept(scorer: ScoreStage) -> None:
    table = pa.table({"prompt": [PROMPT] * 2, "image": [png()] * 2, "sample_id": ["b", "a"]})
    assert run(scorer, table)["sample_id"].to_pylist() == ["b", "a"]


def test_given_number_becomes_a_text(scorer: ScoreStage) -> None:
    table = pa.table({"prompt": [PROMPT], "image": [png()], "uid": [12]})
    out = run(scorer, table, mapping={"sample_id": "uid"})
    assert out["sample_id"].to_pylist() == ["12"]


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
def test_elements_in_any_form(column: pa.Array[Any], scorer: ScoreStage) -> None:
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
