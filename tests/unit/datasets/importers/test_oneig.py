"""OneIG-Bench's prompts and files of questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import layouts
from tests.support.imports import imported
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE


def test_a_row_a_prompt(tmp_path: Path) -> None:
    src, lines = layouts.oneig(tmp_path / "o"), list[str]()
    anime, human, text = imported("oneig", src, tmp_path, lines=lines).to_pylist()
    assert [e["text"] for e in anime["elements"]] == ["boys", "four boys", "this is anime"]
    assert anime["element_parents"] == [[], [0], []]
    assert [e["text"] for e in human["elements"]] == ["a girl", "the girl is alone"]
    assert (text["prompt"], text["elements"], text[ERROR_CODE]) == ('a sign "HI"', None, None)
    assert [row["prompt_id"] for row in (anime, human, text)] == ["000"] * 3
    assert [row["category"] for row in (anime, human, text)] == ["anime", "human", "text"]
    assert anime["type"] == "T"
    assert lines == [f"{src}/OneIG-Bench.csv: there are no questions about text"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (None, "has no entry in the file of questions; add it, or drop the prompt"),
        (
            {"question": "{", "dependency": "{}"},
            ": question is no JSON (Expecting property name enclosed in double quotes: line 1 "
            "column 2 (char 1)): '{'",
        ),
        ({"question": {"1": "Is it?"}}, ": dependency is None; give an object by number"),
        (
            {"question": {"1": "Is it?"}, "dependency": {"1": [0], "2": [1]}},
            ": the dependency of '2' is of no question; drop it",
        ),
        (
            {"question": {"1": "Is it?"}, "dependency": {"1": [{}]}},
            ": the dependency of '1' is [{}]; give numbers",
        ),
    ],
)
def test_what_is_wrong_stays_with_its_row(entry: object, message: str, tmp_path: Path) -> None:
    src = layouts.oneig(tmp_path / "o")
    entries = {} if entry is None else {"000": entry}
    (src / "scripts/alignment/Q_D/anime.json").write_text(json.dumps({"9": entry, **entries}))
    lines: list[str] = []
    rows = imported("oneig", src, tmp_path, lines=lines).to_pylist()
    assert [row[ERROR_CODE] for row in rows] == ["elements_invalid", None, None]
    told = rows[0][ERROR_MESSAGE].removeprefix("prompt '000' of anime").strip()
    assert told == message.strip()
    assert lines[-1] == (f"{src}/OneIG-Bench.csv: 1 prompts with questions are not in it: anime 9")


def test_a_category_that_is_none(tmp_path: Path) -> None:
    src = layouts.oneig(tmp_path / "o")
    with (src / "OneIG-Bench.csv").open("a") as file:
        file.write("Sculpture,001,a stone,NP,short,None\n")
    row = imported("oneig", src / "OneIG-Bench.csv", tmp_path).to_pylist()[-1]
    assert row[ERROR_MESSAGE] == (
        "prompt '001' is of category 'Sculpture'; known are anime, human, object, text, reasoning, "
        "multilingualism"
    )


def test_refusals(tmp_path: Path) -> None:
    src = layouts.oneig(tmp_path / "o")
    with pytest.raises(ManifestError) as caught:
        imported("oneig", src / "none.json", tmp_path)
    assert str(caught.value) == (
        f"'{src}/none.json': wanted OneIG-Bench.csv, or the folder with it"
    )
    (src / "OneIG-Bench-ZH.csv").write_text("category,id,prompt_cn\nPortrait,000,女孩\n")
    with pytest.raises(ManifestError) as caught:
        imported("oneig", src, tmp_path)
    assert str(caught.value) == (
        f"'{src}' holds ['OneIG-Bench-ZH.csv', 'OneIG-Bench.csv']; name the .csv of prompts, "
        f"OneIG-Bench.csv"
    )
    with pytest.raises(ManifestError) as caught:
        imported("oneig", src / "OneIG-Bench-ZH.csv", tmp_path)
    assert str(caught.value) == (
        f"{src}/OneIG-Bench-ZH.csv: none of the files of questions, such as anime_zh.json, lies "
        f"beside it, in Q_D or in scripts/alignment/Q_D; copy them there"
    )
    (src / "OneIG-Bench-ZH.csv").write_text("id,prompt_cn\n000,女孩\n")
    with pytest.raises(ManifestError) as caught:
        imported("oneig", src / "OneIG-Bench-ZH.csv", tmp_path)
    assert str(caught.value) == (
        f"{src}/OneIG-Bench-ZH.csv: found columns ['id', 'prompt_cn']; wanted category, id and a "
        f"prompt (one of ['prompt_en', 'prompt_cn', 'prompt_zh', 'prompt']), as in OneIG-Bench.csv"
    )
