"""Columns that travel between the stages."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from tests.support.stages import images_of, prepare, sample_table
from tokenfocus_ray.schema import SCORE_SCHEMA, ScoreRow
from tokenfocus_ray.scoring.wire import rows_to_table, with_errors


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
