"""What an output depends on, as a flat record: two launches of one job must agree in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenfocus_ray.backbones.hub import COMMIT
from tokenfocus_ray.datasets.watch import STAMPS
from tokenfocus_ray.errors import ConfigError

#: Keys of what adapters are beside their weights: scaling, kind, layers.
ADAPTER_CONFIGS = "adapter_configs"


def check_same(where: str, earlier: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Refuses to go on with what was begun otherwise.

    Args:
        where: Of the output folder, for the message.
        earlier: What it was begun with, as read from JSON.
        identity: What this launch would make it of.

    Raises:
        ConfigError: with what differs.
    """
    plain = json.loads(json.dumps(identity))
    if keys := differing(earlier, plain):
        shown = "; ".join(difference(k, earlier.get(k), plain.get(k), "there") for k in keys)
        raise ConfigError(
            f"{where} was begun with another configuration ({shown}); set it back to go on, or "
            f"choose another --out"
        )


def differing(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Entries in which two records differ, but for those that an earlier version did not keep."""
    return [
        key
        for key in sorted({*earlier, *now})
        if earlier.get(key) != now.get(key) and (key in earlier or not _came_later(key))
    ]


def _came_later(key: str) -> bool:
    """Whether records of earlier versions lack the entry."""
    parts = key.split(".")
    return ADAPTER_CONFIGS in parts or (parts[0] == "input" and parts[-1] in STAMPS)


def difference(key: str, then: Any, now: Any, when: str) -> str:
    """One entry that differs; for a hub id's commit, with how to go back.

    >>> difference("workers", 1, 2, "there")
    'workers: 1 there, 2 now'
    """
    shown = f"{key}: {then!r} {when}, {now!r} now"
    if key.rpartition(".")[2] != "weights" or not COMMIT.fullmatch(str(now)):
        return shown
    if COMMIT.fullmatch(str(then)):
        return f"{shown}: give revision {then}"
    return f"{shown}: no commit is recorded, so they may differ"
