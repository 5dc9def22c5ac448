"""Text manifests come back as they were written, or are refused by line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tokenfocus_ray.datasets.text_tables import read_small
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.schema import parse_elements
from tokenfocus_ray.tables.text import ERROR_CODE, ERROR_MESSAGE, TextOptions


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "prompt,image_path,seed\na pig,a.png,7\na sun,b.png,8\n")
    assert read_small(path, {}).to_pylist() == [
        {"prompt": "a pig", "image_path": "a.png", "seed": "7"},
        {"prompt": "a sun", "image_path": "b.png", "seed": "8"},
    ]


def test_tsv(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tsv", "prompt\timage_path\na pig, big\ta.png\n")
    assert read_small(path, {}).to_pylist() == [{"prompt": "a pig, big", "image_path": "a.png"}]


PROMPTS = [
    'a "quoted" pig, and a comma',
    "two\nlines\r\nor three",
    "  spaces at the ends  ",
    "null",
    "NA",
    "1984",
    "true",
    "",
    "\U0001f437 \u05e9\u05dc\u05d5\u05dd",
    "back\\slash \\n {x} <|im_end|>",
    "'single'",
]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_any_prompt_comes_back_from_csv(suffix: str, delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / f"m{suffix}"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("prompt", "image_path"), *((p, "a.png") for p in PROMPTS)])
    assert read_small(path, {})["prompt"].to_pylist() == PROMPTS


def test_any_prompt_comes_back_from_jsonl(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": p, "image_uri": "a.png"}) for p in PROMPTS]
    path = write(tmp_path / "m.jsonl", "\n".join(lines))
    assert read_small(path, {})["prompt"].to_pylist() == PROMPTS


def test_line_breaks_in_a_csv_of_several_blocks(tmp_path: Path) -> None:
    """Files are parsed in blocks of a megabyte: one must not end inside a prompt."""
    prompt = "a line\n" * 2000
    path = write(tmp_path / "m.csv", "prompt,image_path\n" + f'"{prompt}",a.png\n' * 200)
    assert read_small(path, {})["prompt"].to_pylist() == [prompt] * 200


def test_csv_with_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "prompt,image_path\na pig,a.png\n", "utf-8-sig")
    assert read_small(path, {}).column_names == ["prompt", "image_path"]


def test_csv_with_carriage_returns(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "prompt,image_path\r\na pig,a.png\r\n")
    assert read_small(path, {}).to_pylist() == [{"prompt": "a pig", "image_path": "a.png"}]


def test_csv_without_rows_has_its_columns(tmp_path: Path) -> None:
    table = read_small(write(tmp_path / "m.csv", "prompt,image_path\n"))
    assert (table.column_names, table.num_rows) == (["prompt", "image_path"], 0)


def test_jsonl(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a pig", "elements": [{"text": "pig", "type": "animal"}], "seed": 7},
        {"prompt": "a sun", "elements": None, "extra": "only here"},
        {"prompt": None, "elements": []},
    ]
    path = write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_small(path, {}).to_pylist() == [
        {"seed": None, "extra": None, **rows[0]},
        {"seed": None, **rows[1]},
        {"seed": None, "extra": None, **rows[2]},
    ]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (
            "m.csv",
            "prompt,image_path\na,b,c\n",
            "cannot be read as csv: line 2: 3 values for 2 columns: a,b,c",
        ),
        ("m.csv", "", "cannot be read as csv: it is empty"),
        ("m.tsv", "", "cannot be read as tsv: it is empty"),
        ("m.jsonl", "", "cannot be read as jsonl: it has no rows"),
        (
            "m.jsonl",
            '{"prompt": "a"}\n{"prompt":\n',
            "cannot be read as jsonl: line 2, character 12: Expecting value",
        ),
        (
            "m.jsonl",
            '{"prompt": "a"}\n{"n": ' + "[" * 600 + "]" * 600 + "}",
            "cannot be read as jsonl: line 2: nested more than 100 deep",
        ),
        (
            "m.jsonl",
            "[" * 100_000,
            "cannot be read as jsonl: line 1: maximum recursion depth exceeded while "
            "decoding a JSON array from a unicode string",
        ),
        (
            "m.csv",
            "prompt,prompt\na,b\n",
            "cannot be read as csv: column 'prompt' stands there twice; rename or drop one",
        ),
    ],
    ids=["ragged", "empty csv", "empty tsv", "empty jsonl", "cut jsonl", "deep", "deeper", "twice"],
)
def test_file_that_cannot_be_parsed(name: str, text: str, problem: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(ManifestError) as caught:
        read_small(path, {})
    assert str(caught.value) == f"{path}: {problem}"


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_file_that_is_not_there(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(ManifestError) as caught:
        read_small(path, {})
    assert str(caught.value).startswith(f"{path}: cannot be read as {path.suffix[1:]}: ")


@pytest.mark.parametrize("prompt", ["1984", "007", "null", "NA", "2024-01-01", "true", "1e5"])
def test_csv_of_prompts_that_look_like_something_else(prompt: str, tmp_path: Path) -> None:
    """Where all prompts of a file are such, "007" becomes 7 and "null" an empty prompt."""
    path = write(tmp_path / "m.csv", f"prompt,image_path\n{prompt},a.png\n")
    assert read_small(path, {})["prompt"].to_pylist() == [prompt]


def test_csv_ids_keep_their_zeros(tmp_path: Path) -> None:
    """img2dataset's keys are such numbers; scores could not be joined to them any more."""
    path = write(tmp_path / "m.csv", "sample_id,prompt,image_path\n000000012,a pig,a.png\n")
    assert read_small(path, {})["sample_id"].to_pylist() == ["000000012"]


REMEDY = (
    'write a quote inside of a value twice ("") and the value in quotes, or take quotes for text '
    "with `tokenfocus score --no-quotes`"
)


def tsv_of(*prompts: str) -> str:
    return "\n".join(["prompt\timage_path", *(f"{p}\t{i}.png" for i, p in enumerate(prompts))])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            tsv_of("a pig", '"a sun', "a cat", "a dog"),
            "line 3: a quote opens in this row and never closes",
        ),
        (
            tsv_of("a pig", '"Night" by him', "a cat"),
            "line 3: text follows a closing quote (on line 3)",
        ),
        (
            tsv_of("a pig", '"a sun', '"a cat" there', "a dog"),
            "line 3: text follows a closing quote (on line 4)",
        ),
        (
            tsv_of("a pig", '"a sun', 'a "cat"', "a dog"),
            "line 3: text follows a closing quote (on line 4)",
        ),
        (
            tsv_of("a pig", '"a sun', 'cats, 12"', "a dog"),
            "line 3: a quote that opens here closes on line 4, so that 2 lines that look like rows "
            "would be one",
        ),
    ],
    ids=["never closed", "closed early", "closed by the next", "closed inside", "closed at an end"],
)
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_quote_that_swallows_rows_is_refused_by_line(
    text: str, problem: str, suffix: str, tmp_path: Path
) -> None:
    """Before, four rows became one to three, without a word."""
    text = text.replace("cats, 12", "cats 12")
    path = write(tmp_path / f"m{suffix}", text.replace("\t", "," if suffix == ".csv" else "\t"))
    with pytest.raises(ManifestError) as caught:
        read_small(path, {})
    assert str(caught.value) == f"{path}: cannot be read as {suffix[1:]}: {problem}; {REMEDY}"


@pytest.mark.parametrize(
    ("prompts", "problem"),
    [
        (["a", '"b', "c", "d"], "line 3: a quote opens in this row and never closes"),
        (
            ["a", '"b', 'c"', "d"],
            "line 3: a quote that opens here closes on line 4, so that 2 lines that look like rows "
            "would be one",
        ),
    ],
    ids=["never closed", "closed at an end"],
)
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_quote_in_the_last_column_is_refused_too(
    prompts: list[str], problem: str, suffix: str, tmp_path: Path
) -> None:
    """Before, all that followed was one prompt, and scored."""
    rows = [("image_path", "prompt"), *((f"{i}.png", p) for i, p in enumerate(prompts))]
    text = "\n".join(("," if suffix == ".csv" else "\t").join(row) for row in rows)
    path = write(tmp_path / f"m{suffix}", text)
    with pytest.raises(ManifestError) as caught:
        read_small(path, {})
    assert str(caught.value) == f"{path}: cannot be read as {suffix[1:]}: {problem}; {REMEDY}"


def test_quotes_are_text_where_the_user_says_so(tmp_path: Path) -> None:
    prompts = ["a pig", '"a sun', '"Night" by him', 'a "cat"', '12" records', '""']
    table = read_small(write(tmp_path / "m.tsv", tsv_of(*prompts)), {}, TextOptions(quotes=False))
    assert table["prompt"].to_pylist() == prompts


def test_prompts_of_several_lines_with_as_many_commas_in_each(tmp_path: Path) -> None:
    text = 'prompt,image_path\n"a pig, big\nand happy",a.png\n'
    assert read_small(write(tmp_path / "m.csv", text), {}).to_pylist() == [
        {"prompt": "a pig, big\nand happy", "image_path": "a.png"}
    ]


@pytest.mark.parametrize("quoted", ["", '"'])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_columns_that_pass_through_are_not_rewritten(
    suffix: str, quoted: str, tmp_path: Path
) -> None:
    """Before, they became 10005, 1e10 a float, "null" null, and a date a time of day."""
    row = {
        "prompt": "a pig", "image_path": "a.png", "key": "000010005", "hash": "1e10",
        "zip": "01234", "day": "2024-01-01", "word": "null", "is": "true", "none": "",
        "seed": "18446744073709551617",
    }  # fmt: skip
    sep = "," if suffix == ".csv" else "\t"
    lines = [sep.join(row), sep.join(f"{quoted}{v}{quoted}" for v in row.values())]
    path = write(tmp_path / f"m{suffix}", "\n".join(lines))
    assert read_small(path, {}).to_pylist() == [row]


def test_a_table_of_scores_has_null_where_nothing_stands(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "m_a,label,prompt\n1.5,,a\n,2,\n")
    assert read_small(path).to_pylist() == [
        {"m_a": "1.5", "label": None, "prompt": "a"},
        {"m_a": None, "label": "2", "prompt": None},
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("name", ["m.csv", "m.tsv", "m.jsonl"])
def test_a_manifest_with_a_byte_order_mark(name: str, encoding: str, tmp_path: Path) -> None:
    texts = {
        "m.csv": "prompt,path\ncaf\u00e9,a.png\n",
        "m.tsv": "prompt\tpath\ncaf\u00e9\ta.png\n",
        "m.jsonl": '{"prompt": "caf\u00e9", "path": "a.png"}\n',
    }
    path = write(tmp_path / name, texts[name], encoding)
    assert read_small(path, {}).to_pylist() == [{"prompt": "caf\u00e9", "path": "a.png"}]


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_a_manifest_of_another_encoding_is_refused_by_line_or_named(
    name: str, tmp_path: Path
) -> None:
    texts = {
        "m.csv": "prompt\na pig\ncaf\u00e9\n",
        "m.jsonl": '{"n": 1}\n\n{"prompt": "caf\u00e9"}',
    }
    path = write(tmp_path / name, texts[name], "latin-1")
    with pytest.raises(ManifestError) as caught:
        read_small(path, {})
    assert str(caught.value).startswith(f"{path}: line 3 is not utf-8: byte ")
    assert "name its encoding (`--encoding` of `tokenfocus score`, " in str(caught.value)
    table = read_small(path, {}, TextOptions(encoding="latin-1"))
    assert table["prompt"].to_pylist()[-1] == "caf\u00e9"


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    return write(path / "m.jsonl", "\n".join(map(json.dumps, rows)))


def test_half_a_surrogate_pair_in_jsonl_marks_its_row(tmp_path: Path) -> None:
    """Before, the file was refused; elsewhere in the row it is written out."""
    half = "\ud83d"
    path = jsonl(
        tmp_path,
        {"prompt": "a pig", "path": "0.png", "note": f"{half}!"},
        {"prompt": f"{half} pig", "path": "1.png"},
        {"prompt": "a sun", "path": f"{half}.png"},
        {"prompt": "a cat", "path": "3.png", "elements": ["cat (animal)", half]},
    )
    rows = read_small(path, {}).to_pylist()
    assert [r[ERROR_CODE] for r in rows] == [None, *["text_invalid"] * 3]
    assert rows[0]["note"] == "\\ud83d!"
    assert [r[ERROR_MESSAGE] for r in rows[1:]] == [
        "prompt is not valid Unicode: '\\\\ud83d pig'",
        "path is not valid Unicode: '\\\\ud83d.png'",
        "elements is not valid Unicode: ['cat (animal)', '\\\\ud83d']",
    ]


def test_values_that_are_no_text_mark_their_row(tmp_path: Path) -> None:
    """Before, Python's way of printing them was scored; ids of two types refused the file."""
    path = jsonl(
        tmp_path,
        {"prompt": ["a pig"], "path": "0.png", "sample_id": 1},
        {"prompt": ["a pig", "a sow"], "path": "1.png", "sample_id": "a"},
        {"prompt": {"en": "a pig"}, "path": "2.png", "sample_id": 10**19},
        {"prompt": 1984, "path": ["3.png"], "sample_id": 1.0},
        {"prompt": True, "path": "4.png", "sample_id": None},
        {"prompt": "a pig", "path": None, "sample_id": "b"},
    )
    table = read_small(path, {})
    assert table["sample_id"].to_pylist() == ["1", "a", "10000000000000000000", None, None, "b"]
    assert table["prompt"].to_pylist() == ["a pig", None, None, "1984", None, "a pig"]
    assert table["path"].to_pylist() == ["0.png", "1.png", "2.png", "3.png", "4.png", None]
    assert table[ERROR_MESSAGE].to_pylist() == [
        None,
        "prompt is ['a pig', 'a sow'] (a list of 2); give one text",
        "prompt is {'en': 'a pig'} (dict); give one text",
        "sample_id is 1.0 (float); give one text",
        "prompt is True (bool); give one text",
        None,
    ]


def test_a_file_in_which_no_row_has_a_text_is_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *[{"prompt": ["a", "b"], "path": "0.png"}] * 2)
    with pytest.raises(ManifestError) as caught:
        read_small(path, {})
    assert str(caught.value) == (
        f"{path}: cannot be read as jsonl: no row can be scored; in the first, prompt is "
        f"['a', 'b'] (a list of 2); give one text"
    )


def test_lists_that_no_arrow_stream_holds_are_text(tmp_path: Path) -> None:
    """A stream of Arrow, as pieces travel in, holds 64 levels."""
    deep: Any = "x"
    for _ in range(60):
        deep = [deep]
    table = read_small(jsonl(tmp_path, {"prompt": "a", "deep": deep, "flat": [["x"]]}), {})
    assert table["deep"].to_pylist() == [json.dumps(deep)]
    assert table["flat"].to_pylist() == [[["x"]]]


def test_jsonl_of_several_types_and_large_numbers_loses_nothing(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"seed": 2**63, "ids": [2**70], "mixed": 1, "float": 2**53 + 1, "elements": ["a"]},
        {"seed": 7, "ids": [1], "mixed": "a", "float": 0.5, "elements": [{"text": "b"}]},
    ]
    assert read_small(jsonl(tmp_path, *rows), {}).to_pylist() == [
        {"seed": "9223372036854775808", "ids": "[1180591620717411303424]", "mixed": "1",
         "float": "9007199254740993", "elements": '["a"]'},
        {"seed": "7", "ids": "[1]", "mixed": "a", "float": "0.5", "elements": '[{"text": "b"}]'},
    ]  # fmt: skip


def test_jsonl_of_prompts_that_look_like_dates(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", '{"prompt": "2024-01-01", "image_uri": "a.png"}\n')
    assert read_small(path, {})["prompt"].to_pylist() == ["2024-01-01"]


def test_jsonl_with_evalmuse_labels_as_keys(tmp_path: Path) -> None:
    """Every row would be asked about the elements of all rows."""
    rows = [{"elements": {"pig (animal)": [1, 0]}}, {"elements": {"sun (object)": [1, 1]}}]
    path = write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, rows)))
    cells = read_small(path, {})["elements"].to_pylist()
    found = [[element.label() for element in parse_elements(cell) or []] for cell in cells]
    assert found == [["pig (animal)"], ["sun (object)"]]
