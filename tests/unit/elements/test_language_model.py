"""A tiny backbone knows no language, but what it writes is an answer all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenfocus_ray.backbones import registry
from tokenfocus_ray.elements.decomposed import TYPES
from tokenfocus_ray.elements.language_model import LanguageModel

PROMPTS = ["a red circle", "two blue squares left of a green circle", "a red circle", "x" * 9999]


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_answers_of_the_schema(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = LanguageModel(registry.resolve(name), tmp_path / "answers", "cpu", 2, most=1)
    found = list(make(PROMPTS))
    assert len(found) == len(PROMPTS)
    assert found[0] == found[2]
    for one in found[:3]:
        assert one.status in ("cut", "none")
        assert {element.type for element in one.elements} <= {*TYPES}
        assert len(one.elements) == (one.status == "cut")
    assert found[3].status == "failed"
    assert str(found[3].reason).startswith("the question has ")
    monkeypatch.setattr(make, "_generate", None)  # what is known is not asked again
    assert list(make(PROMPTS[:3])) == found[:3]
