"""The page: data, style and script in one file that opens without a network.

What the data says is never markup: it travels as JSON in a block that is no script, and the script
sets it as text. The page's own policy forbids all but its own style and script, by their hashes,
and images that are in the page.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import shlex
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from string import Template
from typing import Any

from tokenfocus_ray.report.cards import ID, cut, no_thumbnail
from tokenfocus_ray.tables.members import ScoreTableInfo
from tokenfocus_ray.version import __version__

#: Of the whole file.
MOST_BYTES = 6 * 2**20
_SCRIPTS = (
    "dom.js", "threshold.js", "cards.js", "gallery.js", "tables.js", "comparisons.js", "main.js",
)  # fmt: skip


def origin(scores: str, where: str, info: ScoreTableInfo | None, when: datetime) -> dict[str, Any]:
    """Whose scores these are, and how they are selected.

    Args:
        scores: The table as the user named it, for the command.
        where: The table, for people.
        info: Who scored.
        when: The page is made.
    """
    backbones = [] if info is None else info.backbones
    ensemble = None if info is None else info.ensemble
    return {
        "title": cut("/".join(where.rstrip("/").split("/")[-2:]) or where, ID),
        "source": where,
        "generated": f"{when:%Y-%m-%d %H:%M %Z}",
        "version": __version__,
        "members": [] if info is None else [cut(name, ID) for name in info.members],
        "scale": None if info is None else info.scale,
        "who": [
            {
                "name": cut(one.name, ID), "source": cut(one.source, ID),
                "revision": cut(one.revision, ID), "package": cut(one.package, ID),
                "members": [cut(name, ID) for name in one.members[:20]],
            }
            for one in backbones
        ],
        "ensemble": None if ensemble is None else ensemble.model_dump(mode="json"),
        "command": [f"tokenfocus select {shlex.quote(scores)} --min-score", "--out selected"],
    }  # fmt: skip


def with_cards(data: dict[str, Any], cards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The data with its cards, and the galleries' rows as places among them.

    Args:
        data: With ``best``, ``worst`` and ``disputed`` as numbers of rows.
        cards: With their ``row``.
    """
    places = {card["row"]: place for place, card in enumerate(cards)}
    galleries = {
        name: [places[row] for row in data[name] if row in places]
        for name in ("best", "worst", "disputed")
    }
    return {**data, **galleries, "cards": list(cards)}


def fitted(data: dict[str, Any]) -> tuple[bytes, int]:
    """The page's file, and how many of its cards have an image.

    Images are left out from the last on where texts of markup, which are written as escapes, leave
    them no room.
    """
    page = render(data)
    cards = list(data["cards"])
    over, at = len(page) - MOST_BYTES, len(cards)
    while over > 0 and at > 0:
        at -= 1
        if (image := cards[at]["thumb"]).get("src"):
            over -= len(image["src"])
            message = f"left out, so that the page stays below {MOST_BYTES // 2**20} MiB"
            cards[at] = {**cards[at], "thumb": no_thumbnail("left_out", message)}
            over += len(message) + 60
    if at < len(cards):
        page = render({**data, "cards": cards})
    return page, sum("src" in card["thumb"] for card in cards)


def render(data: dict[str, Any]) -> bytes:
    """The page's file."""
    style, script = _asset("page.css"), "\n".join(_asset(name) for name in _SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    page = Template(_asset("page.html")).substitute(
        title=html.escape(f"{data['title']} · TokenFocus report"),
        policy=html.escape(policy, quote=True),
        style=style,
        script=script,
        data=_json(data),
    )
    return page.encode("utf-8", "backslashreplace")


def _json(data: dict[str, Any]) -> str:
    """JSON that no HTML parser takes for markup."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _asset(name: str) -> str:
    return files("tokenfocus_ray.report").joinpath("assets", name).read_text(encoding="utf-8")
