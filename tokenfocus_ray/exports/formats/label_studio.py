"""Label Studio's tasks, with what each member of the ensemble thinks as predictions.

Source: https://labelstud.io/guide/predictions and https://labelstud.io/guide/task_format.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from tokenfocus_ray.exports.formats.base import Format, Row

FORMAT = Format("label-studio", "tasks", ".json")
#: Lowest and highest score; None where the table does not say.
Scale = tuple[float, float] | None
#: Name of the labeling interface that the predictions are made for.
CONFIG = "label_config.xml"
#: More stars are no way to rate.
_MOST_STARS = 10


def task(row: Row, members: Sequence[str], scale: Scale) -> dict[str, Any]:
    """A task: the image, and one prediction a member.

    Args:
        row: ``id, prompt, image, score, members, disagreement, generator, seed``.
        members: Their names.
        scale: Lowest and highest score.
    """
    data = {
        "image": _served(row["image"]),
        "prompt": row["prompt"],
        "sample_id": row["id"],
        "score": row["score"],
        "disagreement": row["disagreement"],
        **{name: row[name] for name in ("generator", "seed") if row[name] is not None},
    }
    predictions = [
        {"model_version": name, "score": score, "result": [_result(score, scale)]}
        for name, score in zip(members, row["members"], strict=True)
    ]
    return {"data": data, "predictions": predictions}


def config(scale: Scale) -> str:
    """The labeling interface: stars where the scale is 1 to a few, else a number."""
    bounds = "" if scale is None else f' min="{scale[0]:g}" max="{scale[1]:g}"'
    control = f'<Number name="alignment" toName="image"{bounds} />'
    if stars := _stars(scale):
        control = f'<Rating name="alignment" toName="image" maxRating="{stars}" />'
    return (
        "<View>\n"
        '  <Text name="prompt" value="$prompt" />\n'
        '  <Image name="image" value="$image" />\n'
        f"  {control}\n"
        "</View>\n"
    )


def _result(score: float, scale: Scale) -> dict[str, Any]:
    to = {"id": "alignment", "from_name": "alignment", "to_name": "image"}
    if not (stars := _stars(scale)):
        return {**to, "type": "number", "value": {"number": score}}
    return {**to, "type": "rating", "value": {"rating": min(stars, max(1, round(score)))}}


def _stars(scale: Scale) -> int:
    """How many stars the scale is; 0 where it is none of these."""
    if scale is None or scale[0] != 1 or scale[1] not in range(2, _MOST_STARS + 1):
        return 0
    return int(scale[1])


def _served(image: str | None) -> str | None:
    """The image as Label Studio's server finds it: local files below its document root, ``/``."""
    if image is None or "://" in image or not os.path.isabs(image):
        return image
    return f"/data/local-files/?d={quote(image.lstrip('/'))}"
