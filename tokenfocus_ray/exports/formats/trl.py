"""TRL's conversational preference data with images: which of two images follows a prompt better.

TRL's ``images`` belong to the prompt, which both answers share. So what it can learn from a pair of
images is to judge them: both are shown, and the answers name the better and the other one.

Source: https://huggingface.co/docs/trl/dataset_formats.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from tokenfocus_ray.exports.formats.base import ANSWERS, Format, Row, chosen_first, judge, sides

_S, _F = pa.string(), pa.float64()
_MESSAGES = pa.list_(
    pa.struct([("role", _S), ("content", pa.list_(pa.struct([("type", _S), ("text", _S)])))])
)
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", _S)])
#: What ``datasets`` is to make of columns that Arrow's types do not say: images to open.
_TEXT = {"dtype": "string", "_type": "Value"}
_TALK = [{"role": _TEXT, "content": [{"type": _TEXT, "text": _TEXT}]}]


def record(pair: Row, seed: int, chosen: bytes, rejected: bytes) -> dict[str, Any]:
    """The pair; which image is shown first is drawn by a hash, so that its place says nothing."""
    first, second = ANSWERS if chosen_first(pair, seed) else ANSWERS[::-1]
    images = {"chosen": chosen, "rejected": rejected}
    question = [{"type": "image"}, {"type": "image"}, _text(judge(pair["prompt"]))]
    found: dict[str, Any] = {
        "images": [{"bytes": images[side], "path": None} for side in sides(pair, seed)],
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": [_text(first)]}],
        "rejected": [{"role": "assistant", "content": [_text(second)]}],
        "margin": pair["margin"],
        "confidence": pair["confidence"],
    }
    for side in ("chosen", "rejected"):
        names = ("id", "generator", "seed", "score")
        found |= {f"{side}_{name}": pair[f"{side}_{name}"] for name in names}
    return found


def schema(generator: pa.DataType, seed: pa.DataType) -> pa.Schema:
    """Of the records; with what ``datasets`` needs to open the images."""
    fields: list[tuple[str, Any]] = [("images", pa.list_(_IMAGE))]
    fields += [(name, _MESSAGES) for name in ("prompt", "chosen", "rejected")]
    fields += [("margin", _F), ("confidence", _F)]
    for side in ("chosen", "rejected"):
        fields += [(f"{side}_id", _S), (f"{side}_generator", generator), (f"{side}_seed", seed)]
        fields += [(f"{side}_score", _F)]
    features: dict[str, Any] = {"images": [{"_type": "Image"}]}
    features |= {name: _TALK for name in ("prompt", "chosen", "rejected")}
    for name, kind in fields:
        if name not in features:
            features[name] = {"dtype": _NAMES.get(str(kind), str(kind)), "_type": "Value"}
    about = json.dumps({"info": {"features": features}})
    return pa.schema(fields, metadata={"huggingface": about})


#: Arrow's names of types that ``datasets`` calls otherwise.
_NAMES = {"double": "float64", "float": "float32", "halffloat": "float16"}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


FORMAT = Format("trl", "pairs", ".parquet", with_images=record, schema=schema)
