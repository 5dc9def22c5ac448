"""Answers are kept by prompt, model and wording."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tokenfocus_ray.elements import cache
from tokenfocus_ray.elements.cache import AnswerCache
from tokenfocus_ray.elements.decomposed import Decomposed, decomposed, failed, nothing
from tokenfocus_ray.schema import Element

RESULTS = {
    "a cat": decomposed([Element("cat", "animal")]),
    "A cat": Decomposed((Element("A", "other"),), "cut", "more"),
    "!": nothing("nothing"),
    "x": failed("no answer"),
}


def test_what_was_answered_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "below" / "answers"
    AnswerCache(path, "m").put(RESULTS)
    asked = [*RESULTS, *(f"prompt {i}" for i in range(1200))]
    known = {prompt: one for prompt, one in RESULTS.items() if prompt != "x"}
    assert AnswerCache(path, "m").get(asked) == known
    assert AnswerCache(path, "n").get(asked) == {}
    monkeypatch.setattr(cache, "wording", lambda: "another")
    assert AnswerCache(path, "m").get(asked) == {}


def test_without_a_cache_work_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "answers"
    path.write_text("no database" * 99)
    broken = AnswerCache(path, "m")
    with caplog.at_level(logging.WARNING):
        assert broken.get(["a"]) == {}
        broken.put(RESULTS)
    assert caplog.messages == [
        f"answers are not kept between jobs: {path}: file is not a database (TOKENFOCUS_CACHE "
        f"names the folder)"
    ]
