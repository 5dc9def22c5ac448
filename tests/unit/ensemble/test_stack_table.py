"""What a table must have, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tokenfocus_ray.ensemble.stack_table import StackTable, read_stack_table
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation.measured import from_table
from tokenfocus_ray.tables.columns import numbers

N = 40


def table(**changes: Any) -> pa.Table:
    generator = np.random.default_rng(0)
    labels = generator.integers(1, 6, N).astype(float)
    columns: dict[str, Any] = {
        "prompt_id": [f"p{i // 4}" for i in range(N)],
        "human": labels,
        "m_a": labels + generator.normal(size=N),
        "m_b": labels + generator.normal(size=N),
        "other": generator.normal(size=N),
    }
    return pa.table({n: c for n, c in (columns | changes).items() if c is not None})


def read(given: pa.Table, **options: Any) -> StackTable:
    values: dict[str, Any] = {
        "target": "human", "features": ["m_*"], "group": "prompt_id", "label_range": None,
        "where": "t.csv",
    }  # fmt: skip
    return read_stack_table(given, **{**values, **options})


def test_a_table_as_it_should_be() -> None:
    found = read(table())
    assert found.names == ("m_a", "m_b")
    assert found.values.shape == (N, 2)
    assert len(set(found.groups)) == 10
    assert (found.low, found.high, found.notes) == (1.0, 5.0, ())
    assert found.fingerprint() == read(table()).fingerprint()
    assert found.fingerprint() != read(table(m_a=np.arange(N))).fingerprint()


def test_columns_by_name_and_pattern() -> None:
    assert read(table(), features=["other", "m_*", "m_a"]).names == ("other", "m_a", "m_b")
    assert read(table(), features=["*"]).names == ("m_a", "m_b", "other")


def test_a_name_with_brackets_means_itself() -> None:
    """As a pattern it would mean another column, or none."""
    base = table()
    given = table(
        **{"m_[a]": base["m_a"], "m_[b]": base["m_b"], "human[1]": base["human"], "human": None}
    )
    found = read(given, target="human[1]", features=["m_[a]", "m_[b]"])
    assert found.names == ("m_[a]", "m_[b]")
    np.testing.assert_array_equal(found.labels, base["human"])
    assert read(given, target="human[[]?]", features=["m_[ab]"]).names == ("m_a", "m_b")
    options: dict[str, Any] = {"group": None, "label_range": None, "against": None}
    joined = from_table(given, "t.csv", target="human[1]", column="m_[a]", **options).joined
    np.testing.assert_array_equal(joined.labels, base["human"])


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.float64()),
        pa.decimal128(5, 2),
        pa.decimal32(5, 2),
        pa.float16(),
        pa.int8(),
        pa.run_end_encoded(pa.int32(), pa.float64()),
    ],
    ids=str,
)
def test_numbers_of_every_kind_of_column(kind: Any) -> None:
    values: Any = pa.array([1.0, 2.0, None, 4.0])
    if pa.types.is_run_end_encoded(kind):
        column = pc.run_end_encode(values)  # type: ignore[attr-defined]  # not in the stubs
    elif pa.types.is_dictionary(kind):
        column = values.cast(kind.value_type).dictionary_encode().cast(kind)
    else:
        column = values.cast(kind)
    found = numbers(pa.chunked_array([column, column]))
    np.testing.assert_array_equal(found, [1, 2, np.nan, 4] * 2)


def test_text_of_truth_values_is_numbers() -> None:
    """As a text table brings the answers of a judge; beside numbers such words are refusals."""
    found = numbers(pa.chunked_array([["true", "False", None, "no answer"]]))
    np.testing.assert_array_equal(found, [1, 0, np.nan, np.nan])
    found = numbers(pa.chunked_array([["true", "0.5"]]))
    np.testing.assert_array_equal(found, [np.nan, 0.5])


def test_refusals_and_empty_values_are_missing() -> None:
    mixed = ["I cannot rate this", None, "3", "nan", "inf"] + ["4.5", "2"] * ((N - 5) // 2) + ["1"]
    found = read(table(m_b=mixed[:N]))
    np.testing.assert_array_equal(found.values[:5, 1], [np.nan, np.nan, 3, np.nan, np.nan])
    assert str(found.notes[0]) == "m_b: 4 of 40 values missing"
    booleans = [i % 3 == 0 for i in range(N)]
    assert set(read(table(m_b=booleans)).values[:, 1]) == {0.0, 1.0}


def test_impossible_ratings() -> None:
    """A raw rating of 41 on a scale of 1..5 counts for nothing; the others of its row do."""
    generator = np.random.default_rng(1)
    raters = {f"human_{i}": generator.integers(1, 6, N).astype(float) for i in (1, 2)}
    raters["human_1"][3], raters["human_2"][7] = 41, 33
    found = read(table(human=None, **raters), target="human_?")
    assert found.labels[3] == raters["human_2"][3]
    assert found.labels[7] == raters["human_1"][7]
    assert [str(note) for note in found.notes[:2]] == [
        "human_1: 1 impossible ratings (41; 1..5 is usual); not used",
        "human_2: 1 impossible ratings (33; 1..5 is usual); not used",
    ]
    assert (found.low, found.high) == (1.0, 5.0)


def test_labels_outside_a_given_range() -> None:
    found = read(table(), label_range=(2, 5))
    left = int((table()["human"].to_numpy() < 2).sum())
    assert len(found.labels) == N - left
    np.testing.assert_array_equal(found.rows, np.flatnonzero(table()["human"].to_numpy() >= 2))
    assert str(found.notes[1]) == f"human: {left} rows without a usable label; left out"


def test_rows_without_a_group_column() -> None:
    found = read(table(), group=None)
    assert len(set(found.groups)) == N
    assert str(found.notes[-1]) == "human: no group is given: rows are taken for independent"


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"target": "humn"}, "t.csv: there is no column 'humn'. Did you mean 'human'? Known: "
         "human, m_a, m_b, other, prompt_id."),
        ({}, {"group": "prompt"}, "t.csv: there is no column 'prompt'. Did you mean 'prompt_id'? "
         "Known: human, m_a, m_b, other, prompt_id."),
        ({}, {"features": ["x_*"]}, "t.csv: no column matches --features 'x_*'. Known: m_a, m_b, "
         "other."),
        ({}, {"features": ["m_a"]}, "t.csv: --features m_a finds ['m_a'] only; a stacker needs 2 "
         "columns"),
        ({"m_b": [1.0] * N}, {}, "t.csv: of the feature columns only ['m_a'] vary and differ from "
         "each other; a stacker needs 2"),
        ({"human": [3.0] * N}, {}, "t.csv: every label in 'human' is 3; there is nothing to learn"),
        ({"human": [None] * 30 + [1.0, 2.0] * 5}, {}, "t.csv: 10 rows with a usable label in "
         "'human'; a stacker needs 20"),
        ({"prompt_id": ["a"] * N}, {}, "t.csv: column 'prompt_id' has 1 different values; a "
         "stacker is judged on groups that it did not see, and needs 5"),
        ({"prompt_id": ["a", None] * (N // 2)}, {}, "t.csv: column 'prompt_id' is empty in 20 "
         "rows; every row needs its group, or leave --group out"),
    ],
)  # fmt: skip
def test_refusals(changes: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read(table(**changes), **options)
    assert str(caught.value) == message
