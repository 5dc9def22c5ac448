"""ImageReward's rankings: of each prompt its images and their ranks, 1 for the best.

Every two images of a record have different ranks, and its trainer makes a pair of each two.

Source: https://github.com/THUDM/ImageReward (train/src/rank_pair_dataset.py).
"""

from __future__ import annotations

from typing import Any

from tokenfocus_ray.exports.formats.base import Format, Row


def record(ranking: Row, seed: int) -> dict[str, Any]:
    """The ranking, best first."""
    return {
        "id": ranking["ids"][0],
        "prompt": ranking["prompt"],
        "generations": ranking["images"],
        "ranking": list(range(1, len(ranking["images"]) + 1)),
        "rewards": ranking["scores"],
        "generators": ranking["generators"],
        "seeds": ranking["seeds"],
    }


FORMAT = Format("imagereward", "rankings", ".json", record=record)
