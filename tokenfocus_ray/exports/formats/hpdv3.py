"""HPDv3's pairs, on which HPSv3 is trained: ``path1`` is the preferred image.

Source: https://huggingface.co/datasets/MizzenAI/HPDv3.
"""

from __future__ import annotations

from typing import Any

from tokenfocus_ray.exports.formats.base import Format, Row


def record(pair: Row, seed: int) -> dict[str, Any]:
    """The pair; members stand for annotators: ``choice_dist`` counts those for either image."""
    return {
        "prompt": pair["prompt"],
        "choice_dist": [pair["votes_for"], pair["votes_against"]],
        "confidence": pair["confidence"],
        "path1": pair["chosen_image"],
        "path2": pair["rejected_image"],
        "model1": pair["chosen_generator"],
        "model2": pair["rejected_generator"],
        "seed1": pair["chosen_seed"],
        "seed2": pair["rejected_seed"],
        "score1": pair["chosen_score"],
        "score2": pair["rejected_score"],
    }


FORMAT = Format("hpdv3", "pairs", ".json", record=record)
