"""Scores every image of some manifests; submit it again to go on where it stood.

    ray job submit --working-dir . -- python jobs/score_images.py s3://bucket/in --out s3://bucket/out

Keys of the configuration: docs/scoring.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tokenfocus_ray import load_score_config, score_manifest
from tokenfocus_ray.cli.ends import run


def main() -> int:
    """Runs the job; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("manifest", nargs="+")
    parser.add_argument("--config", default=str(Path(__file__).with_suffix(".yaml")))
    parser.add_argument("--out", required=True, help="folder that every node reaches, or s3://")
    parser.add_argument("--retry-unscored", action="store_true")
    parser.register("type", None, os.path.expanduser)  # also of --out=~/x
    args = parser.parse_args()
    os.environ.setdefault("RAY_ADDRESS", "auto")  # the cluster that the job was submitted to

    def score() -> None:
        config, job = load_score_config(args.config)
        retry = args.retry_unscored
        print(score_manifest(args.manifest, args.out, config, job=job, retry_unscored=retry).line())

    return run(score, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
