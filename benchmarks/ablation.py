"""What each part of the training is worth: the same data and steps, one thing changed at a time.

    python benchmarks/ablation.py --quick      # a third of the samples, two seeds
    python benchmarks/ablation.py              # what docs/ablation.md shows

Every variant trains on the synthetic train split and is measured on its test split, against the
simulated raters. Seeds change the adapter's first values and the order of the samples. Finished
trainings are kept in ``--out``; the same command goes on where it stood.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy import stats

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.datasets.manifest import find_columns
from tokenfocus_ray.datasets.synthetic.files import write_benchmark
from tokenfocus_ray.evaluation import challenge_score, correlations, element_accuracy

BACKBONES = registry.BUILT_IN
BAGS = 3
#: Variant -> what differs from the default, which is the hybrid loss.
VARIANTS: dict[str, dict[str, Any] | None] = {
    "zero-shot": None,
    "plain language-model loss": {
        "loss": {"first_token": 0, "regression": 0, "whole_answer": 1},
    },
    "token-focused cross-entropy": {"loss": {"regression": 0}},
    "regression only": {"loss": {"first_token": 0}},
    "hybrid": {},
    "hybrid, no structure": {"structure": False},
    "literal normalisation": {"normalization": "probs"},
    f"bagging ({BAGS} x hybrid)": {},
}
BAGGING = f"bagging ({BAGS} x hybrid)"
METRICS = {"srcc": "SRCC", "plcc": "PLCC", "accuracy": "element accuracy", "final": "final score"}


def config_of(data: str, backbone: str, overrides: dict[str, Any], seed: int, epochs: int) -> Any:
    """The training of a variant; the rest is the demo's."""
    from tokenfocus_ray.demo import TRAINING

    values = {
        "data": data or "-",
        "backbones": [backbone],
        **TRAINING,
        "optimizer": {**TRAINING["optimizer"], "epochs": epochs},
        **overrides,
    }
    values["bags"] = {**values["bags"], "count": BAGS, "seed": seed}
    return TrainConfig.parse(values, "ablation")


def digest(task: dict[str, Any]) -> str:
    """Of the training's options: a kept run of others is not taken for this one."""
    overrides = VARIANTS[task["variant"]]
    config = config_of("", task["backbone"], overrides or {}, task["seed"], task["epochs"])
    return hashlib.sha256(repr(sorted(config.identity().items())).encode()).hexdigest()[:12]


def run_task(task: dict[str, Any]) -> dict[str, Any]:
    """One training, or none for zero-shot, and the scores of the test split."""
    import torch

    from tokenfocus_ray.scoring.image import decode
    from tokenfocus_ray.scoring.request import Request, read_elements
    from tokenfocus_ray.training.bags import make_bags
    from tokenfocus_ray.training.learner import Learner
    from tokenfocus_ray.training.objective import Example
    from tokenfocus_ray.training.samples import index_samples, labels_of, vocabularies
    from tokenfocus_ray.training.schedule import Schedule

    torch.set_num_threads(1)
    started = time.monotonic()
    root, backbone_name = Path(task["data"]), task["backbone"]
    overrides = VARIANTS[task["variant"]]
    data = str(root / "train.parquet")
    config = config_of(data, backbone_name, overrides or {}, task["seed"], task["epochs"])
    source = registry.resolve(backbone_name)
    backbone = loading.load(source, device="cpu", dtype=torch.float32)

    def examples(split: str) -> list[Example]:
        table = pq.read_table(root / f"{split}.parquet")
        columns = find_columns(table.column_names, {}, split)
        samples, _ = index_samples(table, columns, config, split)
        found = []
        for row in samples.to_pylist():
            image = backbone.image_spec.prepare(decode(str(root / row["image_uri"])))
            elements = read_elements(row["elements"])
            request = Request(row["sample_id"], row["prompt"], image, elements, row["prompt_type"])
            labels = labels_of(row, vocabularies(config), config.loss.unsure)
            found.append(Example(request, labels, row["group"]))
        return found

    test = examples("test")
    if overrides is None:
        from tokenfocus_ray.scoring.scorer import AlignmentScorer

        scorer = AlignmentScorer(backbone, config.scoring(backbone_name))
        rows = scorer.score_requests([e.request for e in test])
    else:
        train = examples("train")
        groups = tuple(e.group for e in train)
        chosen: Sequence[int] = range(len(train))
        if task["bag"] is not None:
            bag = make_bags(groups, config.bags)[task["bag"]]
            chosen = [*bag.train, *bag.validation]  # no epoch is chosen here
        options = config.optimizer
        seed = task["seed"] * 1009 + (task["bag"] or 0)
        order = Schedule(tuple(chosen), groups, options.epochs, options.batch_size, seed)
        learner = Learner(backbone, config, config.scoring(backbone_name), order.n_steps, seed)
        for step in order.steps():
            learner.step(step.index, [train[i] for i in step.samples])
        rows = learner.predict([e.request for e in test])
    return {
        **{k: task[k] for k in ("backbone", "variant", "seed", "bag", "epochs", "config")},
        "seconds": time.monotonic() - started,
        "scores": [row.score for row in rows],
        "elements": [row.element_scores for row in rows],
    }


def tasks(data: str, seeds: int, epochs: int) -> Iterator[dict[str, Any]]:
    """Every training, seed by seed, so that an interrupted run has whole seeds."""
    for seed in range(seeds):
        for variant in VARIANTS:
            if variant == "zero-shot" and seed:
                continue  # nothing in it is random
            for backbone in BACKBONES:
                bags: Sequence[int | None] = range(BAGS) if variant == BAGGING else [None]
                for bag in bags:
                    task = {
                        "data": data,
                        "backbone": backbone,
                        "variant": variant,
                        "seed": seed,
                        "bag": bag,
                        "epochs": epochs,
                    }
                    yield task | {"config": digest(task)}


def key(task: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a training the same."""
    return tuple(task.get(k) for k in ("backbone", "variant", "seed", "bag", "config"))


def measure(runs: Sequence[dict[str, Any]], labels: list[dict[str, Any]]) -> dict[str, float]:
    """Metrics of the mean of some members' scores."""
    scores = np.mean([run["scores"] for run in runs], axis=0)
    flat = np.mean([[v for row in run["elements"] for v in row] for run in runs], axis=0)
    totals = [float(np.mean(row["total_scores"])) for row in labels]
    truth = [float(np.mean(ratings)) for row in labels for ratings in row["element_labels"]]
    found = correlations(scores, totals)
    return {
        "srcc": found.srcc,
        "plcc": found.plcc,
        "accuracy": element_accuracy(flat, truth).accuracy,
        "final": challenge_score(scores, totals, flat, truth, variant="official").final_score,
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95% interval (Student's t over the seeds)."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return mean, float(half)


def summarise(
    runs: list[dict[str, Any]], labels: list[dict[str, Any]]
) -> dict[tuple[str, str], dict[str, tuple[float, float]]]:
    """(backbone, variant) -> metric -> mean and half width over the seeds."""
    by_seed: defaultdict[tuple[str, str], defaultdict[int, list[Any]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for run in runs:
        by_seed[run["backbone"], run["variant"]][run["seed"]].append(run)
    table = {}
    for where, seeds in by_seed.items():
        each = [measure(members, labels) for _, members in sorted(seeds.items())]
        table[where] = {m: interval([one[m] for one in each]) for m in METRICS}
    return table


def compare(
    runs: list[dict[str, Any]], labels: list[dict[str, Any]]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Hybrid minus each other variant, in pairs of one backbone and seed: mean and half width."""
    groups: defaultdict[tuple[str, str, int], list[Any]] = defaultdict(list)
    for run in runs:
        groups[run["variant"], run["backbone"], run["seed"]].append(run)
    measured = {where: measure(members, labels) for where, members in groups.items()}
    pairs = sorted({(b, s) for v, b, s in measured if v == "hybrid"})
    found = {}
    for variant in VARIANTS:
        if variant in ("hybrid", "zero-shot"):
            continue
        each = [
            {m: measured["hybrid", *p][m] - measured[variant, *p][m] for m in METRICS}
            for p in pairs
            if (variant, *p) in measured
        ]
        found[variant] = {m: interval([one[m] for one in each]) for m in METRICS}
    return found


def shown(value: tuple[float, float]) -> str:
    """Mean and half width."""
    mean, half = value
    return f"{mean:.3f}" if math.isnan(half) else f"{mean:.3f} ± {half:.3f}"


def markdown(table: dict[Any, Any], differences: dict[str, Any]) -> str:
    """One table a backbone, and one of the differences over both."""
    lines: list[str] = []
    for backbone in BACKBONES:
        lines += [f"## {backbone}", "", "| variant | " + " | ".join(METRICS.values()) + " |"]
        lines.append("| --- |" + " --- |" * len(METRICS))
        for variant in VARIANTS:
            if (backbone, variant) in table:
                cells = " | ".join(shown(table[backbone, variant][m]) for m in METRICS)
                lines.append(f"| {variant} | {cells} |")
        lines.append("")
    lines += ["## Hybrid minus the variant", "", "| variant | " + " | ".join(METRICS.values())]
    lines[-1] += " |"
    lines.append("| --- |" + " --- |" * len(METRICS))
    for variant, found in differences.items():
        cells = " | ".join("{:+.3f} ± {:.3f}".format(*found[m]) for m in METRICS)
        lines.append(f"| {variant} | {cells} |")
    return "\n".join(lines)


def plot(table: dict[Any, Any], path: Path) -> None:
    """Means with their intervals: a column a metric, a row a backbone."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(VARIANTS)
    figure, axes = pyplot.subplots(
        len(BACKBONES), len(METRICS), figsize=(13, 6.4), sharey=True, sharex="col"
    )
    for row, backbone in zip(axes, BACKBONES, strict=True):
        for axis, (metric, title) in zip(row, METRICS.items(), strict=True):
            for y, variant in enumerate(reversed(names)):
                if (backbone, variant) not in table:
                    continue
                mean, half = table[backbone, variant][metric]
                color = "#c0392b" if variant == "hybrid" else "#34495e"
                axis.errorbar(mean, y, xerr=0 if math.isnan(half) else half, fmt="o", color=color,
                              capsize=3, markersize=5)  # fmt: skip
            axis.set_yticks(range(len(names)), list(reversed(names)))
            axis.grid(axis="x", alpha=0.3)
            axis.set_title(f"{backbone}: {title}", fontsize=9)
            axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Trains what is missing, then writes table and plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a third of the samples, two seeds")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    from tokenfocus_ray.demo import TRAINING

    epochs = TRAINING["optimizer"]["epochs"]
    samples, seeds = (320, 2) if args.quick else (960, 3)
    seeds = args.seeds or seeds
    out = args.out or Path("runs") / ("ablation-quick" if args.quick else "ablation")
    out.mkdir(parents=True, exist_ok=True)
    data = out / "benchmark"
    counts = write_benchmark(str(data), samples, 0)
    kept = out / "runs.jsonl"
    runs = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    wanted = {key(t): t for t in tasks(str(data), seeds, epochs)}
    runs = [run for run in runs if key(run) in wanted]
    todo = [t for k, t in wanted.items() if k not in {key(run) for run in runs}]
    started = time.monotonic()
    print(
        f"{len(todo)} trainings to do, {len(runs)} kept; {counts['train']} train and "
        f"{counts['test']} test images, {epochs} epochs, {args.workers} processes of one thread, "
        f"{platform.machine()}",
        flush=True,
    )
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for n, run in enumerate(pool.imap_unordered(run_task, todo), start=1):
            runs.append(run)
            with kept.open("a") as file:
                file.write(json.dumps(run) + "\n")
            left = (time.monotonic() - started) / n * (len(todo) - n)
            bag = "" if run["bag"] is None else f" bag {run['bag']}"
            print(
                f"{n}/{len(todo)} {run['backbone']}, {run['variant']}, seed {run['seed']}{bag}: "
                f"{run['seconds']:.0f} s; about {left / 60:.0f} min left",
                flush=True,
            )
    labels = pq.read_table(data / "test.parquet").to_pylist()
    table = summarise(runs, labels)
    text = markdown(table, compare(runs, labels)) + "\n"
    (out / "ablation.md").write_text(text)
    plot(table, out / "ablation.png")
    print(text)
    print(f"written: {out}/ablation.md, {out}/ablation.png", file=sys.stderr)
    flat = {
        f"{backbone}/{variant}/{metric}": float(f"{mean:.4g}")
        for (backbone, variant), values in table.items()
        for metric, (mean, _) in values.items()
    }
    print(json.dumps(flat))


if __name__ == "__main__":
    main()
