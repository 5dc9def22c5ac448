"""Learns from labels how to merge scores, and merges them all; submit it again to go on.

    ray job submit --working-dir . -- python jobs/stack_scores.py SCORES... --labels L --out OUT

Writes OUT/ensemble (for `tokenfocus score --ensemble`) and OUT/scores; keys: docs/ensemble.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tokenfocus_ray import StackConfig, merge_scores
from tokenfocus_ray.cli.ends import run
from tokenfocus_ray.cli.stack import fit_and_print


def main() -> int:
    """Runs the job; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scores", nargs="+")
    parser.add_argument("--labels", required=True, help="human labels of some of the rows")
    parser.add_argument("--config", default=str(Path(__file__).with_suffix(".yaml")))
    parser.add_argument("--out", required=True, help="folder that every node reaches, or s3://")
    parser.register("type", None, os.path.expanduser)  # also of --out=~/x
    args = parser.parse_args()
    os.environ.setdefault("RAY_ADDRESS", "auto")  # the cluster that the job was submitted to

    def stack_and_merge() -> None:
        config = StackConfig.load(args.config)
        bundle = f"{args.out}/ensemble"
        fit_and_print(args.scores, args.labels, config=config, out=bundle)
        print(merge_scores(args.scores, f"{args.out}/scores", bundle).line())

    return run(stack_and_merge, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
