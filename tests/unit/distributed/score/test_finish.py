"""Score rows of several backbones become one."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest

from tests.support.scores import metadata, older_metadata
from tokenfocus_ray.datasets.manifest import find_columns
from tokenfocus_ray.distributed.score.finish import combine, finish_rows
from tokenfocus_ray.ensemble.inputs import ScoreColumns
from tokenfocus_ray.schema import SCORE_SCHEMA, ScoreRow
from tokenfocus_ray.scoring.wire import ID, SCORES, rows_to_table, scores_column
from tokenfocus_ray.tables.members import ScoreTableInfo

MEMBERS = [["m0", "m1"], ["base"]]
QWEN = ScoreRow(
    "a", "ok", score=2.0, member_scores=[1.0, 3.0], level_probs=[[1, 0], [0, 1]],
    level_mass=[0.9, 0.8], entropy=[0.1, 0.2], element_scores=[0.25], width=8, height=6,
    member_element_scores=[[0.0], [0.5]], n_visual_tokens=4,
)  # fmt: skip
INTERNVL = ScoreRow(
    "a", "ok", score=5.0, member_scores=[5.0], level_probs=[[0.5, 0.5]], level_mass=[0.7],
    entropy=[0.3], element_scores=[0.75], member_element_scores=[[0.75]], width=8, height=6,
    n_visual_tokens=16,
)  # fmt: skip
REFUSED = ScoreRow("a", "unscored", "image_aspect_ratio", "too thin", element_scores=[math.nan])
ROWS = [[QWEN, QWEN], [INTERNVL, REFUSED]]


def test_backbones_weigh_the_same_whatever_their_members() -> None:
    row = combine({"qwen": QWEN, "internvl": INTERNVL}, MEMBERS)
    assert (row.status, row.error_code, row.error_message) == ("ok", None, None)
    assert (row.score, row.element_scores) == (3.5, [0.5])
    assert row.member_scores == [1.0, 3.0, 5.0]
    assert row.level_probs == [[1, 0], [0, 1], [0.5, 0.5]]
    assert row.level_mass == [0.9, 0.8, 0.7]
    assert row.entropy == [0.1, 0.2, 0.3]
    assert row.member_element_scores == [[0.0], [0.5], [0.75]]
    assert (row.width, row.height, row.n_visual_tokens) == (8, 6, 4)


@pytest.mark.parametrize("order", [("good", "bad"), ("bad", "good")])
def test_row_that_one_backbone_could_not_score(order: tuple[str, str]) -> None:
    """No mean of what is left; but what is known stays."""
    rows = {"good": QWEN, "bad": REFUSED}
    members = {"good": MEMBERS[0], "bad": MEMBERS[1]}
    row = combine({n: rows[n] for n in order}, [members[n] for n in order])
    assert (row.status, row.error_code) == ("unscored", "image_aspect_ratio")
    assert row.error_message == "backbone bad: too thin"
    nan = math.nan
    scores = {"good": [1.0, 3.0], "bad": [nan]}
    np.testing.assert_array_equal(row.member_scores, [s for n in order for s in scores[n]])
    np.testing.assert_array_equal(row.score, nan)
    np.testing.assert_array_equal(row.element_scores, [nan])
    assert len(row.level_probs) == len(row.level_mass) == len(row.member_element_scores) == 3
    assert {len(probs) for probs in row.level_probs} == {2}
    assert (row.width, row.n_visual_tokens) == (8, 4)


def test_row_that_no_backbone_could_score() -> None:
    assert combine({"a": REFUSED, "b": REFUSED}, MEMBERS) == REFUSED


def table_of(*backbones: tuple[list[ScoreRow], dict[str, str]]) -> pa.Table:
    """What the last scoring stage hands on."""
    n = len(backbones[0][0])
    table = pa.table({"prompt": ["p"] * n, "score": [7] * n, ID: ["a"] * n})
    for i, (rows, about) in enumerate(backbones):
        scores = pa.array(rows_to_table(rows).to_pylist(), SCORES)
        field = pa.field(scores_column(i), SCORES, metadata=about)
        table = table.append_column(field, scores)
    return table


def test_table_of_several_backbones() -> None:
    table = table_of(
        ([QWEN, QWEN], metadata({"q": ["m0", "m1"]})),
        ([INTERNVL, REFUSED], metadata({"i": ["base"]})),
    )
    out = finish_rows(
        table, find_columns(["prompt"], {"image": "prompt"}, "m"), ["qwen", "internvl"]
    )
    assert out.column_names == ["prompt", "input_score", *SCORE_SCHEMA.names]
    assert out["score"][0].as_py() == 3.5
    assert out["status"].to_pylist() == ["ok", "unscored"]
    info = ScoreTableInfo.of(out.schema, "t")
    assert info.members == ("qwen/m0", "qwen/m1", "internvl/base")
    assert {one.name: one.source for one in info.backbones} == {"qwen": "q", "internvl": "i"}
    about = {k.decode(): v.decode() for k, v in out.schema.metadata.items()}
    assert about["tokenfocus.members"] == "qwen/m0,qwen/m1,internvl/base"
    assert json.loads(about["tokenfocus.backbone"]) == {"qwen": "q", "internvl": "i"}


def test_members_with_commas_and_quotes_are_told_apart() -> None:
    """From the fields of the scorers through the table of both to whoever reads it."""
    names = ["a,b", 'say "c"']
    table = table_of(
        ([QWEN, QWEN], metadata({"q": names})), ([INTERNVL, REFUSED], metadata({"i": ["base"]}))
    )
    out = finish_rows(
        table, find_columns(["prompt"], {"image": "prompt"}, "m"), ["x,y", "internvl"]
    )
    info = ScoreTableInfo.of(out.schema, "t")
    assert info.members == ("x,y/a,b", 'x,y/say "c"', "internvl/base")
    assert info.bags == {"x,y": [0, 1], "internvl": [2]}
    assert ScoreColumns.of(out, "t").total('x,y/say "c"').tolist() == [3, 3]


def test_scores_that_an_earlier_release_wrote_are_combined_with_new_ones() -> None:
    """A job of several backbones, one after another, that was begun before."""
    parts = {"q": ["m0", "m1"], "i": ["base"]}
    new = table_of(*zip(ROWS, [metadata({n: own}) for n, own in parts.items()], strict=True))
    older = [older_metadata({"q": ["m0", "m1"]}), metadata({"i": ["base"]})]
    mixed = table_of(*zip(ROWS, older, strict=True))
    columns = find_columns(["prompt"], {"image": "prompt"}, "m")
    each = [finish_rows(table, columns, ["qwen", "internvl"]) for table in (new, mixed)]
    assert each[0].schema.equals(each[1].schema, check_metadata=True)


def test_table_of_one_backbone_keeps_its_rows() -> None:
    about = metadata({"q": ["m0", "m1"]})
    table = table_of(([QWEN, REFUSED], about))
    out = finish_rows(table, find_columns(["prompt"], {"image": "prompt"}, "m"), ["qwen"])
    expected = rows_to_table([QWEN, REFUSED]).to_pydict()
    np.testing.assert_equal(out.select(SCORE_SCHEMA.names).to_pydict(), expected)
    assert out.schema.metadata == {k.encode(): v.encode() for k, v in about.items()}
