"""Where a pass of one or several backbones over the rows stands."""

from __future__ import annotations

from tokenfocus_ray.progress import Pace, Progress


def progress_of(pace: Pace, total: int | None, left: int, part: str) -> Progress:
    """Where a pass stands.

    Args:
        pace: Its rows so far.
        total: Rows of the manifest, if known.
        left: Those that are still to be scored.
        part: The backbone, where several score one after another.
    """
    new, rate = pace.codes.total(), pace.steady()
    return Progress(
        "scoring",
        done=new if total is None else total - left,
        total=total,
        part=part,
        new=new,
        rate=rate,
        eta=None if rate is None or total is None else left / rate,
        codes=dict(pace.codes),
    )
