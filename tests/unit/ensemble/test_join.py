"""Score tables of one backbone or several become columns to stack, next to their labels."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from tokenfocus_ray.ensemble.join import bag_means, join_labels
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.evaluation.labels import Label


def scores(members: str, rows: dict[str, list[float]], **more: Any) -> pa.Table:
    prompts = [f"Prompt  {key}" for key in rows]
    columns = {"sample_id": list(rows), "prompt": prompts, "member_scores": list(rows.values())}
    types = {"member_scores": pa.array(list(rows.values()), pa.list_(pa.float64()))}
    return pa.table(columns | types | more).replace_schema_metadata({"tokenfocus.members": members})


def labels(*keys: str) -> dict[str, Label]:
    return {key: Label(3.0 + i, (), (), None) for i, key in enumerate(keys)}


def test_members_of_a_backbone_are_averaged() -> None:
    table = scores("q/m0,q/m1,i/base", {"a": [1, 3, 5], "b": [math.nan, 2, 4], "c": []})
    assert bag_means(table, "t") == {"m_q": [2, 2, None], "m_i": [5, 4, None]}


def test_members_of_one_backbone_are_features_of_their_own() -> None:
    assert bag_means(scores("m0,m1", {"a": [1, 3]}), "t") == {"m_m0": [1], "m_m1": [3]}


def test_one_row_for_each_sample_that_all_tables_have() -> None:
    first = scores(
        "m0", {"a": [1.0], "b": [2.0], "c": [3.0]}, clip=[0.1, 0.2, 0.3], score=[1, 1, 1]
    )
    second = scores("m1", {"c": [30.0], "a": [10.0]})
    joined = join_labels({"x": first, "y": second}, labels("c", "a", "z"))
    assert joined.to_pylist() == [
        {"sample_id": "a", "label": 4.0, "prompt": "prompt a", "m_m0": 1.0, "m_m1": 10.0,
         "clip": 0.1},
        {"sample_id": "c", "label": 3.0, "prompt": "prompt c", "m_m0": 3.0, "m_m1": 30.0,
         "clip": 0.3},
    ]  # fmt: skip


def test_tables_that_do_not_fit() -> None:
    table = scores("m0", {"a": [1.0]})
    with pytest.raises(ManifestError, match="y: an earlier table has a column 'm_m0' too"):
        join_labels({"x": table, "y": table}, labels("a"))
    with pytest.raises(ManifestError, match="no sample_id is labelled and in each of x, y"):
        join_labels({"x": table, "y": scores("m1", {"b": [1.0]})}, labels("a", "b"))
    with pytest.raises(ManifestError, match="x: the table's metadata names no members"):
        join_labels({"x": table.replace_schema_metadata(None)}, labels("a"))
