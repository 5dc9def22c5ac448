"""What a selection did, as it is said and kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

from tokenfocus_ray.distributed.outcomes.carry import Carried
from tokenfocus_ray.exports.select import Counts
from tokenfocus_ray.storage import Store


@dataclass(frozen=True, slots=True)
class SelectSummary:
    """What a selection did.

    Attributes:
        out: The output folder; None where nothing was to be written.
        rows: Rows of the score table: those kept and those dropped.
        kept: Rows that were kept.
        dropped: Reason -> rows that were dropped, most frequent first.
        uids: Uids in the ``.npy`` file; None where there is none.
        images: Copies of images; None where none were asked for.
        shards: Tar shards; likewise.
        not_copied: Kept rows whose image could not be read any more, for the copies or the shards.
        seconds: Wall time of this launch.
        notes: What is worth saying.
    """

    out: str | None
    rows: int
    kept: int
    dropped: Mapping[str, int]
    uids: int | None = None
    images: int | None = None
    shards: int | None = None
    not_copied: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def line(self) -> str:
        """The final line, which a script can read."""
        counts = {"rows": self.rows, "kept": self.kept, "dropped": sum(self.dropped.values())}
        for name in ("uids", "images", "shards"):
            if (n := getattr(self, name)) is not None:
                counts[name] = n
        if self.images is not None or self.shards is not None:
            counts["not_copied"] = self.not_copied
        shown = " ".join(f"{name}={n}" for name, n in counts.items())
        out = "" if self.out is None else f" out={self.out}"
        return f"{shown} seconds={self.seconds:.1f}{out}"

    @classmethod
    def of(cls, counts: Counts, uids: int | None) -> Self:
        """Of a selection, before any image is copied."""
        dropped = dict(counts.dropped.most_common())
        return cls(None, counts.rows, counts.kept, dropped, uids, notes=tuple(counts.notes))

    @classmethod
    def read(cls, store: Store, name: str) -> Self:
        """As it was written down."""
        found = store.read_record(name)
        names = ("rows", "kept", "dropped", "uids", "images", "shards", "not_copied")
        return cls(out=None, notes=tuple(found["notes"]), **{n: found[n] for n in names})

    def with_copies(self, done: Carried) -> Self:
        """Of a selection whose images were copied."""
        return replace(self, images=done.images, not_copied=max(self.not_copied, done.missing))

    def with_shards(self, done: Carried) -> Self:
        """Of a selection whose images were cut into shards."""
        return replace(self, shards=done.runs, not_copied=max(self.not_copied, done.missing))

    def in_words(self) -> Iterator[str]:
        """Lines for whoever waits."""
        yield from self.notes
        share = self.kept / max(self.rows, 1)
        yield f"kept {self.kept:,} of {self.rows:,} rows ({share:.1%})"
        if self.dropped:
            each = ", ".join(f"{n:,} {reason}" for reason, n in self.dropped.items())
            yield f"dropped {sum(self.dropped.values()):,}: {each}"
        if self.not_copied:
            yield f"{self.not_copied:,} kept rows have no image any more: see not_copied/"
