"""What `tokenfocus plan --measure` predicts, against what `tokenfocus score` then does.

    python benchmarks/plan.py
    python benchmarks/plan.py --backbone tiny-internvl --rows 3000 --rounds 5

In turns: predict, score, predict, score, ..., predict, each in a process of its own, and each job
is compared with the mean of the predictions before and after it, so that whatever else the machine
does befalls both. Measured is `rows_per_s` of the job's `run.json`: rows of the
launch from its first committed piece on, so without the start of Ray and the load of the weights,
which the prediction leaves out too. The machine should do nothing else meanwhile.

Prints a line a round, and as its last line one flat JSON object: medians of both rates and of the
rounds' ratios, and the lowest and highest ratio.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

COMMAND = (sys.executable, "-m", "tokenfocus_ray.cli.app")
#: Of the benchmark's images, the share of its training split.
TRAIN = 0.75


def run(*arguments: str) -> str:
    """The last line of a command.

    Args:
        *arguments: Of ``tokenfocus``.
    """
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, text=True, env=environment, check=True
    )
    return done.stdout.splitlines()[-1]


def predict(manifest: Path, backbone: str) -> float:
    """Images/s by the plan."""
    line = run("plan", str(manifest), "--backbone", backbone, "--measure", "--quiet")
    found = re.search(r"images_per_s=(\S+)", line)
    assert found, line
    return float(found[1])


def score(manifest: Path, backbone: str, out: Path) -> float:
    """Rows/s by the job."""
    run("score", str(manifest), "--backbone", backbone, "--out", str(out), "--quiet", "--overwrite")
    record = json.loads((out / "__job" / "run.json").read_text(encoding="utf-8"))
    assert record["unscored"] == {}, record["unscored"]
    return float(record["launch"]["rows_per_s"])


def main() -> None:
    """Runs the rounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default="tiny-qwen2_5_vl")
    parser.add_argument("--rows", type=int, default=2000, help="of the manifest, about")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, {args.backbone}", flush=True)
    predicted, measured = [], []
    with tempfile.TemporaryDirectory(prefix="plan-") as folder:
        data = Path(folder, "data")
        run("data", "synthetic", "--out", str(data), "--samples", str(round(args.rows / TRAIN)))
        manifest = data / "train.parquet"
        predicted.append(predict(manifest, args.backbone))
        for n in range(args.rounds):
            measured.append(score(manifest, args.backbone, Path(folder, "out")))
            predicted.append(predict(manifest, args.backbone))
            shown = f"{predicted[-2]:.2f} before, {predicted[-1]:.2f} after"
            print(f"round {n + 1}: measured {measured[-1]:.2f}, predicted {shown}", flush=True)
    around = [statistics.mean(pair) for pair in itertools.pairwise(predicted)]
    ratios = [p / m for p, m in zip(around, measured, strict=True)]
    figures = {
        "plan_ratio": statistics.median(ratios),
        "plan_ratio_lowest": min(ratios),
        "plan_ratio_highest": max(ratios),
        "predicted_images_per_s": statistics.median(predicted),
        "measured_images_per_s": statistics.median(measured),
    }
    print(json.dumps({name: float(f"{value:.4g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
