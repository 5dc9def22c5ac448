"""``tokenfocus train``: the plan and the summary as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from tokenfocus_ray.config import TrainConfig
    from tokenfocus_ray.distributed.train import TrainSummary


def run_plan(config: TrainConfig) -> None:
    """Prints what would be trained; starts nothing."""
    from rich.console import Console
    from rich.table import Table

    from tokenfocus_ray.distributed.train import plan_training
    from tokenfocus_ray.training.validation import warnings

    plans = plan_training(config)
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
    for line in warnings({p.name: p.choice for p in plans}):
        console.print(line, highlight=False, soft_wrap=True)


def run_train(config: TrainConfig, out: str) -> TrainSummary:
    """Trains, with lines of progress, and prints the summary."""
    from rich.console import Console

    from tokenfocus_ray.distributed.train import train_members

    console = Console()
    summary = train_members(config, out, say=lambda line: print(line, flush=True))
    print_members(console, summary.members)
    print(summary.line())
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
