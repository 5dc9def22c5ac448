from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from tests.support.scores import metadata
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation import Label, prompt_group
from tokenfocus_ray.evaluation.join import aligned, join_scores
from tokenfocus_ray.tables.members import member_table, member_tables
from tokenfocus_ray.tables.prompts import prompt_groups


def labels(prompt: str | None = None) -> dict[str, Label]:
    return {key: Label(3.0, (), (), None, prompt) for key in "abc"}


def table(scores: list[float | None], ids: str = "abc") -> pa.Table:
    return pa.table({"sample_id": list(ids), "status": ["ok"] * len(ids), "score": scores})


def test_prompts_that_differ_in_case_or_space_are_one() -> None:
    assert prompt_group("  A Red\n\tPIG ") == "a red pig"
    numbers, notes = prompt_groups(["A red pig", "a  red PIG", "a blue pig"])
    assert (numbers.tolist(), notes) == ([1, 1, 0], ())


def test_rows_without_a_prompt_stand_for_themselves() -> None:
    numbers, notes = prompt_groups(["a", None, "a", " ", 0])
    assert len(set(numbers.tolist())) == 4
    assert numbers[0] == numbers[2]
    assert notes == ("2 rows without a prompt stand for themselves",)
    numbers, notes = prompt_groups([None, None])
    assert numbers.tolist() == [0, 1]
    assert notes == ("no prompts in labels or scores; every row stands for itself",)
    numbers, notes = prompt_groups([])
    assert (numbers.tolist(), notes) == ([], ())


def test_prompts_of_the_labels_come_first() -> None:
    scores = table([1.0, 2.0, 3.0]).append_column("prompt", pa.array(["x", "y", "z"]))
    assert join_scores(scores, labels("one")).groups.tolist() == [0, 0, 0]
    assert join_scores(scores, labels()).groups.tolist() == [0, 1, 2]


def test_aligned() -> None:
    first = join_scores(table([1.0, 2.0, None]), labels())
    second = join_scores(table([5.0, None, 4.0], "bca"), labels())
    np.testing.assert_equal(aligned(first, second), [4.0, 5.0])
    np.testing.assert_equal(aligned(second, first), [2.0, 1.0])
    lonely = join_scores(table([1.0], "a"), labels())
    np.testing.assert_equal(aligned(first, lonely), [1.0, math.nan])


def test_members_have_their_own_scores_and_nothing_of_the_ensemble() -> None:
    scores = table([2.0, 3.0, None]).append_column("score_low", pa.array([1.0, 2.0, None]))
    scores = scores.append_column("member_scores", pa.array([[1.0, 3.0], [2.0, 4.0], []]))
    scores = scores.append_column("element_scores", pa.array([[0.5], [0.5], []]))
    each = pa.array([[[0.25], [0.75]], [[0.5], [0.5]], []], pa.list_(pa.list_(pa.float64())))
    scores = scores.append_column("member_element_scores", each)
    with pytest.raises(ManifestError) as error:
        member_tables(scores)
    assert str(error.value) == (
        "the score table names no members in its schema's metadata; give the output of "
        "`tokenfocus score` as it was written"
    )
    scores = scores.replace_schema_metadata(metadata({"q": ["m0", "m1"]}))
    assert list(member_tables(scores)) == ["m0", "m1"]
    second = member_table(scores, "m1")
    assert second["score"].to_pylist() == [3.0, 4.0, None]
    assert second["element_scores"].to_pylist() == [[0.75], [0.5], None]
    assert "score_low" not in second.column_names
