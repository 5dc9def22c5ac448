from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.stages import PIXELS, PROMPT
from tokenfocus_ray.scoring.forward import ForwardPass
from tokenfocus_ray.scoring.scorer import AlignmentScorer


def test_memory_that_runs_out_halves_the_budget(
    scorer: AlignmentScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores stay what they are; what was done is not done again."""
    pictures, prompts = PIXELS[:2] * 4, [f"{PROMPT} {i}" for i in range(8)]
    expected = [row.score for row in scorer.score(pictures, prompts)]
    real, sizes = ForwardPass._run, []

    def run(self: ForwardPass, parts: Any, *rest: Any) -> None:
        sizes.append(len(parts))
        if len(parts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        real(self, parts, *rest)

    monkeypatch.setattr(ForwardPass, "_run", run)
    monkeypatch.setattr(scorer, "token_budget", 8192)
    assert [row.score for row in scorer.score(pictures, prompts)] == pytest.approx(expected)
    assert sizes[0] == 8
    assert sum(size for size in sizes if size <= 3) == 8
    assert scorer.token_budget < 8192
    sizes.clear()
    scorer.score(pictures, prompts)
    assert max(sizes) <= 3

    def never(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ForwardPass, "_run", never)
    with pytest.raises(torch.OutOfMemoryError):
        scorer.score(pictures, prompts)
