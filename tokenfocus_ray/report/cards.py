"""What the page shows of one row: its text, its scores, and its image, small.

Legend: M members, E elements.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from tokenfocus_ray.datasets.scored import ScoredTable
from tokenfocus_ray.errors import RowError
from tokenfocus_ray.report.batch import plain_values, row_elements, texts
from tokenfocus_ray.scoring.image import decode

#: Characters of texts, and bytes of all that is told of a row.
TEXT, ID, ELEMENT, MESSAGE, MOST_BYTES = 800, 160, 120, 240, 6_000
#: Longest side in pixels and quality, tried in this order until the image is small enough.
LADDER = ((320, 76), (288, 70), (256, 64), (224, 56), (192, 48), (160, 40), (128, 30), (96, 20))


def detail_columns(scored: ScoredTable) -> list[str | None]:
    """Columns that :func:`details` reads of a table."""
    names, roles = scored.rows.schema.names, scored.columns
    given = ("member_scores", "member_element_scores", "score_low", "score_high")
    is_merged = scored.info is not None and scored.info.ensemble is not None
    more = [n for n in given if n in names and (is_merged or not n.startswith("score_"))]
    return [
        "sample_id", "score", "element_scores", *more, roles.prompt, roles.elements,
        roles.element_parents, roles.generator, roles.seed, roles.image_uri,
    ]  # fmt: skip


def details(
    table: pa.Table, scored: ScoredTable, threshold: float, *, dependencies: bool = False
) -> list[dict[str, Any]]:
    """What is told of each row, in plain values of JSON; None where there is none.

    Args:
        table: Rows, with :func:`detail_columns`.
        scored: The table that they are of.
        threshold: From which score on an element is present.
        dependencies: Whether an element is as weak as those that it depends on.
    """
    roles, names = scored.columns, table.column_names
    strings: dict[str, Sequence[str | None]] = {"id": texts(table["sample_id"])}
    for key, role in (("prompt", roles.prompt), ("generator", roles.generator),
                      ("seed", roles.seed), ("image", roles.image_uri)):  # fmt: skip
        strings[key] = texts(table[role]) if role else [None] * table.num_rows
    is_short = pa.types.is_float32(table.schema.field("score").type)
    values: dict[str, list[Any]] = {
        name: plain_values(table[name]) if name in names else [None] * table.num_rows
        for name in ("score", "score_low", "score_high", "element_scores", "member_scores",
                     "member_element_scores")
    }  # fmt: skip
    if is_short:  # 3.1 rather than the number next to it that 32 bits hold
        values["score"] = [v if v is None else float(str(np.float32(v))) for v in values["score"]]
    none: list[Any] = [None] * table.num_rows
    elements = plain_values(table[roles.elements]) if roles.elements else none
    parents = (
        plain_values(table[roles.element_parents])
        if roles.element_parents and dependencies
        else none
    )
    found = []
    for i in range(table.num_rows):
        text = {key: own[i] for key, own in strings.items()}
        row = {name: own[i] for name, own in values.items()}
        found.append(_detail(text, row, elements[i], parents[i], threshold))
    return found


def _detail(
    text: Mapping[str, str | None],
    row: Mapping[str, Any],
    elements: Any,
    parents: Any,
    threshold: float,
) -> dict[str, Any]:
    claims, scores, problem = row_elements(elements, row["element_scores"], parents)
    by_member = row["member_element_scores"] or []
    each: list[dict[str, Any]] = [
        {
            "text": cut(claim, ELEMENT),
            "type": cut(kind, ELEMENT),
            "score": number(scores[e], 3),
            "present": None if math.isnan(scores[e]) else scores[e] >= threshold,
            "members": [number(own[e], 2) for own in by_member if e < len(own or ())],
        }
        for e, (claim, kind) in enumerate(claims)
    ]
    card: dict[str, Any] = {
        "id": cut(text["id"], ID),
        "prompt": cut(text["prompt"], TEXT),
        "generator": cut(text["generator"], ID),
        "seed": cut(text["seed"], ID),
        "image": cut(text["image"], ID),
        "score": number(row["score"], 9),
        "low": number(row["score_low"], 3),
        "high": number(row["score_high"], 3),
        "members": [number(v, 3) for v in row["member_scores"] or ()],
        "elements": each,
        "more": 0,
        "problem": problem,
    }
    while each and _size(card) > MOST_BYTES:
        each.pop()
        card["more"] += 1
    return card


def _size(card: Mapping[str, Any]) -> int:
    """Bytes that a card has in the page, where markup is written as escapes of six."""
    text = json.dumps(card, ensure_ascii=False)
    return len(text.encode(errors="replace")) + 5 * sum(map(text.count, "<>&"))


def number(value: Any, digits: int) -> float | None:
    """A number as JSON has it; None for what is none.

    >>> number(0.12345, 3), number(math.nan, 3), number(None, 3)
    (0.123, None, None)
    """
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits)


def cut(text: str | None, most: int) -> str | None:
    """A text, cut where it is too long to show, which it then says.

    >>> cut("a cat", 9), cut("a very long cat", 6)
    ('a cat', 'a very… (15 characters)')
    """
    if text is None:
        return None
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def thumbnail(image: bytes | RowError, most_bytes: int) -> dict[str, Any]:
    """An image for the page: ``src``, ``width`` and ``height``, or ``error`` and why.

    Args:
        image: Encoded, of any size; or why there is none.
        most_bytes: Of the small one, encoded.
    """
    try:
        if isinstance(image, RowError):
            raise image
        pixels = decode(image)
        whole = Image.fromarray(pixels)
        for side, quality in LADDER:
            small = whole.copy()
            small.thumbnail((side, side), Image.Resampling.LANCZOS)
            sink = io.BytesIO()
            small.save(sink, "WEBP", quality=quality, method=4)
            if sink.tell() <= most_bytes:
                data = base64.b64encode(sink.getvalue()).decode()
                size = {"width": small.width, "height": small.height}
                return {"src": f"data:image/webp;base64,{data}", **size}
    except RowError as error:
        return no_thumbnail(error.code, str(error))
    return no_thumbnail("too_large", f"no small version of it has {most_bytes:,} bytes or fewer")


def no_thumbnail(code: str, message: str) -> dict[str, Any]:
    """Why the page has no image in some place."""
    return {"error": code, "message": cut(message, MESSAGE)}
