"""An output folder belongs to one configuration, and lies outside of what is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tokenfocus_ray.backbones.hub import COMMIT
from tokenfocus_ray.datasets.watch import STAMPS
from tokenfocus_ray.errors import ConfigError, OutputError
from tokenfocus_ray.storage import Store, public

if TYPE_CHECKING:
    pass  # needs torch, which only a plan does

#: Keys of what adapters are beside their weights: scaling, kind, layers.
ADAPTER_CONFIGS = "adapter_configs"


def check_identity(
    store: Store, file: str, identity: Mapping[str, Any], is_ours: Callable[[str], bool], maker: str
) -> bool:
    """Whether the folder holds an earlier launch of the same configuration.

    Args:
        store: The output folder.
        file: Name of the record in it.
        identity: What makes the output what it is, flat.
        is_ours: Whether a name may stand in the folder without the record.
        maker: Who else would have written it, for messages: "no training".

    Raises:
        ConfigError: it holds one of another, with what differs.
        OutputError: it holds something else.
    """
    if not store.exists(file):
        foreign = [name for name in store.names() if not is_ours(name)]
        if foreign:
            raise OutputError(
                f"output folder {store.uri!r} holds {foreign[0]!r}, which {maker} wrote; "
                f"choose another"
            )
        return False
    earlier = store.read_record(file)
    plain = json.loads(json.dumps(identity))
    keys = differing(earlier, plain)
    if keys:
        shown = "; ".join(difference(k, earlier.get(k), plain.get(k), "there") for k in keys)
        raise ConfigError(
            f"{store.uri} was begun with another configuration ({shown}); set it back to go on, "
            f"or choose another --out"
        )
    return True


def differing(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Entries in which two records differ, but for those that an earlier version did not keep."""
    return [
        key
        for key in sorted({*earlier, *now})
        if earlier.get(key) != now.get(key) and (key in earlier or not _is_later(key))
    ]


def _is_later(key: str) -> bool:
    parts = key.split(".")
    return ADAPTER_CONFIGS in parts or (parts[0] == "input" and parts[-1] in STAMPS)


def place(uri: str) -> Store:
    """The store of a path or URI, whatever the working folder will be."""
    return Store.of(uri if "://" in uri else os.path.abspath(uri))


def check_outside(store: Store, inputs: Sequence[str]) -> None:
    """Refuses an output folder in a folder whose files are the input: the next launch reads both.

    Args:
        store: The output folder.
        inputs: Files and folders that are read; only folders can hold it.

    Raises:
        OutputError: naming both.
    """
    for uri in inputs:
        folder = place(uri)
        if store.lies_in(folder) and folder.is_folder():
            raise OutputError(
                f"output folder {store.uri!r} lies in the input folder {public(uri)!r}, all files "
                f"of which are read: the next launch would take the output for input; choose a "
                f"folder outside of it"
            )


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


JOB = "__job"


COMMITS, INPUT = f"{JOB}/commits", f"{JOB}/input"


def part_name(part: int) -> str:
    """Name of an output file."""
    return f"part-{part:05d}.parquet"
