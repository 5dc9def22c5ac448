"""ms-swift's RLHF data with ``rejected_images``, and the ``margin`` that its reward models take.

Question and answer are the same for both images: whether the image shows the prompt, and yes. What
differs is the image, so training makes the answer likelier for the preferred one.

Source: https://swift.readthedocs.io (Custom dataset; RLHF).
"""

from __future__ import annotations

from typing import Any

from tokenfocus_ray.exports.formats.base import Format, Row, origin

TAG = "<image>"


def record(pair: Row, seed: int) -> dict[str, Any]:
    """The pair."""
    question = f"{TAG}Does this image show the following? Answer yes or no.\n{pair['prompt']}"
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": "Yes"},
        ],
        "images": [pair["chosen_image"]],
        "rejected_images": [pair["rejected_image"]],
        "margin": pair["margin"],
        "confidence": pair["confidence"],
        "chosen_id": pair["chosen_id"],
        "rejected_id": pair["rejected_id"],
        **origin(pair, "chosen"),
        **origin(pair, "rejected"),
    }


FORMAT = Format("ms-swift", "pairs", ".jsonl", TAG, record=record)
