"""Score tables by role."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.selecting import opened, row, scored_manifest, table_of, write
from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.errors import ManifestError


def test_columns_by_role(tmp_path: Path) -> None:
    found = opened(tmp_path, table_of([row(0, 3.0)])).columns
    assert (found.prompt, found.image_uri, found.generator) == ("prompt", "image_uri", "generator")
    assert (found.prompt_type, found.element_parents, found.seed) == (None, None, None)


def test_what_is_mapped_wins_over_what_was_written_down(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image_path,caption,prompt\na.png,c,p\n")
    scores = scored_manifest([str(tmp_path / "m.csv")], str(tmp_path / "s"), columns={})
    assert ScoredTable.open(scores).columns.prompt == "prompt"
    assert ScoredTable.open(scores, mapping={"prompt": "caption"}).columns.prompt == "caption"
    known = scored_manifest(
        [str(tmp_path / "m.csv")], str(tmp_path / "t"), columns={"prompt": "caption"}
    )
    assert ScoredTable.open(known).columns.prompt == "caption"
    assert ScoredTable.open(known, mapping={"prompt": "prompt"}).columns.prompt == "prompt"


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (
            {"promt": "prompt"},
            "--map promt=prompt: no such role. Did you mean 'prompt'? Known: element_parents, "
            "elements, generator, image_uri, prompt, prompt_type, seed.",
        ),
        ({"prompt": "caption"}, "--map prompt=caption: {where} has no column 'caption'. "),
    ],
)
def test_roles_and_columns_that_are_not_there(
    mapping: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError) as caught:
        opened(tmp_path, table_of([row(0, 3.0)]), mapping=mapping)
    assert str(caught.value).startswith(message.format(where=tmp_path))


def test_what_is_no_score_table(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sample_id": ["a"], "score": [1.0]}), tmp_path / "t.parquet")
    with pytest.raises(ManifestError) as caught:
        ScoredTable.open(str(tmp_path / "t.parquet"))
    assert str(caught.value) == (
        f"{tmp_path}/t.parquet: missing columns status, error_code, error_message, element_scores; "
        f"wanted the output of a job; found sample_id, score"
    )
    (tmp_path / "t.csv").write_text("sample_id,score\na,1\n")
    with pytest.raises(ManifestError) as caught:
        ScoredTable.open(str(tmp_path / "t.csv"))
    assert str(caught.value) == (f"{tmp_path}/t.csv: give scores in Parquet, as they were written")


def test_rows_come_in_order_and_a_few_at_a_time(tmp_path: Path) -> None:
    table = table_of([row(i, 1 + i / 8) for i in range(20)])
    scored = ScoredTable.open(write(tmp_path, table, files=3, group_rows=3))
    assert (scored.n_rows, scored.where) == (20, str(tmp_path))
    found = list(scored.read(["score", None, "prompt", "score"], 2, 19, rows=5))
    assert [t.num_rows for t in found] == [5, 5, 5, 2]
    assert found[0].column_names == ["score", "prompt"]
    assert pa.concat_tables(found)["prompt"].to_pylist() == [f"prompt {i}" for i in range(2, 19)]
    assert found[0].schema.metadata == table.schema.metadata
    assert list(scored.read(start=7, stop=7)) == []
    assert pa.concat_tables(scored.read()).equals(table)


def test_one_file_of_a_folder_finds_what_was_scored(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image_path,prompt\na.png,p\n")
    scores = scored_manifest([str(tmp_path / "m.csv")], str(tmp_path / "s"))
    found = ScoredTable.open(f"{scores}/part-00000.parquet").input
    assert found is not None
    assert found.manifests == (str(tmp_path / "m.csv"),)
    assert found.bases == (str(tmp_path),)
