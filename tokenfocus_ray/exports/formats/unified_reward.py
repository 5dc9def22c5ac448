"""UnifiedReward's two DPO formats in one record.

Image understanding reads ``id, image, prompt, chosen, rejected``: both images are shown, and the
answers name the better and the other one. Image generation reads ``id, caption, jpg_0`` (the
preferred image's path), ``jpg_1, label_0``. Neither minds the other's keys.

Source: https://github.com/CodeGoat24/UnifiedReward (README).
"""

from __future__ import annotations

from typing import Any

from tokenfocus_ray.exports.formats.base import (
    ANSWERS,
    Format,
    Row,
    chosen_first,
    judge,
    origin,
    sides,
)

TAG = "<image>"


def record(pair: Row, seed: int) -> dict[str, Any]:
    """The pair; which image is shown first is drawn by a hash, so that its place says nothing."""
    first, second = ANSWERS if chosen_first(pair, seed) else ANSWERS[::-1]
    return {
        "id": f"{pair['chosen_id']}:{pair['rejected_id']}",
        "image": [pair[f"{side}_image"] for side in sides(pair, seed)],
        "prompt": f"{TAG}\n{TAG}\n{judge(pair['prompt'])}",
        "chosen": first,
        "rejected": second,
        "caption": pair["prompt"],
        "jpg_0": pair["chosen_image"],
        "jpg_1": pair["rejected_image"],
        "label_0": 1,
        "margin": pair["margin"],
        "confidence": pair["confidence"],
        **origin(pair, "chosen"),
        **origin(pair, "rejected"),
    }


FORMAT = Format("unified-reward", "pairs", ".json", TAG, record=record)
