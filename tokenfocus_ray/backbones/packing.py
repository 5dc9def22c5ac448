"""Prefix and branches to one sequence: ids, depths and the mask that keeps branches apart.

One sequence holds one image. The prefix is computed once; each branch sees the prefix and itself,
and its positions continue from the prefix, so its answer equals that of a forward of its own.

    index    0 1 2 3 4 | 5 6 7 | 8 9
    segment  0 0 0 0 0 | 1 1 1 | 2 2
    depth    0 1 2 3 4 | 5 6 7 | 5 6

Legend: B sequences of a micro-batch, T tokens, A answer positions of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PADDING = -1


@dataclass(frozen=True, slots=True)
class PackedSequence:
    """One image with all its questions.

    Attributes:
        ids: [T] token ids; those at the image's place are never looked up.
        segments: [T] 0 for the prefix, 1.. for the branches.
        depths: [T] index of the token in the sequence that its own branch would make alone.
        answers: [A] indices whose hidden state predicts an answer token, branch by branch.
        image_start: Index of the first image token.
        n_visual_tokens: Number of image tokens.
        grid: (rows, columns) of the image tokens, for backbones with two-dimensional positions.
    """

    ids: list[int]
    segments: list[int]
    depths: list[int]
    answers: list[int]
    image_start: int
    n_visual_tokens: int
    grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.ids)


def pack(
    before_image: Sequence[int],
    n_visual_tokens: int,
    grid: tuple[int, int],
    after_image: Sequence[int],
    branches: Sequence[Sequence[int]],
    n_answers: Sequence[int] | None = None,
) -> PackedSequence:
    """Lays one request out as one sequence.

    Args:
        before_image: Prefix ids before the image.
        n_visual_tokens: Number of image tokens.
        grid: (rows, columns) of the image tokens.
        after_image: Prefix ids after the image.
        branches: [Q] ids of each question, up to the token before its answer.
        n_answers: [Q] how many of the last positions of each branch are read; 1 each by default.
            Training on whole answers reads more.

    Returns:
        The sequence; its ``answers`` are in the order of the branches.
    """
    prefix = [*before_image, *([0] * n_visual_tokens), *after_image]
    ids, segments, depths = list(prefix), [0] * len(prefix), list(range(len(prefix)))
    answers: list[int] = []
    for q, branch in enumerate(branches):
        ids += branch
        segments += [q + 1] * len(branch)
        depths += range(len(prefix), len(prefix) + len(branch))
        n = n_answers[q] if n_answers else 1
        assert 0 < n <= len(branch), f"branch {q} has {len(branch)} tokens, {n} answers"
        answers += range(len(ids) - n, len(ids))
    return PackedSequence(ids, segments, depths, answers, len(before_image), n_visual_tokens, grid)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A micro-batch, padded on the right.

    Attributes:
        ids_BT: Token ids, 0 at padding and image tokens.
        segments_BT: Segments, ``PADDING`` at padding.
        depths_BT: Depths, 0 at padding.
        image_mask_BT: Where image features go, in row-major order of the images.
        rows_A: Row of each answer position.
        columns_A: Column of each answer position.
        image_starts_B: Index of the first image token.
        n_visual_B: Number of image tokens.
        grids: [B] (rows, columns) of the image tokens.
    """

    ids_BT: Tensor
    segments_BT: Tensor
    depths_BT: Tensor
    image_mask_BT: Tensor
    rows_A: Tensor
    columns_A: Tensor
    image_starts_B: Tensor
    n_visual_B: Tensor
    grids: tuple[tuple[int, int], ...]


def collate(sequences: Sequence[PackedSequence], device: torch.device | str) -> PackedBatch:
    """Pads sequences to the longest and moves them to a device."""
    n_columns = max(len(s) for s in sequences)

    def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
        full = [[*row, *([fill] * (n_columns - len(row)))] for row in rows]
        return torch.tensor(full, device=device)

    starts_B = torch.tensor([s.image_start for s in sequences], device=device)
    n_visual_B = torch.tensor([s.n_visual_tokens for s in sequences], device=device)
    index_T = torch.arange(n_columns, device=device)
    return PackedBatch(
        ids_BT=padded([s.ids for s in sequences], 0),
        segments_BT=padded([s.segments for s in sequences], PADDING),
        depths_BT=padded([s.depths for s in sequences], 0),
        image_mask_BT=(index_T >= starts_B[:, None]) & (index_T < (starts_B + n_visual_B)[:, None]),
        rows_A=torch.tensor([b for b, s in enumerate(sequences) for _ in s.answers], device=device),
        columns_A=torch.tensor([a for s in sequences for a in s.answers], device=device),
        image_starts_B=starts_B,
        n_visual_B=n_visual_B,
        grids=tuple(s.grid for s in sequences),
    )


def branch_mask(segments_BT: Tensor) -> Tensor:
    """Who sees whom: the prefix and one's own branch, causally.

    Args:
        segments_BT: Segments of a micro-batch.

    Returns:
        Boolean [B, 1, T, T], True where the row's token attends to the column's. Every row has at
        least its diagonal: a row of all False would make attention kernels return NaN.
    """
    n = segments_BT.shape[1]
    causal_TT = torch.ones(n, n, dtype=torch.bool, device=segments_BT.device).tril()
    keys_B1T, queries_BT1 = segments_BT[:, None, :], segments_BT[:, :, None]
    return (((keys_B1T == 0) | (keys_B1T == queries_BT1)) & causal_TT).unsqueeze(1)


def window_mask(depths_BT: Tensor, window: int) -> Tensor:
    """Who is near enough to be seen by a layer with a sliding window.

    Args:
        depths_BT: Depths of a micro-batch: distances are those in the sequence of one branch.
        window: How many tokens are seen, a token's own included.

    Returns:
        Boolean [B, 1, T, T], to be combined with :func:`branch_mask`.
    """
    return (depths_BT[:, :, None] - depths_BT[:, None, :] < window).unsqueeze(1)


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Groups sequences of like length so that padded tokens stay within a budget.

    Args:
        lengths: [N] tokens of each sequence.
        token_budget: Most tokens of a micro-batch, padding included; a longer sequence goes alone.

    Returns:
        Indices of each micro-batch, longest first; every index exactly once.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= token_budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
