"""How many tokens a micro-batch may have on this device: measured once, when a scorer starts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from tokenfocus_ray.scoring.request import Request
from tokenfocus_ray.scoring.scorer import TOKEN_BUDGET, AlignmentScorer

#: Share of the free memory that a micro-batch may take; the rest is for fragments and outliers.
SHARE = 0.6
#: Beyond this, larger micro-batches are no faster.
MOST_TOKENS = 131_072
#: Side of the pictures of the trial, in pixels: beyond most backbones' limits, so the usual size.
_SIDE = 1024


def budget_for(free: int, used: int, tokens: int) -> int:
    """The token budget for a device's memory.

    >>> budget_for(free=40 * 2**30, used=2 * 2**30, tokens=8192)
    98304
    >>> budget_for(free=2**30, used=2 * 2**30, tokens=8192)
    2457

    Args:
        free: Bytes left on the device with the weights loaded.
        used: Bytes that a trial took at its peak.
        tokens: Of the trial.
    """
    return max(1, min(MOST_TOKENS, int(SHARE * free / max(1, used) * tokens)))


def fit_token_budget(scorer: AlignmentScorer) -> None:
    """Sets the scorer's token budget by a trial; leaves it where the device is no GPU.

    A trial that does not fit halves the budget, as any micro-batch does.

    Args:
        scorer: Loaded, on its device.
    """
    device = scorer.backbone.device
    if device.type != "cuda":
        return
    image = scorer.backbone.image_spec.prepare(np.zeros((_SIDE, _SIDE, 3), np.uint8))
    trial = Request("trial", "a picture", image)
    (part,) = scorer.packer.pack(0, image, "a picture", (), None, TOKEN_BUDGET)
    count = max(1, TOKEN_BUDGET // len(part.sequence))
    scorer.token_budget = TOKEN_BUDGET
    scorer.score_requests([trial])  # libraries take their own memory at the first call
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    # copies, since equal objects would be encoded once
    scorer.score_requests([replace(trial, image=replace(image)) for _ in range(count)])
    if scorer.token_budget < TOKEN_BUDGET:
        return  # it did not fit
    used = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    scorer.token_budget = budget_for(free, used, count * len(part.sequence))
