"""Sample ids seen so far, as digests: who came first keeps an id."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

DIGEST = 16  # bytes: among 10^9 ids, two meet by chance with a probability below 10^-20


def digests(ids: pa.ChunkedArray[Any] | pa.Array[Any]) -> NDArray[np.bytes_]:
    """[N] 128-bit hashes of ids."""
    texts: list[Any] = ids.to_pylist()
    each = (
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()
        for text in texts
    )
    return np.frombuffer(b"".join(each), dtype=f"V{DIGEST}").view(f"S{DIGEST}")


class SeenIds:
    """Finds ids that came before; 16 bytes for each."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.bytes_]] = []

    def add(self, new: NDArray[np.bytes_]) -> list[int]:
        """Positions of the ids that were there before, earlier in ``new`` included; keeps them."""
        _, first = np.unique(new, return_index=True)
        known = np.ones(len(new), dtype=bool)
        known[first] = False
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, new), len(run) - 1)
            known |= run[at] == new
        self._keep(np.sort(new[~known]))
        return np.flatnonzero(known).tolist()

    def _keep(self, run: NDArray[np.bytes_]) -> None:
        """Few sorted runs, each more than twice as long as the next."""
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)
