"""``tokenfocus train``: options, one call, the plan and the summary as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenfocus_ray.cli.options import Quiet, Verbose
from tokenfocus_ray.cli.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import Console

    from tokenfocus_ray import TrainConfig
    from tokenfocus_ray.distributed.train.results import TrainSummary


def train(
    config: Annotated[str, typer.Option(help="YAML of TrainConfig; docs/training.md lists keys.")],
    out: Annotated[
        str, typer.Option(help="Folder of the run, local or s3://; launch again to go on.")
    ],
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would run, and start nothing.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fine-tune every backbone on every bag on Ray Train, and score out of fold."""
    from tokenfocus_ray import TrainConfig

    parsed = TrainConfig.load(config)
    if plan:
        print_plan(parsed)
        return
    with Terminal(out, quiet=quiet, verbose=verbose) as terminal:
        train_and_print(parsed, out, terminal)


def print_plan(config: TrainConfig) -> None:
    """Prints what would be trained; starts nothing."""
    from rich.console import Console
    from rich.table import Table

    from tokenfocus_ray import plan_training

    plan = plan_training(config)
    plans = plan.members
    backbones = Table("backbone", title="A worker")
    for name in ("parameters", "trained", "memory", "checkpoint"):
        backbones.add_column(name, justify="right")
    for p in {p.backbone: p for p in plans}.values():
        sizes = (f"{p.parameters:,}", f"{p.trainable_parameters:,}")
        backbones.add_row(
            p.backbone, *sizes, f"{p.memory_gib:.1f} GiB", f"{p.checkpoint_gib:.2f} GiB"
        )
    members = Table("member", title=f"{len(plans)} members")
    for name in ("train", "validation", "held out", "steps"):
        members.add_column(name, justify="right")
    for p in plans:
        shares = (p.n_train, p.n_validation, p.n_held_out, p.steps)
        members.add_row(p.name, *(str(n) for n in shares))
    console = Console()
    console.print(backbones)
    console.print(members)
    console.print(
        "Samples as the manifest has them, images not looked at; steps at the most; memory is an "
        "estimate of what a worker's device holds.",
        highlight=False,
    )
    for line in plan.warnings:
        console.print(line, highlight=False, soft_wrap=True)


def train_and_print(config: TrainConfig, out: str, terminal: Terminal | None = None) -> None:
    """Trains, shows the progress, and prints the summary and the last line.

    Args:
        config: See :func:`~tokenfocus_ray.distributed.train.job.train_members`.
        out: Likewise.
        terminal: Where to; None: in lines.
    """
    terminal = terminal or Terminal(plain=True)
    terminal.last(train_and_show(config, out, terminal).line())


def train_and_show(config: TrainConfig, out: str, terminal: Terminal) -> TrainSummary:
    """The same without the last line.

    Args:
        config: See :func:`train_and_print`.
        out: Likewise.
        terminal: Likewise.
    """
    from rich.console import Console

    from tokenfocus_ray import train_members

    with terminal.showing("starting"):
        summary = train_members(config, out, say=terminal.say, progress=terminal.watch)
    print_members(Console(), summary.members)
    return summary


def print_members(console: Console, members: list[dict[str, Any]]) -> None:
    """The summary table."""
    from rich.table import Column, Table

    table = Table(Column("member", no_wrap=True), title="Members, scored on what each held out")
    for name in ("steps", "best epoch", "SRCC", "PLCC", "elements", "GPU-hours"):
        table.add_column(name, justify="right")
    for m in members:
        held_out = m["out_of_fold"]
        figures = [held_out[k] for k in ("srcc", "plcc", "element_accuracy")]
        table.add_row(
            m["member"],
            str(m["steps"]),
            str(m["best_epoch"]),
            *("-" if v is None else f"{v:.3f}" for v in figures),
            f"{m['gpu_hours']:.2f}",
        )
    console.print(table)
