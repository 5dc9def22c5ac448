"""Where a pass of one or several backbones over the rows stands."""

from __future__ import annotations

from dataclasses import replace

from tokenfocus_ray.progress import Pace, Progress


def progress_of(pace: Pace, total: int | None, left: int, part: str) -> Progress:
    """Where a pass stands.

    Args:
        pace: Its rows so far.
        total: Rows of the manifest, if known.
        left: Those that are still to be scored.
        part: The backbone, where several score one after another.
    """
    there = 0 if total is None else total - left - pace.codes.total()
    found = pace.progress("scoring", total, part=part, there=there)
    return replace(found, codes=dict(pace.codes))
