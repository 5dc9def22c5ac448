"""Fine-tunes every backbone on every bag; submit it again to go on where it stood.

    ray job submit --working-dir . -- python jobs/train_bags.py --out s3://bucket/runs/first

Keys of the configuration: docs/training.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tokenfocus_ray import TrainConfig
from tokenfocus_ray.cli.ends import run
from tokenfocus_ray.cli.train import train_and_print


def main() -> int:
    """Runs the job; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default=str(Path(__file__).with_suffix(".yaml")))
    parser.add_argument("--out", required=True, help="folder that every node reaches, or s3://")
    parser.register("type", None, os.path.expanduser)  # also of --out=~/x
    args = parser.parse_args()
    os.environ.setdefault("RAY_ADDRESS", "auto")  # the cluster that the job was submitted to

    def train() -> None:
        config = TrainConfig.load(args.config)
        train_and_print(config, args.out)

    return run(train, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
