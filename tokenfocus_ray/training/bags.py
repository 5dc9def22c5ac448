"""Who trains on what: bags of prompts, so that no member is asked about a prompt it has seen.

A prompt's images are never parted: two images of one prompt share the question, and often the
annotators' idea of it, so an image whose sibling was trained on is not unseen. Samples share a
prompt when they share its id or its text (case and spaces aside).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokenfocus_ray.config import BagsConfig
from tokenfocus_ray.errors import ConfigError
from tokenfocus_ray.schema import backbone_label
from tokenfocus_ray.tables.prompts import prompt_key


@dataclass(frozen=True, slots=True)
class Bag:
    """One member's data, as indices of samples.

    Attributes:
        index: Which bag.
        train: Trained on; an index may stand several times (bootstrap).
        validation: Chooses the best epoch.
        held_out: Prompts that the member never sees: its out-of-fold predictions.
    """

    index: int
    train: tuple[int, ...]
    validation: tuple[int, ...]
    held_out: tuple[int, ...]


def prompt_groups(prompt_ids: Sequence[str | None], prompts: Sequence[str]) -> list[int]:
    """Number of the prompt of each sample, from 0 in order of appearance.

    Args:
        prompt_ids: [N] ids, None where there is none.
        prompts: [N] texts.

    >>> prompt_groups(["a", "b", None, None], ["A cat", "a dog", "a  CAT", "a cow"])
    [0, 1, 0, 2]
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    texts = [("text", prompt_key(text)) for text in prompts]
    for text, prompt_id in zip(texts, prompt_ids, strict=True):
        if prompt_id is not None:
            parent[root(("id", prompt_id))] = root(text)
    numbers: dict[tuple[str, str], int] = {}
    return [numbers.setdefault(root(text), len(numbers)) for text in texts]


def make_bags(groups: Sequence[int], config: BagsConfig) -> list[Bag]:
    """The bags; equal groups and configuration give equal bags.

    The prompts are dealt into ``count`` folds. Member i never sees fold i. With ``kfold`` it trains
    on all other prompts; with ``bootstrap`` it draws as many prompts as there are, with
    replacement, from the others, and what it did not draw is held out too. So every sample is held
    out by at least one member.

    Args:
        groups: [N] prompt number of each sample, see :func:`prompt_groups`.
        config: Method, count, share of validation, seed.

    Raises:
        ConfigError: fewer prompts than the bags need.
    """
    of_group: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        of_group.setdefault(group, []).append(index)
    names = sorted(of_group)
    # a fold each, and outside the largest one prompt to train on and one to validate on
    least = max(config.count, 4 if config.count == 2 else 3)
    if len(names) < least:
        raise ConfigError(
            f"bags.count = {config.count} needs at least {least} different prompts, but the "
            f"training data has {len(names)}; lower bags.count or add data"
        )
    shuffled = np.random.default_rng([config.seed, 0]).permutation(names).tolist()
    folds = [shuffled[i :: config.count] for i in range(config.count)]
    bags = []
    for i, fold in enumerate(folds):
        rng = np.random.default_rng([config.seed, 1, i])
        others = sorted(set(names) - set(fold))
        mixed = rng.permutation(others).tolist()
        n_validation = min(max(1, round(config.validation * len(mixed))), len(mixed) - 1)
        validation, pool = mixed[:n_validation], sorted(mixed[n_validation:])
        if config.method == "kfold":
            drawn = Counter(pool)
            held_out = set(fold)
        else:
            drawn = Counter(rng.choice(pool, size=len(names)).tolist())
            held_out = set(names) - set(drawn) - set(validation)
        bags.append(
            Bag(
                index=i,
                train=tuple(j for g in pool for j in of_group[g] for _ in range(drawn[g])),
                validation=tuple(j for g in sorted(validation) for j in of_group[g]),
                held_out=tuple(j for g in sorted(held_out) for j in of_group[g]),
            )
        )
    return bags


def member_name(backbone: str, bag: int) -> str:
    """Name of a member, and of its folder.

    >>> member_name("tiny-internvl", 2)
    'tiny-internvl-bag2'
    """
    return f"{backbone_label(backbone)}-bag{bag}"
