"""Pick-a-Pic's columns, as Diffusion-DPO reads them: ``jpg_0, jpg_1, label_0, caption``.

The images are their own bytes, whatever their format. There are no ties: Diffusion-DPO drops those
only of data sets called pickapic.

Source: https://huggingface.co/datasets/yuvalkirstain/pickapic_v2 and
https://github.com/SalesforceAIResearch/DiffusionDPO (train.py).
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tokenfocus_ray.exports.formats.base import Format, Row, sides

_F, _S = pa.float64(), pa.string()


def record(pair: Row, seed: int, chosen: bytes, rejected: bytes) -> dict[str, Any]:
    """The pair; which image is ``jpg_0`` is drawn by a hash, so that its place says nothing."""
    found: dict[str, Any] = {
        "caption": pair["prompt"],
        "are_different": True,
        "best_image_uid": pair["chosen_id"],
        "has_label": True,
        "margin": pair["margin"],
        "confidence": pair["confidence"],
    }
    for at, side in enumerate(sides(pair, seed)):
        found |= {
            f"jpg_{at}": chosen if side == "chosen" else rejected,
            f"label_{at}": float(side == "chosen"),
            f"image_{at}_uid": pair[f"{side}_id"],
            f"image_{at}_url": pair[f"{side}_image"],
            f"model_{at}": pair[f"{side}_generator"],
            f"seed_{at}": pair[f"{side}_seed"],
            f"score_{at}": pair[f"{side}_score"],
        }
    return found


def schema(generator: pa.DataType, seed: pa.DataType) -> pa.Schema:
    """Of the records; names that Pick-a-Pic has come first."""
    fields: list[tuple[str, Any]] = [
        ("jpg_0", pa.binary()), ("jpg_1", pa.binary()), ("label_0", _F), ("label_1", _F),
        ("caption", _S), ("are_different", pa.bool_()), ("best_image_uid", _S),
        ("has_label", pa.bool_()), ("image_0_uid", _S), ("image_1_uid", _S), ("image_0_url", _S),
        ("image_1_url", _S), ("model_0", generator), ("model_1", generator), ("seed_0", seed),
        ("seed_1", seed), ("score_0", _F), ("score_1", _F), ("margin", _F), ("confidence", _F),
    ]  # fmt: skip
    return pa.schema(fields)


FORMAT = Format("diffusion-dpo", "pairs", ".parquet", with_images=record, schema=schema)
