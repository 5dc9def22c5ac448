"""Unpaired rewards: a row for each scored image, the standard deviation beside the reward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tokenfocus_ray.exports.formats.base import Format
from tokenfocus_ray.tables.columns import FloatArray

FORMAT = Format("reward", "rewards", ".parquet")


def table_of(columns: Mapping[str, Any], members_NM: FloatArray, slope: float) -> pa.Table:
    """Rewards.

    Args:
        columns: ``id, prompt, image, score, generator, seed`` of scored rows.
        members_NM: Their members' scores.
        slope: From members' units to the score's.

    Returns:
        ``sample_id, prompt, image, reward, reward_std, generator, seed``; ``reward_std`` is the
        standard deviation of the members' scores in the reward's units, null for a single one.
    """
    n_rows, n_members = members_NM.shape
    std_N = np.full(n_rows, np.nan)
    if n_members > 1:
        std_N = slope * members_NM.std(axis=1, ddof=1)
    return pa.table({
        "sample_id": columns["id"],
        "prompt": columns["prompt"],
        "image": columns["image"],
        "reward": columns["score"],
        "reward_std": pa.array(std_N, from_pandas=True),
        "generator": columns["generator"],
        "seed": columns["seed"],
    })  # fmt: skip
