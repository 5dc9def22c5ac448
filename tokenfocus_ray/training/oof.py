"""Out-of-fold predictions, on which stacking trains: no member speaks of what it saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tokenfocus_ray.schema import ELEMENT_TYPE
from tokenfocus_ray.tables.features import ELEMENT, TOTAL

#: Of the score rows that are merged.
HELD_OUT_COLUMNS = ("sample_id", "status", "score", "element_scores")


def merge_out_of_fold(samples: pa.Table, held_out: Sequence[tuple[str, str, pa.Table]]) -> pa.Table:
    """Every sample once, with the mean of the members that never saw its prompt.

    Args:
        samples: See :data:`~tokenfocus_ray.training.samples.SAMPLES`.
        held_out: Backbone, member and the score rows of what the member held out, all of them of
            these samples.

    Returns:
        ``sample_id``, ``group`` (the prompt's number), ``prompt``, ``prompt_type``, ``elements``,
        ``label`` (mean total rating), ``element_labels`` (mean ratings), and for each backbone
        ``m_NAME`` (expected score), ``e_NAME`` (expected element scores), ``n_NAME`` (number of
        members). Null where a member could not score the sample.
    """
    rows = samples.to_pylist()
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for backbone, _, table in held_out:
        of_sample = found.setdefault(backbone, defaultdict(list))
        for row in table.select(HELD_OUT_COLUMNS).to_pylist():
            if row["status"] == "ok":
                of_sample[row["sample_id"]].append(row)
    columns: dict[str, Any] = {
        name: samples[name].combine_chunks()
        for name in ("sample_id", "group", "prompt", "prompt_type")
    }
    columns["elements"] = pa.array([row["elements"] for row in rows], pa.list_(ELEMENT_TYPE))
    columns["label"] = pa.array([_mean(row["total_scores"]) for row in rows], pa.float64())
    columns["element_labels"] = pa.array(
        [[_mean(ratings) for ratings in row["element_labels"]] for row in rows],
        pa.list_(pa.float64()),
    )
    for name, of_sample in found.items():
        mine = [of_sample[row["sample_id"]] for row in rows]
        columns[f"{TOTAL}{name}"] = pa.array(
            [_mean([r["score"] for r in members]) for members in mine], pa.float64()
        )
        columns[f"{ELEMENT}{name}"] = pa.array(
            [
                np.mean([r["element_scores"] for r in members], axis=0).tolist()
                if members
                else None
                for members in mine
            ],
            pa.list_(pa.float64()),
        )
        columns[f"n_{name}"] = pa.array([len(members) for members in mine], pa.int32())
    return pa.table(columns)


def _mean(values: Sequence[float | None]) -> float | None:
    rated = [v for v in values if v is not None]
    return float(np.mean(rated)) if rated else None
