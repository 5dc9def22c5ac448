"""Names of what lies in an output folder.

Whoever reads the folder as a table passes over names that begin with one underscore (Arrow, Spark,
Ray) or with two (Hugging Face).
"""

from __future__ import annotations

#: What a job keeps for itself, beside its output.
JOB = "__job"
#: Who writes the folder now: :mod:`~tokenfocus_ray.distributed.lease`.
LEASE = f"{JOB}/lease"
#: Text of the input, as Parquet.
INPUT = f"{JOB}/input"
#: Scores that are not in a part yet: :mod:`~tokenfocus_ray.distributed.score.commits`.
COMMITS = f"{JOB}/commits"


def part_name(part: int) -> str:
    """Name of an output file."""
    return f"part-{part:05d}.parquet"
