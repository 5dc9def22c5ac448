"""Prompts as groups: rows of one prompt are never parted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def prompt_group(text: object) -> str:
    """What groups rows: prompts that differ in case or white space only are one.

    >>> prompt_group(" A red   pig")
    'a red pig'
    """
    return " ".join(str(text).casefold().split())


def prompt_groups(prompts: Sequence[object]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """[N] number of each row's prompt, and what is to be said where prompts are missing.

    A row without a prompt stands for itself.
    """
    named = [prompt_group(p) if p is not None else "" for p in prompts]
    # a prompt cannot start with a space, so these names are nobody else's
    keys = [name or f" {i}" for i, name in enumerate(named)]
    notes: tuple[str, ...] = ()
    if n_missing := named.count(""):
        notes = (f"{n_missing} rows without a prompt stand for themselves",)
        if n_missing == len(named):
            notes = ("no prompts in labels or scores; every row stands for itself",)
    return group_numbers(np.array(keys, dtype=np.str_)), notes


def prompt_key(text: str) -> str:
    """A prompt without case and spacing, so that copies of it are known as such."""
    return " ".join(text.casefold().split())


def group_numbers(groups: ArrayLike) -> NDArray[np.int64]:
    """[N] numbers from 0, one for each different value."""
    _, numbers_N = np.unique(np.asarray(groups), return_inverse=True)
    return numbers_N.astype(np.int64)
