"""DSG's questions, which depend on each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import layouts
from tests.support.imports import imported
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE


def test_a_row_a_prompt(tmp_path: Path) -> None:
    cube, bench = imported("dsg", layouts.dsg(tmp_path / "d.csv"), tmp_path).to_pylist()
    assert [(e["text"], e["type"]) for e in cube["elements"]] == [
        ("a rubix cube", "object"),
        ("the rubix cube is purple", "color"),
        ("this is a photo", "global"),
    ]
    assert cube["element_parents"] == [[], [0], []]
    assert bench["element_parents"] == [[], [], [0, 1]]
    assert bench["elements"][2]["text"] == "the bench is near the trees"
    assert bench["element_classes"] == ["entity/whole", "entity/whole", "relation/spatial"]
    assert cube["element_tuples"] == ["e (rubix cube)", "a", "g (photo)"]
    assert (bench["prompt_id"], bench["prompt_index"]) == ("v_57", 1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "v_57,bench near trees,x,4,9,entity,whole,e,Is there x?",
            "prompt 'v_57': question '4' depends on '9', which is none of its questions (1, 2, 3, "
            "4); put its dependency right",
        ),
        (
            "v_57,bench near trees,x,4,one,entity,whole,e,Is there x?",
            "prompt 'v_57': question '4' depends on 'one', which is none of its questions (1, 2, "
            "3, 4); put its dependency right",
        ),
        (
            "v_57,bench,x,4,0,entity,whole,e,Is there x?",
            "prompt 'v_57' is 'bench near trees' and, in row 6, 'bench'; give each prompt its own "
            "id",
        ),
    ],
)
def test_what_is_wrong_stays_with_its_row(row: str, message: str, tmp_path: Path) -> None:
    path = layouts.dsg(tmp_path / "d.csv", [*layouts.DSG, row])
    cube, bench = imported("dsg", path, tmp_path).to_pylist()
    assert (cube[ERROR_CODE], bench[ERROR_CODE]) == (None, "elements_invalid")
    assert bench[ERROR_MESSAGE] == message


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("item_id,text\na,b\n")
    with pytest.raises(ManifestError) as caught:
        imported("dsg", tmp_path / "d.csv", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/d.csv: missing columns proposition_id, dependency, question_natural_language; "
        f"wanted item_id, text, proposition_id, dependency, question_natural_language; found "
        f"item_id, text"
    )
    with pytest.raises(ManifestError) as caught:
        imported("dsg", tmp_path, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: wanted DSG's .csv of questions, such as dsg-1k-anns.csv"
    )
