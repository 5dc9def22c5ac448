"""``tokenfocus demo``: from nothing to trained members with measured scores, on one machine."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from tokenfocus_ray.evaluation import EvaluationReport

BAGS = 3
#: What suits the built-in backbones; real ones take the defaults of ``TrainConfig``.
TRAINING: dict[str, Any] = {
    "bags": {"method": "kfold", "count": BAGS},
    "lora": {"rank": 16, "alpha": 32},
    "optimizer": {"epochs": 2, "batch_size": 8, "learning_rate": 2e-3},
    "parallel": 2,
}


def run_demo(out: str, samples: int, seed: int) -> None:
    """Makes the benchmark, scores it zero-shot, trains both backbones' bags, scores with them.

    Args:
        out: Folder; what an earlier demo left in it is replaced, except that a training which was
            interrupted goes on.
        samples: Images of the benchmark.
        seed: Seed of the benchmark.
    """
    from rich.console import Console

    from tokenfocus_ray.backbones.registry import BUILT_IN
    from tokenfocus_ray.cli.train import run_train
    from tokenfocus_ray.config import ScoringConfig, TrainConfig
    from tokenfocus_ray.datasets.synthetic_files import write_benchmark
    from tokenfocus_ray.distributed.batch import score_manifest
    from tokenfocus_ray.distributed.session import ray_session
    from tokenfocus_ray.errors import ConfigError

    console = Console()
    folder = Path(out)
    console.rule("1. Benchmark: synthetic scenes with exact ground truth")
    counts = write_benchmark(str(folder / "benchmark"), samples, seed)
    console.print(f"{counts['train']} train and {counts['test']} test images in {folder}/benchmark")
    train, test = (str(folder / "benchmark" / f"{s}.parquet") for s in ("train", "test"))
    values = {"data": train, "test": test, "backbones": list(BUILT_IN), **TRAINING}
    metrics: dict[str, Any] = {name: {} for name in BUILT_IN}
    with ray_session():
        console.rule("2. Base models, as they are: score the test split")
        for name in BUILT_IN:
            scores = str(folder / "scores" / name / "zero-shot")
            config = ScoringConfig(backbone=name)
            console.print(score_manifest(test, scores, config, overwrite=True).line())
            metrics[name]["zero_shot"] = figures(_evaluate(scores, test))
        console.rule(f"3. Fine-tune {len(BUILT_IN)} backbones x {BAGS} bags on Ray Train")
        try:
            summary = run_train(TrainConfig.parse(values, "demo"), str(folder / "training"))
        except ConfigError:  # an earlier demo trained on other samples
            _remove(folder / "training")
            summary = run_train(TrainConfig.parse(values, "demo"), str(folder / "training"))
        console.rule("4. Members: score the test split, all of a backbone in one pass")
        for name in BUILT_IN:
            scores = str(folder / "scores" / name / "members")
            config = ScoringConfig(backbone=name, adapters=summary.adapters(name))
            console.print(score_manifest(test, scores, config, overwrite=True).line())
            metrics[name] |= _evaluate_members(scores, test)
    path = folder / "metrics.json"
    path.write_text(json.dumps(metrics, indent=2) + "\n")
    console.rule("Results on the test split, against the raters")
    _print(console, metrics)
    console.print(
        f"scores:  {folder}/scores/BACKBONE/*/*.parquet\n"
        f"members: {folder}/training/members/*/adapter (peft)\nmetrics: {path}"
    )


def figures(report: EvaluationReport) -> dict[str, Any]:
    """A report with ``final``, the challenge's score as its script computes it."""
    return report.to_dict() | {"final": report.to_dict()["final_official"]}


def _evaluate(scores: str, labels: str) -> EvaluationReport:
    import pyarrow.parquet as pq

    from tokenfocus_ray.evaluation import evaluate_scores

    return evaluate_scores(pq.read_table(scores), pq.read_table(labels))


def _evaluate_members(scores: str, labels: str) -> dict[str, Any]:
    import pyarrow.parquet as pq

    from tokenfocus_ray.evaluation import evaluate_scores
    from tokenfocus_ray.evaluation.members import member_tables

    table, truth = pq.read_table(scores), pq.read_table(labels)
    members = {n: evaluate_scores(t, truth) for n, t in member_tables(table).items()}
    return {
        "members": {name: figures(report) for name, report in members.items()},
        "bag_mean": figures(evaluate_scores(table, truth)),
    }


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


def _print(console: Console, metrics: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("backbone", "scored by")
    keys = ("srcc", "plcc", "element_accuracy", "final")
    for name in ("SRCC", "PLCC", "element accuracy", "final (official)"):
        table.add_column(name, justify="right")
    for backbone, found in metrics.items():
        rows = {"zero-shot": found["zero_shot"], **found["members"], "bag mean": found["bag_mean"]}
        for name, values in rows.items():
            shown = ("-" if values[k] is None else f"{values[k]:.3f}" for k in keys)
            table.add_row(backbone if name == "zero-shot" else "", name, *shown)
        table.add_section()
    console.print(table)
    for backbone, found in metrics.items():
        base = found["zero_shot"]["srcc"] or 0.0
        each = [m["srcc"] or 0.0 for m in found["members"].values()]
        console.print(
            f"{backbone}: SRCC zero-shot {base:.3f}, members {min(each):.3f} to {max(each):.3f} "
            f"(median {statistics.median(each):.3f}), bag mean {found['bag_mean']['srcc']:.3f}",
            highlight=False,
        )
