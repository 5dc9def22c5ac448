"""TIFA's questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import layouts
from tests.support.imports import imported
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE


def test_a_row_a_prompt(tmp_path: Path) -> None:
    cats, surfer = imported("tifa", layouts.tifa(tmp_path / "t.json"), tmp_path).to_pylist()
    assert [(e["text"], e["type"]) for e in cats["elements"]] == [
        ("cats", "animal/human"),
        ("three cats", "counting"),
    ]
    assert [(e["text"], e["type"]) for e in surfer["elements"]] == [
        ("the board is white", "color"),
        ("the board is white", "color"),
        ("no dog", "animal/human"),
        ('the answer to "who has a board?" is "surfer"', "object"),
    ]
    assert surfer["element_answers"] == ["yes", "white", "no", "surfer"]
    assert surfer["element_choices"][0] == ["yes", "no"]
    assert (cats["prompt_id"], surfer["prompt_id"]) == ("drawbench_52", "coco_301091")
    assert (cats["coco_val_id"], surfer["coco_val_id"]) == (None, "380711")
    assert "element_parents" not in cats


def test_an_id_of_two_prompts(tmp_path: Path) -> None:
    path = layouts.tifa(tmp_path / "t.json")
    records = json.loads(path.read_text())
    records[1]["caption"] = "Another."
    path.write_text(json.dumps(records))
    cats, surfer = imported("tifa", path, tmp_path).to_pylist()
    assert (cats[ERROR_CODE], surfer[ERROR_CODE]) == ("elements_invalid", None)
    assert cats[ERROR_MESSAGE] == (
        "prompt 'drawbench_52' is 'Three cats and two dogs sitting on the grass.' and, in record "
        "1, 'Another.'; give each prompt its own id"
    )


def test_prompts_without_questions(tmp_path: Path) -> None:
    """The file of prompts beside it."""
    path = tmp_path / "t.json"
    path.write_text(json.dumps([{"id": "a", "caption": "b"}]))
    with pytest.raises(ManifestError) as caught:
        imported("tifa", path, tmp_path)
    assert str(caught.value) == f"{path}: record 0: question is None; give a text"
