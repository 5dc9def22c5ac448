"""The trial that sets the token budget; tests/gpu has it on a device."""

from __future__ import annotations

import pytest
import torch

from tokenfocus_ray import AlignmentScorer
from tokenfocus_ray.scoring.memory import MOST_TOKENS, budget_for, fit_token_budget
from tokenfocus_ray.scoring.scorer import TOKEN_BUDGET


@pytest.mark.parametrize(
    ("free", "used", "tokens", "budget"),
    [(100, 60, 1000, 1000), (100, 0, 1000, 60_000), (10**12, 1, 1000, MOST_TOKENS), (0, 9, 9, 1)],
)
def test_budget(free: int, used: int, tokens: int, budget: int) -> None:
    assert budget_for(free, used, tokens) == budget


def test_a_cpu_keeps_its_budget() -> None:
    scorer = AlignmentScorer.from_pretrained("tiny-qwen2_5_vl", device="cpu")
    fit_token_budget(scorer)
    assert scorer.token_budget == TOKEN_BUDGET


def test_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's answers are made up; what is asked of it, and of the scorer, is real."""
    scorer = AlignmentScorer.from_pretrained("tiny-qwen2_5_vl", device="cpu")
    sizes: list[int] = []
    monkeypatch.setattr(type(scorer.backbone), "device", torch.device("cuda"), raising=False)
    monkeypatch.setattr(
        scorer,
        "score_requests",
        lambda requests: sizes.append(len({id(r.image) for r in requests})),
    )
    cuda = {
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda device: None,
        "memory_allocated": lambda device: 1000,
        "max_memory_allocated": lambda device: 3000,
        "mem_get_info": lambda device: (20_000, 80_000),
    }
    for name, answer in cuda.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    fit_token_budget(scorer)
    assert sizes[0] == 1
    tokens = scorer.token_budget / (0.6 * 20_000 / 2000)
    assert TOKEN_BUDGET / 2 < tokens <= TOKEN_BUDGET
    assert sizes[1] > 1
