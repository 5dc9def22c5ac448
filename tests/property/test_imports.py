"""Whatever a data set holds, no row of it is lost and no image comes twice."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import layouts
from tests.support.imports import imported
from tokenfocus_ray.datasets.importers.claims import claim
from tokenfocus_ray.tables.parts import PartSize, cut_parts
from tokenfocus_ray.tables.text import ERROR_CODE

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
_ROW = st.fixed_dictionaries(
    {
        "prompt": st.none() | _TEXT,
        "image": st.none()
        | st.fixed_dictionaries(
            {"bytes": st.none() | st.binary(max_size=4), "path": st.none() | _TEXT}
        ),
        "elements": st.none() | st.lists(_TEXT, max_size=3),
        "seed": st.none() | st.integers(0, 9),
    }
)
_SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("elements", pa.list_(pa.string())),
        ("seed", pa.int64()),
    ]
)


@settings(deadline=None, max_examples=60)
@given(st.lists(_ROW, min_size=1, max_size=12), st.integers(1, 5))
def test_rows_in_are_rows_out(rows: list[dict[str, Any]], group: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), path, row_group_size=group)
        found = imported("hf-parquet", path, Path(folder)).to_pylist()
    assert len(found) == len(rows)
    for row, own in zip(rows, found, strict=True):
        image = row["image"] or {"bytes": None, "path": None}
        assert (own["prompt"], own["image"], own["seed"]) == (
            row["prompt"], image["bytes"], row["seed"],
        )  # fmt: skip
        read = [text for text in row["elements"] or [] if text.strip()]
        if own[ERROR_CODE] is None:
            assert len(own["elements"] or []) == len(row["elements"] or [])
        else:
            assert own[ERROR_CODE] == "elements_invalid"
            assert len(read) < len(row["elements"])


_PAIR = st.tuples(
    st.sampled_from("ab"), st.integers(0, 5), st.integers(0, 5), st.sampled_from([None, 0, 0.5, 1])
)


@settings(deadline=None, max_examples=40)
@given(st.lists(_PAIR, min_size=1, max_size=14), st.integers(1, 4))
def test_each_image_of_a_prompt_comes_once(pairs: list[Any], group: int) -> None:
    given_pairs = [{"caption": p, "images": (a, b), "label_0": label} for p, a, b, label in pairs]
    with tempfile.TemporaryDirectory() as folder:
        src = layouts.pickapic(Path(folder) / "src", given_pairs, group)
        found = imported("pickapic", src, Path(folder)).to_pylist()
    images = list(dict.fromkeys((p, n) for p, a, b, _ in pairs for n in (a, b)))
    assert [(r["prompt"], r["image_uid"]) for r in found] == [(p, f"uid-{n}") for p, n in images]
    compared = sum(label is not None and a != b for _, a, b, label in pairs)
    assert sum(row["human_comparisons"] for row in found) == 2 * compared
    assert sum(row["human_wins"] for row in found) == compared
    assert sum(len(row["comparisons"]) for row in found) == 2 * compared


@settings(deadline=None)
@given(
    st.lists(st.lists(st.binary(max_size=60), max_size=9), max_size=6),
    st.integers(1, 5), st.integers(1, 200), st.integers(1, 12), st.integers(1, 400),
)  # fmt: skip
def test_parts_hold_all_rows_in_their_order(
    tables: list[list[bytes]], group: int, group_bytes: int, part: int, part_bytes: int
) -> None:
    made = [pa.table({"b": pa.array(rows, pa.binary())}) for rows in tables]
    files = list(cut_parts(made, PartSize(group, group_bytes, part, part_bytes)))
    read = [pq.ParquetFile(pa.BufferReader(data)) for data in files]
    rows = [value for file in read for value in file.read()["b"].to_pylist()]
    assert rows == list(itertools.chain.from_iterable(tables))
    for file in read:
        assert file.metadata.num_rows < part + group
        sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        assert max(sizes) <= group


@given(_TEXT, _TEXT, st.lists(_TEXT, max_size=2), _TEXT)
def test_a_question_is_always_a_claim(
    question: str, answer: str, known: list[str], prompt: str
) -> None:
    found = claim(f"Is the {question}", answer, known, prompt)
    assert found.strip()
    if answer.strip().casefold() == "no":
        assert "no" in found
