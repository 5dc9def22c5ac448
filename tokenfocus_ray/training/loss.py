"""The loss: token-focused supervision of the first answer token, as pure functions.

With z the logits at a question's answer position, p = softmax(z) over the whole vocabulary, P its
renormalisation over the levels S with values v, and q the annotators' soft label with mean y:

    first_token   -sum_i q_i log p(s_i)            keeps the level mass high, and shapes P
    regression    huber(sum_i v_i P(s_i) - y)      in levels: divided by their mean distance
    kl            sum_i q_i log(q_i / P(s_i))      the closed set only
    rank          log(1 + exp(-(e_a - e_b)))       for images a, b of one prompt, y_a > y_b

The position-aware hybrid of the first two is the method's (arXiv 2504.07556, whose weights are not
published); the other two are neighbours' (DeQA-Score). Every function returns sums: the caller
divides by the weight of the whole step, so that neither the number of micro-batches nor the number
of workers changes a gradient. Pairs are those of the whole step too: ``rank_slopes`` has the
gradient by each expected score, whoever computed it.

All of it is in float32 at least, also under autocast and on logits of less.

Legend: A answers of one task, K levels, V vocabulary, L answer tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tokenfocus_ray.config import LossConfig
from tokenfocus_ray.config.scoring import LevelNormalization
from tokenfocus_ray.scoring.distribution import level_distribution


@dataclass(frozen=True, slots=True)
class Targets:
    """Labels of A answers to one task's question.

    Attributes:
        probs_AK: Soft labels; any values where the weight is 0.
        means_A: Mean ratings; likewise.
        weights_A: 0 where nobody rated.
    """

    probs_AK: Tensor
    means_A: Tensor
    weights_A: Tensor


def token_focused_terms(
    logits_AV: Tensor,
    targets: Targets,
    level_ids: tuple[int, ...],
    values: tuple[float, ...],
    config: LossConfig,
    normalization: LevelNormalization = "logits",
) -> tuple[dict[str, Tensor], Tensor]:
    """Weighted sums of the terms on the first answer token.

    Args:
        logits_AV: Raw logits at the answer positions.
        targets: Labels.
        level_ids: [K] token ids of the levels.
        values: [K] values of the levels.
        config: Weights of the terms; those of weight 0 are not computed.
        normalization: See :func:`~tokenfocus_ray.scoring.distribution.level_distribution`.

    Returns:
        Term name -> sum over the answers of weight * term (the configuration's weights are not in
        it), and the expected values [A].
    """
    logits_AV = logits_AV.to(torch.promote_types(logits_AV.dtype, torch.float32))
    distribution = level_distribution(logits_AV, level_ids, values, normalization)
    weights_A = targets.weights_A
    probs_AK = torch.where(weights_A[:, None] > 0, targets.probs_AK, 0.0)
    means_A = torch.where(weights_A > 0, targets.means_A, distribution.expected_B.detach())
    terms: dict[str, Tensor] = {}
    if config.first_token:
        index_K = torch.tensor(level_ids, device=logits_AV.device)
        log_p_AK = logits_AV.index_select(-1, index_K) - logits_AV.logsumexp(-1, keepdim=True)
        terms["first_token"] = -(weights_A * (probs_AK * log_p_AK).sum(-1)).sum()
    if config.regression:
        spacing = (max(values) - min(values)) / (len(values) - 1)
        errors_A = (distribution.expected_B - means_A) / spacing
        terms["regression"] = (weights_A * _distance(errors_A, config.regression_kind)).sum()
    if config.kl:
        kl_A = (torch.xlogy(probs_AK, probs_AK) - probs_AK * distribution.log_probs_BK).sum(-1)
        terms["kl"] = (weights_A * kl_A).sum()
    return terms, distribution.expected_B


def _distance(errors_A: Tensor, kind: str) -> Tensor:
    if kind == "mse":
        return errors_A**2
    if kind == "l1":
        return errors_A.abs()
    return functional.huber_loss(errors_A, torch.zeros_like(errors_A), reduction="none")


def ranked_pairs(groups: Sequence[int], means: Sequence[float]) -> list[tuple[int, int]]:
    """Pairs (a, b) of one group of which a is rated higher.

    Args:
        groups: [A] prompt of each answer.
        means: [A] mean ratings; NaN where nobody rated, which is in no pair.
    """
    n = len(groups)
    return [
        (a, b) for a in range(n) for b in range(n) if groups[a] == groups[b] and means[a] > means[b]
    ]


def rank_slopes(
    expected_A: Sequence[float], groups: Sequence[int], means: Sequence[float]
) -> tuple[float, list[float]]:
    """Mean over the ranked pairs of :func:`rank_term`, and its derivatives.

    Args:
        expected_A: Expected values.
        groups: As :func:`ranked_pairs` takes them.
        means: Likewise.

    Returns:
        The mean, and its derivative by each expected value; zeros where there is no pair.
    """
    pairs = ranked_pairs(groups, means)
    if not pairs:
        return 0.0, [0.0] * len(expected_A)
    with torch.enable_grad():
        values_A = torch.tensor(expected_A, dtype=torch.float64, requires_grad=True)
        mean = rank_term(values_A, pairs) / len(pairs)
    (slopes_A,) = torch.autograd.grad(mean, values_A)
    return float(mean.detach()), slopes_A.tolist()


def rank_term(expected_A: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Sum over pairs (a, b), a rated higher, of log(1 + exp(-(e_a - e_b)))."""
    if not pairs:
        return expected_A.new_zeros(())
    higher, lower = (
        torch.tensor(side, device=expected_A.device) for side in zip(*pairs, strict=True)
    )
    return functional.softplus(expected_A[lower] - expected_A[higher]).sum()


def whole_answer_term(logits_LV: Tensor, tokens_L: Tensor, weights_L: Tensor) -> Tensor:
    """Weighted sum of the cross-entropy of every token of the answers: plain fine-tuning."""
    logits_LV = logits_LV.to(torch.promote_types(logits_LV.dtype, torch.float32))
    losses_L = functional.cross_entropy(logits_LV, tokens_L, reduction="none")
    return (weights_L * losses_L).sum()
