"""Level logits to probabilities, expected score, level mass and entropy.

Legend: B rows, K levels, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokenfocus_ray.config.scoring import LevelNormalization


@dataclass(frozen=True, slots=True)
class LevelDistribution:
    """What the first generated token says, for B answers.

    Attributes:
        probs_BK: Closed-set probabilities P(s_i|X).
        log_probs_BK: Their logs, exact where a probability underflows.
        expected_B: sum_i v_i P(s_i|X).
        mass_B: Probability of all K level tokens together over the full vocabulary; near 0 the
            model wanted to say something else.
        entropy_B: Entropy of ``probs_BK`` in nats.
    """

    probs_BK: Tensor
    log_probs_BK: Tensor
    expected_B: Tensor
    mass_B: Tensor
    entropy_B: Tensor


def level_distribution(
    logits_BV: Tensor,
    level_ids: tuple[int, ...],
    values: tuple[float, ...],
    normalization: LevelNormalization = "logits",
) -> LevelDistribution:
    """Closed-set distribution over the levels at the answer position.

    Args:
        logits_BV: Raw logits z of the first generated token, any floating type; computed in
            float32 at least, also under autocast, so that bf16 models do not lose the
            expectation's precision.
        level_ids: [K] token ids of the levels.
        values: [K] values of the levels.
        normalization: ``"logits"`` renormalises p(s_i) over the levels, which equals a softmax of
            the level logits (the default; also Q-Align, DeQA-Score, iMatch). ``"probs"`` is the
            paper's printed form taken literally: exp(p_i) / sum_j exp(p_j) with p the
            full-vocabulary probabilities, which confines five levels 1..5 to [2.49, 3.51].

    Returns:
        The distribution; NaN wherever the logits are not finite.
    """
    logits_BV = logits_BV.to(torch.promote_types(logits_BV.dtype, torch.float32))
    index = torch.tensor(level_ids, device=logits_BV.device)
    level_logits_BK = logits_BV.index_select(-1, index)
    log_total_B = torch.logsumexp(logits_BV, dim=-1)
    mass_B = torch.exp(torch.logsumexp(level_logits_BK, dim=-1) - log_total_B)
    # over the vocabulary in both forms: a bad logit anywhere must not pass unseen
    level_logits_BK = level_logits_BK - log_total_B.unsqueeze(-1)
    if normalization == "probs":
        level_logits_BK = level_logits_BK.exp()
    log_probs_BK = torch.log_softmax(level_logits_BK, dim=-1)
    probs_BK = log_probs_BK.exp()
    values_K = torch.tensor(values, dtype=probs_BK.dtype, device=probs_BK.device)
    return LevelDistribution(
        probs_BK=probs_BK,
        log_probs_BK=log_probs_BK,
        # no matrix product: under autocast it would be one of low precision
        expected_B=(probs_BK * values_K).sum(dim=-1),
        mass_B=mass_B,
        # 0 * log 0 = 0: a level may underflow to probability 0 with a log of -inf
        entropy_B=torch.special.entr(probs_BK).sum(dim=-1),
    )
