"""``tokenfocus demo``: from nothing to measured scores on one machine, in a few minutes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def run_demo(out: str, samples: int, seed: int) -> None:
    """Makes the benchmark, scores its test split with both built-in backbones, evaluates.

    Args:
        out: Folder; what an earlier demo left in it is replaced.
        samples: Images of the benchmark.
        seed: Seed of the benchmark.
    """
    from rich.console import Console
    from rich.table import Table

    from tokenfocus_ray.backbones.registry import BUILT_IN
    from tokenfocus_ray.cli.evaluate import evaluate
    from tokenfocus_ray.config import ScoringConfig
    from tokenfocus_ray.datasets.synthetic_files import write_benchmark
    from tokenfocus_ray.distributed.batch import score_manifest
    from tokenfocus_ray.distributed.session import ray_session

    console = Console()
    folder = Path(out)
    console.rule("1. Benchmark: synthetic scenes with exact ground truth")
    counts = write_benchmark(str(folder / "benchmark"), samples, seed)
    console.print(f"{counts['train']} train and {counts['test']} test images in {folder}/benchmark")
    manifest = str(folder / "benchmark" / "test.parquet")
    metrics: dict[str, Any] = {}
    with ray_session():
        for step, name in enumerate(BUILT_IN, start=2):
            console.rule(f"{step}. {name}: score the test split, compare with the raters")
            config = ScoringConfig(backbone=name)
            scores = str(folder / "scores" / name)
            summary = score_manifest(manifest, scores, config, overwrite=True)
            console.print(summary.line())
            report = evaluate(scores, manifest)
            metrics[name] = {"zero_shot": report.to_dict()}
    path = folder / "metrics.json"
    path.write_text(json.dumps(metrics, indent=2) + "\n")
    console.rule("Results")
    table = Table("backbone", "SRCC", "PLCC", "element accuracy", "final (official)")
    for name, result in metrics.items():
        m = result["zero_shot"]
        keys = ("srcc", "plcc", "element_accuracy", "final_official")
        table.add_row(name, *("-" if m[k] is None else f"{m[k]:.3f}" for k in keys))
    console.print(table)
    console.print(
        "These are base models: they see and answer yes/no questions, and have not been taught to "
        "rate. Their element accuracy says what they see; their overall score starts near chance."
    )
    console.print(f"scores:  {folder}/scores/BACKBONE/*.parquet\nmetrics: {path}")
