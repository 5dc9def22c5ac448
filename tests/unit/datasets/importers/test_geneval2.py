"""GenEval 2's prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import layouts
from tests.support.imports import imported
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE


def test_a_row_a_prompt(tmp_path: Path) -> None:
    bicycles, pig = imported(
        "geneval2", layouts.geneval2(tmp_path / "g.jsonl"), tmp_path
    ).to_pylist()
    assert [(e["text"], e["type"]) for e in bicycles["elements"]] == [
        ("four bicycles", "count"),
        ("the bicycles are white", "attribute"),
        ("bicycles", "object"),
        ("the bicycles are in front of the cows", "position"),
        ("three cows", "count"),
    ]
    assert [e["text"] for e in pig["elements"]] == ["one backpack", "the backpack is green"]
    assert [row["atom_count"] for row in (bicycles, pig)] == [7, 3]
    assert [row["prompt_id"] for row in (bicycles, pig)] == ["0", "1"]


def test_skills_that_do_not_fit(tmp_path: Path) -> None:
    line: dict[str, Any] = {**layouts.GENEVAL2[1], "skills": ["count"]}
    path = layouts.geneval2(tmp_path / "g.jsonl", [line])
    (row,) = imported("geneval2", path, tmp_path).to_pylist()
    assert row[ERROR_CODE] == "elements_invalid"
    assert row[ERROR_MESSAGE] == (
        "prompt 0: 2 questions and skills ['count']; give one skill for each question"
    )
    assert [e["type"] for e in row["elements"]] == ["", ""]


def test_questions_that_are_none(tmp_path: Path) -> None:
    path = layouts.geneval2(tmp_path / "g.jsonl", [{"prompt": "a", "vqa_list": [["Is it?"]]}])
    with pytest.raises(ManifestError) as caught:
        imported("geneval2", path, tmp_path)
    assert str(caught.value) == (
        f"{path}: record 0: vqa_list is [['Is it?']]; give a list of a question and its expected "
        f"answer each"
    )
