"""Keeps the best rows of a score table, and cuts them into tar shards; submit it again to go on.

    ray job submit --working-dir . -- python jobs/select_scores.py SCORES --out OUT

Writes OUT/kept, OUT/dropped and OUT/shards; criteria: docs/selecting.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tokenfocus_ray import Selection, select_scores
from tokenfocus_ray.cli.ends import run


def main() -> int:
    """Runs the job; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scores")
    parser.add_argument("--config", default=str(Path(__file__).with_suffix(".yaml")))
    parser.add_argument("--shard-size", type=int, default=10_000, help="most samples of a shard")
    parser.add_argument("--out", required=True, help="folder that every node reaches, or s3://")
    parser.register("type", None, os.path.expanduser)  # also of --out=~/x
    args = parser.parse_args()
    os.environ.setdefault("RAY_ADDRESS", "auto")  # the cluster that the job was submitted to

    def select() -> None:
        selection = Selection.load(args.config)
        print(select_scores(args.scores, args.out, selection, shard_size=args.shard_size).line())

    return run(select, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
