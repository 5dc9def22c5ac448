from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from tokenfocus_ray.schema import ELEMENT_TYPE, SCORE_SCHEMA
from tokenfocus_ray.training.oof import merge_out_of_fold
from tokenfocus_ray.training.samples import SAMPLES


def samples(*rows: dict[str, Any]) -> pa.Table:
    default = {"group": 0, "row": 0, "prompt": "p", "elements": [], "element_labels": []}
    return pa.Table.from_pylist([default | row for row in rows], schema=SAMPLES)


def scored(**scores: tuple[float, list[float]] | None) -> pa.Table:
    """Score rows; None was not scored."""
    rows = [
        {"sample_id": name, "status": "unscored", "element_scores": [float("nan")]}
        if value is None
        else {"sample_id": name, "status": "ok", "score": value[0], "element_scores": value[1]}
        for name, value in scores.items()
    ]
    return pa.Table.from_pylist(rows, schema=SCORE_SCHEMA)


PIG, SUN = {"text": "pig", "type": "animal"}, {"text": "sun", "type": ""}
TABLE = samples(
    {
        "sample_id": "a",
        "group": 3,
        "prompt": "pigs",
        "prompt_type": "real",
        "elements": [PIG, SUN],
        "total_scores": [4, None, 3],
        "element_labels": [[1, 0, None], [None]],
    },
    {"sample_id": "b", "group": 1, "total_scores": [], "elements": [PIG], "element_labels": [[1]]},
    {"sample_id": "c", "group": 0, "total_scores": [2]},
)


def test_every_sample_once_with_the_mean_of_its_members() -> None:
    table = merge_out_of_fold(
        TABLE,
        [
            ("x", "x-bag0", scored(a=(3.0, [0.25, 0.5]), b=(2.0, [0.75]))),
            ("x", "x-bag1", scored(a=(4.0, [0.75, 1.0]), c=(1.5, []))),
            ("y", "y-bag0", scored(c=(5.0, []), a=(1.0, [0.0, 1.0]))),
            ("y", "y-bag1", scored(b=None)),
        ],
    )
    assert table.to_pylist() == [
        {
            "sample_id": "a",
            "group": 3,
            "prompt": "pigs",
            "prompt_type": "real",
            "elements": [PIG, SUN],
            "label": 3.5,
            "element_labels": [0.5, None],
            "m_x": 3.5,
            "e_x": [0.5, 0.75],
            "n_x": 2,
            "m_y": 1.0,
            "e_y": [0.0, 1.0],
            "n_y": 1,
        },
        {
            "sample_id": "b",
            "group": 1,
            "prompt": "p",
            "prompt_type": None,
            "elements": [PIG],
            "label": None,
            "element_labels": [1.0],
            "m_x": 2.0,
            "e_x": [0.75],
            "n_x": 1,
            "m_y": None,
            "e_y": None,
            "n_y": 0,
        },
        {
            "sample_id": "c",
            "group": 0,
            "prompt": "p",
            "prompt_type": None,
            "elements": [],
            "label": 2.0,
            "element_labels": [],
            "m_x": 1.5,
            "e_x": [],
            "n_x": 1,
            "m_y": 5.0,
            "e_y": [],
            "n_y": 1,
        },
    ]
    assert table.schema.field("elements").type == pa.list_(ELEMENT_TYPE)
    assert [str(table.schema.field(n).type) for n in ("m_x", "e_x", "n_x")] == [
        "double",
        "list<item: double>",
        "int32",
    ]


def test_backbone_that_scored_nothing_has_its_columns() -> None:
    table = merge_out_of_fold(TABLE, [("x", "x-bag0", scored())])
    assert table["m_x"].to_pylist() == table["e_x"].to_pylist() == [None] * 3
    assert table["n_x"].to_pylist() == [0] * 3


def test_order_is_that_of_the_samples() -> None:
    """Whatever the order of the members and of their rows."""
    ids = [f"s{i}" for i in range(20)]
    table = samples(*({"sample_id": i, "total_scores": [3]} for i in ids))
    mixed = np.random.default_rng(0).permutation(20)
    found = merge_out_of_fold(
        table, [("x", "m", scored(**{ids[i]: (float(i), []) for i in mixed}))]
    )
    assert found["sample_id"].to_pylist() == ids
    assert found["m_x"].to_pylist() == list(range(20))
