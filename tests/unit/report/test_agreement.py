from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.reports import TWO
from tests.support.scores import random_scores
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.report.agreement import agreement


def test_stretches_hold_every_labelled_row(tmp_path: Path) -> None:
    table, labels = random_scores(TWO, 83, seed=1)
    pq.write_table(table, tmp_path / "s.parquet")
    pq.write_table(labels, tmp_path / "l.parquet")
    scores = str(tmp_path / "s.parquet")
    found = agreement(scores, ScoredTable.open(scores), str(tmp_path / "l.parquet"))
    each = found["stretches"]
    assert (len(each), sum(one["n"] for one in each)) == (8, 83)
    assert {one["n"] for one in each} == {10, 11}
    assert all(a["to"] <= b["from"] for a, b in itertools.pairwise(each))
    assert each[0]["label"] < each[-1]["label"]  # the scores are of the labels, with noise
    assert (found["scale"], found["makers"]) == ([1.0, 5.0], [])


def test_columns_that_passed_through_are_no_ensembles(tmp_path: Path) -> None:
    """A column `score_low` of the manifest is no interval of the scores."""
    table, labels = random_scores(TWO, 40, seed=1)
    table = table.append_column("score_low", pa.array([0.0] * 40))
    table = table.append_column("score_high", pa.array([9.0] * 40))
    pq.write_table(table, tmp_path / "s.parquet")
    pq.write_table(labels, tmp_path / "l.parquet")
    scores = str(tmp_path / "s.parquet")
    found = agreement(scores, ScoredTable.open(scores), str(tmp_path / "l.parquet"))
    assert not [one for one in found["figures"] if "interval" in one["title"]]


def test_labels_of_other_samples(tmp_path: Path) -> None:
    table, _ = random_scores(TWO, 9)
    _, labels = random_scores(TWO, 9)
    ids = labels.schema.get_field_index("sample_id")
    labels = labels.set_column(ids, "sample_id", pa.array([f"other {i}" for i in range(9)]))
    pq.write_table(table, tmp_path / "s.parquet")
    pq.write_table(labels, tmp_path / "l.parquet")
    scores, truth = str(tmp_path / "s.parquet"), str(tmp_path / "l.parquet")
    with pytest.raises(ManifestError) as caught:
        agreement(scores, ScoredTable.open(scores), truth)
    assert str(caught.value) == (
        f"no sample_id of {scores} (first: 's00000') is in {truth} (first: 'other 0'); score and "
        f"label the same manifest, or give both the same sample_id"
    )
