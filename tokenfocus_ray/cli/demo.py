"""``tokenfocus demo``: from nothing to a stacked ensemble with measured scores, on one machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
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
    """Makes the benchmark, trains both backbones' bags, stacks them, scores with the ensemble.

    Args:
        out: Folder; what an earlier demo left in it is replaced, except that a training which was
            interrupted goes on.
        samples: Images of the benchmark.
        seed: Seed of the benchmark.
    """
    from rich.console import Console

    from tokenfocus_ray.backbones.registry import BUILT_IN
    from tokenfocus_ray.cli.evaluate import evaluate
    from tokenfocus_ray.cli.stack import stack
    from tokenfocus_ray.cli.train import run_train
    from tokenfocus_ray.config import ScoringConfig, StackConfig, TrainConfig
    from tokenfocus_ray.datasets.synthetic_files import write_benchmark
    from tokenfocus_ray.distributed.batch import score_manifest
    from tokenfocus_ray.distributed.scorers import ensemble_configs
    from tokenfocus_ray.distributed.session import ray_session
    from tokenfocus_ray.ensemble.bundle import Ensemble
    from tokenfocus_ray.errors import ConfigError

    console = Console()
    folder = Path(out)
    console.rule("1. Benchmark: synthetic scenes with exact ground truth")
    counts = write_benchmark(str(folder / "benchmark"), samples, seed)
    console.print(f"{counts['train']} train and {counts['test']} test images in {folder}/benchmark")
    train, test = (str(folder / "benchmark" / f"{s}.parquet") for s in ("train", "test"))
    bundle, scores = str(folder / "ensemble"), str(folder / "scores" / "ensemble")
    values = {"data": train, "test": test, "backbones": list(BUILT_IN), **TRAINING}
    with ray_session():
        console.rule("2. Base models, as they are: score the test split")
        zero_shot = str(folder / "scores" / "zero-shot")
        bases = {name: ScoringConfig(backbone=name) for name in BUILT_IN}
        console.print(score_manifest(test, zero_shot, bases, overwrite=True).line())
        console.rule(f"3. Fine-tune {len(BUILT_IN)} backbones x {BAGS} bags on Ray Train")
        training = str(folder / "training")
        try:
            run_train(TrainConfig.parse(values, "demo"), training)
        except ConfigError:  # an earlier demo trained on other samples
            _remove(folder / "training")
            run_train(TrainConfig.parse(values, "demo"), training)
        console.rule("4. Stack: learn from out-of-fold predictions how to merge the bags")
        stack([training], config=StackConfig(seeds=1), out=bundle)
        console.rule("5. Score the test split with the ensemble, and judge it")
        ensemble = Ensemble.load(bundle)
        configs = ensemble_configs(ensemble)
        done = score_manifest(test, scores, configs, ensemble=ensemble, overwrite=True)
        console.print(done.line())
    evaluate(scores, test, plots=str(folder / "plots"))
    metrics = _measure(zero_shot, scores, test)
    path = folder / "metrics.json"
    path.write_text(json.dumps(metrics, indent=2) + "\n")
    console.rule("Results on the test split, against the raters")
    _print(console, metrics)
    console.print(
        f"scores:   {scores}\nensemble: {bundle}\nmembers:  {folder}/training/members/*/adapter "
        f"(peft)\nplots:    {folder}/plots\nmetrics:  {path}"
    )


def _measure(zero_shot: str, scores: str, labels: str) -> dict[str, Any]:
    """Base models, members, bag means and the ensemble, and how far it is ahead of a member."""
    import pyarrow.parquet as pq

    from tokenfocus_ray.ensemble.columns import Members
    from tokenfocus_ray.evaluation import compare, read_labels
    from tokenfocus_ray.evaluation.members import member_tables

    truth, base, table = (pq.read_table(path) for path in (labels, zero_shot, scores))
    bags = Members.of(table.schema, scores).backbones
    members = member_tables(table)
    metrics: dict[str, Any] = {}
    for name in bags:
        own = {m: t for m, t in members.items() if m.startswith(f"{name}/")}
        metrics[name] = {
            "zero_shot": _figures(member_tables(base)[f"{name}/base"], truth),
            "members": {m.partition("/")[2]: _figures(t, truth) for m, t in own.items()},
            "bag_mean": _figures(_of_bag(table, name, "m_"), truth),
            "bag_mean_of_elements": _figures(_of_bag(table, name, "elements_"), truth),
        }
    known = read_labels(truth)
    keys: list[Any] = table["sample_id"].to_pylist()
    labels_N = [known[key].total for key in keys]

    def ahead_of(name: str, other: pa.Table) -> dict[str, Any]:
        mine, theirs = (t["score"].to_numpy() for t in (table, other))
        found = compare(mine, theirs, labels_N, table["prompt_id"].to_numpy())
        return {"name": name, **found.to_dict()}

    every = {f"{b}/{m}": one["srcc"] for b in bags for m, one in metrics[b]["members"].items()}
    best = max(every, key=lambda name: every[name] or 0.0)
    bag = max(bags, key=lambda name: metrics[name]["bag_mean_of_elements"]["srcc"] or 0.0)
    return metrics | {
        "ensemble": _figures(table, truth),
        "ahead_of": {
            "best_member": ahead_of(best, members[best]),
            "best_bag_mean_of_elements": ahead_of(bag, _of_bag(table, bag, "elements_")),
        },
    }


def _figures(scores: pa.Table, labels: pa.Table) -> dict[str, Any]:
    """A report with ``final``, the challenge's score as its script computes it."""
    from tokenfocus_ray.evaluation import evaluate_scores

    report: EvaluationReport = evaluate_scores(scores, labels, intervals=False)
    return report.to_dict() | {"final": report.to_dict()["final_official"]}


def _of_bag(scores: pa.Table, name: str, total: str) -> pa.Table:
    """The table as if one backbone's members had scored alone.

    Args:
        scores: Of all backbones.
        name: Of one.
        total: ``m_`` for the mean of their scores, ``elements_`` for that of their elements'.
    """
    import pyarrow as pa

    from tokenfocus_ray.ensemble.columns import ScoreColumns
    from tokenfocus_ray.ensemble.merge import as_lists
    from tokenfocus_ray.schema import ENSEMBLE_COLUMNS

    columns = ScoreColumns.of(scores, "scores")
    table = scores.drop_columns(list(ENSEMBLE_COLUMNS))
    elements = as_lists(pa.array(columns.element(name)), columns.counts_N)
    score = columns.column(f"{total}{name}")
    assert score is not None
    for column, values in (("score", pa.array(score)), ("element_scores", elements)):
        table = table.set_column(table.column_names.index(column), column, values)
    return table


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


def _print(console: Console, metrics: dict[str, Any]) -> None:
    from rich.table import Column, Table

    table = Table(Column("scored by", no_wrap=True))
    keys = ("srcc", "plcc", "element_accuracy", "final")
    for name in ("SRCC", "PLCC", "elements", "final"):
        table.add_column(name, justify="right")

    def add(name: str, values: dict[str, Any]) -> None:
        shown = ("-" if values[k] is None else f"{values[k]:.3f}" for k in keys)
        table.add_row(name, *shown)

    for backbone, found in metrics.items():
        if "members" not in found:
            continue
        add(f"{backbone}, zero-shot", found["zero_shot"])
        for name, values in found["members"].items():
            add(f"  {name}", values)
        add("  bag mean", found["bag_mean"])
        add("  bag mean of the elements", found["bag_mean_of_elements"])
        table.add_section()
    add("ensemble of both bags", metrics["ensemble"])
    console.print(table)
    member, bag = metrics["ahead_of"].values()
    console.print(f"{member['n']} images of {member['n_groups']} prompts. SRCC of the ensemble:")
    for what, one in (("the best single member", member), ("the best bag mean of elements", bag)):
        console.print(
            f"- {one['srcc_difference']:+.3f} on {what} ({one['name']}, {one['srcc_second']:.3f}, "
            f"chosen with hindsight), 95 % interval {one['srcc_difference_low']:+.3f} .. "
            f"{one['srcc_difference_high']:+.3f}",
            highlight=False,
        )
