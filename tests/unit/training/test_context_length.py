from __future__ import annotations

import pytest

from tests.support.folders import TINY
from tests.support.learners import train_config
from tokenfocus_ray.backbones import registry
from tokenfocus_ray.training.context_length import beyond_context


@pytest.mark.parametrize("name", TINY)
def test_prompts_beyond_the_context_are_found(name: str) -> None:
    """The built-in backbones take 2,048 tokens."""
    element = {"text": "cat", "type": "animal"}
    samples = [
        {"row": 0, "prompt": "one cat", "prompt_type": None, "elements": [element]},
        {"row": 3, "prompt": "cat " * 700, "prompt_type": "real", "elements": None},
        {"row": 7, "prompt": "cat " * 2100, "prompt_type": "real", "elements": [element]},
    ]
    sizes = {row: (64, 48) for row in (0, 3, 7)}
    found = beyond_context(train_config(name), {name: registry.resolve(name)}, samples, sizes)
    assert list(found) == [7]
    assert found[7].code == "prompt_too_long"
    assert f"but {name} takes 2048" in found[7].message
