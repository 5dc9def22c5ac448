"""``tokenfocus demo``: from nothing to a stacked ensemble with measured scores, on one machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenfocus_ray.cli.evaluate import evaluate_and_print
from tokenfocus_ray.cli.options import Quiet, Verbose
from tokenfocus_ray.cli.stack import fit_and_print
from tokenfocus_ray.cli.terminal import Terminal
from tokenfocus_ray.cli.train import train_and_show

if TYPE_CHECKING:
    from rich.console import Console


def demo(
    out: Annotated[str, typer.Option(help="Folder for everything that the demo makes.")],
    samples: Annotated[int, typer.Option(help="Images of the benchmark.")] = 960,
    seed: Annotated[int, typer.Option(help="Seed of the benchmark.")] = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make the benchmark, score its test split with both built-in backbones, evaluate."""
    with Terminal(out, quiet=quiet, verbose=verbose) as terminal:
        run_demo(Path(out), samples, seed, terminal)


def run_demo(folder: Path, samples: int, seed: int, terminal: Terminal) -> None:
    """Everything, with what comes of it.

    Args:
        folder: For all that is made.
        samples: Images of the benchmark.
        seed: Of the benchmark.
        terminal: Where the progress is shown.
    """
    from rich.console import Console

    from tokenfocus_ray import (
        ConfigError,
        Ensemble,
        ScoringConfig,
        StackConfig,
        TrainConfig,
        ray_session,
        score_manifest,
        write_benchmark,
    )
    from tokenfocus_ray.demo import BACKBONES, BAGS, TRAINING, measure_demo

    console = Console()
    console.rule("1. Benchmark: synthetic scenes with exact ground truth")
    counts = write_benchmark(str(folder / "benchmark"), samples, seed)
    console.print(f"{counts['train']} train and {counts['test']} test images in {folder}/benchmark")
    train, test = (str(folder / "benchmark" / f"{s}.parquet") for s in ("train", "test"))
    bundle, scores = str(folder / "ensemble"), str(folder / "scores" / "ensemble")
    values = {"data": train, "test": test, "backbones": list(BACKBONES), **TRAINING}
    shown: dict[str, Any] = {"say": terminal.say, "progress": terminal.watch}
    with ExitStack() as session:
        with terminal.showing("starting Ray", ray=False):
            session.enter_context(ray_session(verbose=terminal.verbose))
        console.rule("2. Base models, as they are: score the test split")
        zero_shot = str(folder / "scores" / "zero-shot")
        bases = {name: ScoringConfig(backbone=name) for name in BACKBONES}
        with terminal.showing("starting"):
            done = score_manifest(test, zero_shot, bases, overwrite=True, **shown)
        console.print(done.line())
        console.rule(f"3. Fine-tune {len(BACKBONES)} backbones x {BAGS} bags on Ray Train")
        training = str(folder / "training")
        try:
            trained = train_and_show(TrainConfig.parse(values, "demo"), training, terminal)
        except ConfigError:  # an earlier demo trained on other samples
            shutil.rmtree(folder / "training")
            trained = train_and_show(TrainConfig.parse(values, "demo"), training, terminal)
        print(trained.line())
        console.rule("4. Stack: learn from out-of-fold predictions how to merge the bags")
        fit_and_print([training], None, config=StackConfig(seeds=1), out=bundle, terminal=terminal)
        console.rule("5. Score the test split with the ensemble, and judge it")
        ensemble = Ensemble.load(bundle)
        configs = ensemble.scoring_configs()
        with terminal.showing("starting"):
            done = score_manifest(test, scores, configs, ensemble=ensemble, overwrite=True, **shown)
        console.print(done.line())
        console.rule("6. What a data team takes away")
        page = take_away(folder, train, test, scores, zero_shot, terminal)
    evaluate_and_print(scores, test, plots=str(folder / "plots"))
    metrics = measure_demo(zero_shot, scores, test)
    path = folder / "metrics.json"
    path.write_text(json.dumps(metrics, indent=2) + "\n")
    console.rule("Results on the test split, against the raters")
    _print(console, metrics)
    console.print(
        f"scores:   {scores}\nensemble: {bundle}\nmembers:  {folder}/training/members/*/adapter "
        f"(peft)\nplots:    {folder}/plots\nmetrics:  {path}\noutcomes: {folder}/outcomes"
    )
    terminal.last(f"report:   {page}")


def take_away(
    folder: Path, train: str, test: str, scores: str, base: str, terminal: Terminal
) -> str:
    """Everything that is made of scores, and of prompts before them, in ``FOLDER/outcomes``.

    Args:
        folder: Of the demo.
        train: Manifest of the larger split.
        test: Manifest of what was scored.
        scores: The ensemble's.
        base: The base models', to compare with.
        terminal: Where the progress is shown.

    Returns:
        The report's path.
    """
    from tokenfocus_ray import (
        ScoringConfig,
        Selection,
        export_pairs,
        import_manifest,
        make_elements,
        plan_scoring,
        select_scores,
        write_report,
        write_submission,
    )
    from tokenfocus_ray.demo import BACKBONES

    out, listed = folder / "outcomes", str(folder / "benchmark" / "test_list.json")
    shutil.rmtree(out, ignore_errors=True)  # of an earlier demo, whose scores were others
    images = str(folder / "benchmark" / "images")
    page = str(out / "report.html")
    shown: dict[str, Any] = {"say": terminal.say, "progress": terminal.watch}
    steps: dict[str, Callable[[], Any]] = {
        "import": lambda: import_manifest(
            "evalmuse", listed, str(out / "imported"), images=images, **shown
        ),
        "elements": lambda: make_elements(
            str(out / "imported"), str(out / "elements"), replace=True, **shown
        ),
        "plan": lambda: plan_scoring(
            train, ScoringConfig(backbone=BACKBONES[0]), gpu="L4", say=terminal.say
        ),
        "select": lambda: select_scores(
            scores, str(out / "selected"), Selection(best_of=1, top=0.5), **shown
        ),
        "pairs": lambda: export_pairs(
            scores, str(out / "pairs"), format="diffusion-dpo", min_confidence=0.8, **shown
        ),
        "submission": lambda: write_submission(
            scores, str(out / "submission.zip"), test_list=listed, say=terminal.say
        ),
        "report": lambda: write_report(scores, page, labels=test, against=base, **shown),
    }
    for name, step in steps.items():
        with terminal.showing(name):
            done = step()
        print(f"{name}: {done.line()}")
    return page


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
