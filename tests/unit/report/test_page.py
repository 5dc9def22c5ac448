from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.scores import info
from tokenfocus_ray.report import page as page_file
from tokenfocus_ray.report.page import fitted, origin, render, with_cards

WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def data(n: int = 3, image: str = "data:image/webp;base64,AAAA", **more: Any) -> dict[str, Any]:
    cards = [{"row": i * 10, "thumb": {"src": image, "width": 1, "height": 1}} for i in range(n)]
    given = {"title": "a/b", "best": [20, 0], "worst": [0, 99], "disputed": [], **more}
    return with_cards(given, cards)


def test_galleries_are_places_among_the_cards() -> None:
    found = data()
    assert (found["best"], found["worst"], found["disputed"]) == ([2, 0], [0], [])


def test_nothing_is_markup() -> None:
    """The page's JSON is as it was given, and holds no sign that a parser of HTML looks for."""
    hostile = "</script><!--<script>&lt;\u2028\u2029\udc80"
    text = render(data(title=hostile)).decode()
    block = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    (found,) = block
    assert not re.search("[<>&\u2028\u2029]", found)
    assert json.loads(found)["title"] == hostile
    assert "<title>&lt;/script&gt;&lt;!--&lt;script&gt;&amp;lt;" in text


def test_policy_allows_what_is_in_the_page_alone() -> None:
    text = render(data()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    parts = dict(part.split(" ", 1) for part in policy.replace("&#x27;", "'").split("; "))
    for kind, tag in (("style-src", "style"), ("script-src", "script")):
        (inner,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert parts.pop(kind) == f"'sha256-{digest}'"
    assert parts == {
        "default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    assert not re.search(r"https?://|@import|url\(", text)


def test_too_large_a_page_goes_without_its_last_images(monkeypatch: pytest.MonkeyPatch) -> None:
    one = data(9, image=f"data:image/webp;base64,{'A' * 20_000}")
    whole, n_images = fitted(one)
    assert (len(whole), n_images) == (len(render(one)), 9)
    monkeypatch.setattr(page_file, "MOST_BYTES", len(whole) - 30_000)
    page, n_images = fitted(one)
    assert len(page) <= len(whole) - 30_000
    assert n_images == 7
    assert page.count(b"left out, so that the page stays below") == 2
    monkeypatch.setattr(page_file, "MOST_BYTES", 100)
    assert fitted(one)[1] == 0


def test_origin() -> None:
    found = origin("s3://b/my runs/scores", "s3://b/my runs/scores", info({"tiny": ["m0"]}), WHEN)
    assert found["title"] == "my runs/scores"
    assert found["generated"] == "2026-01-02 03:04 UTC"
    assert found["command"] == [
        "tokenfocus select 's3://b/my runs/scores' --min-score", "--out selected",
    ]  # fmt: skip
    assert (found["scale"], found["members"]) == ((1.0, 5.0), ["m0"])
    assert found["who"][0]["revision"] == "revision of tiny"
    nobody = origin("x", "x", None, WHEN)
    assert (nobody["who"], nobody["members"], nobody["scale"]) == ([], [], None)
