"""What a format is: a name, how its files are made, and one pure function a record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

Row = Mapping[str, Any]
#: Record of a pair or ranking, by the seed that puts one image first.
Record = Callable[[Row, int], dict[str, Any]]
#: Likewise with the preferred image and the other one.
WithImages = Callable[[Row, int, bytes, bytes], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Format:
    """How pairs are written.

    Attributes:
        name: As users name it.
        unit: What a record is: ``pairs``, ``rankings``, ``rewards`` or ``tasks``.
        files: Ending of its files, or ``folder`` of files.
        tag: What means an image to its readers, so that no prompt may hold it.
        record: Of a record that names images by path.
        with_images: Of one that holds them.
        schema: Of such, from the types of generator and seed.
    """

    name: str
    unit: Literal["pairs", "rankings", "rewards", "tasks"]
    files: Literal[".json", ".jsonl", ".parquet", "folder"]
    tag: str = ""
    record: Record | None = None
    with_images: WithImages | None = None
    schema: Callable[[pa.DataType, pa.DataType], pa.Schema] | None = None

    @property
    def holds_images(self) -> bool:
        """Whether the images themselves are written, rather than their paths."""
        return self.with_images is not None


def chosen_first(pair: Row, seed: int) -> bool:
    """Whether the preferred image stands first, by a hash of the two ids and a seed.

    So the place of an image says nothing about it: each of the two stands first in half of all
    pairs, and in the same pairs again at the same seed.

    Args:
        pair: With ``chosen_id`` and ``rejected_id``.
        seed: Any whole number.
    """
    ids = (str(pair[f"{side}_id"]) for side in ("chosen", "rejected"))
    text = "\0".join((str(seed), *ids))
    return bool(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0] & 1
    )


def sides(pair: Row, seed: int) -> tuple[str, str]:
    """``chosen`` and ``rejected``, in the order in which the images stand."""
    return ("chosen", "rejected") if chosen_first(pair, seed) else ("rejected", "chosen")


def origin(pair: Row, side: str) -> dict[str, Any]:
    """Where an image comes from: its generator and seed; None where the table does not know."""
    return {f"{side}_{name}": pair[f"{side}_{name}"] for name in ("generator", "seed")}


def judge(prompt: str) -> str:
    """The question of which of two images is better, as text."""
    return f"Which of the two images follows this prompt better?\n{prompt}"


#: Its answers.
ANSWERS = ("Image 1", "Image 2")
