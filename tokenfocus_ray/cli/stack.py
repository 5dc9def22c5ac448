"""``tokenfocus stack``: options, one call, the reports as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenfocus_ray.cli.options import AnyTable, Encoding, Quiet, Report, Target, Verbose
from tokenfocus_ray.cli.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import Console

    from tokenfocus_ray import StackConfig
    from tokenfocus_ray.ensemble.judge import StackReport


def stack(
    scores: Annotated[
        list[str] | None,
        typer.Argument(help="Output folders of `tokenfocus score`, or one of `tokenfocus train`."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Their human labels: a Parquet manifest, or EvalMuse .json.")
    ] = None,
    table: AnyTable = None,
    target: Target = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="Column of scores or pattern, such as 'm_*'; may be repeated."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Column whose equal values are never parted: the prompt.")
    ] = None,
    encoding: Encoding = None,
    out: Annotated[str | None, typer.Option(help="Folder of the ensemble, local or s3://.")] = None,
    json: Report = None,
    method: Annotated[
        str,
        typer.Option(help="single, rank_mean, nnls, ridge, boosting, blend, or auto."),
    ] = "auto",
    metric: Annotated[
        str, typer.Option(help="What to choose by: srcc, plcc, mean (of both), challenge.")
    ] = "mean",
    label_range: Annotated[
        tuple[float, float] | None, typer.Option(help="Lowest and highest possible label.")
    ] = None,
    coverage: Annotated[float, typer.Option(help="Share of labels in the intervals.")] = 0.9,
    folds: Annotated[int, typer.Option(min=2, help="Outer folds of whole groups.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Rounds of outer folds.")] = 5,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Stack columns of scores to one that follows human labels, and say how well it does."""
    from tokenfocus_ray import StackConfig

    config = StackConfig.parse(
        {"method": method, "metric": metric, "label_range": label_range, "coverage": coverage,
         "folds": folds, "seeds": seeds},
        "options",
    )  # fmt: skip
    with Terminal(quiet=quiet, verbose=verbose) as terminal:
        fit_and_print(
            scores or [], labels, table, target=target, features=features or [], group=group,
            encoding=encoding, config=config, out=out, json=json, terminal=terminal,
        )  # fmt: skip


def fit_and_print(
    scores: Sequence[str],
    labels: str | None,
    table: str | None = None,
    *,
    config: StackConfig,
    out: str | None,
    json: str | None = None,
    terminal: Terminal | None = None,
    **given: Any,
) -> None:
    """Fits an ensemble, shows the progress, prints how good it is, and writes it.

    Args:
        scores: See :func:`~tokenfocus_ray.ensemble.fit.fit_ensemble`.
        labels: Likewise.
        table: Likewise.
        config: Likewise.
        out: Folder of the bundle; None writes none.
        json: Where the reports go as JSON; None for nowhere.
        terminal: Where the progress is shown; None: nowhere.
        **given: More of its arguments.
    """
    from rich.console import Console

    from tokenfocus_ray import fit_ensemble

    terminal = terminal or Terminal(plain=True)
    with terminal.showing("reading scores and labels", ray=False):
        fitted = fit_ensemble(
            scores, labels, table, config=config, progress=terminal.watch, **given
        )
    console = Console()
    print_report(console, fitted.total, "rows")
    if fitted.elements is not None:
        print_report(console, fitted.elements, "elements")
    if fitted.elements_reason is not None:
        print(f"elements are not stacked: {fitted.elements_reason}")
    if out is not None:
        fitted.ensemble.save(out)
    if json is not None:
        fitted.write_json(json)


def print_report(console: Console, report: StackReport, what: str) -> None:
    """Prints a report as a table, and a line for each note."""
    from rich.table import Table

    shown = Table(
        "measure",
        title=f"{report.n_rows} {what}, {report.n_groups} groups, {len(report.features)} columns; "
        f"{report.folds} folds, mean of {report.seeds} rounds",
    )
    shown.add_column("out of fold", justify="right")
    shown.add_column("95 % interval", justify="right")
    between = f"{report.difference_low:+.4f} .. {report.difference_high:+.4f}"
    lines = [
        ("SRCC", f"{report.srcc:.4f}", f"{report.srcc_low:.4f} .. {report.srcc_high:.4f}"),
        ("PLCC", f"{report.plcc:.4f}", ""),
        ("KRCC", f"{report.krcc:.4f}", ""),
        (f"SRCC of {report.best_single}", f"{report.best_single_srcc:.4f}", ""),
        ("difference", f"{report.difference:+.4f}", between),
        ("SRCC, calibrated", f"{report.calibrated_srcc:.4f}", ""),
        ("calibration error", f"{report.calibration_error:.4f}", ""),
        (f"coverage of {report.coverage:.0%} intervals", f"{report.measured_coverage:.3f}", ""),
        ("half an interval", f"{report.radius:.3f}", ""),
    ]
    if (own := report.decisions) is not None:
        lines += [
            (f"accuracy at {own.threshold:.3f}", f"{own.accuracy:.4f}", ""),
            ("accuracy at 0.5", f"{own.accuracy_at_half:.4f}", ""),
            (f"accuracy of {own.best_single}", f"{own.best_single_accuracy:.4f}", ""),
        ]
    for line in lines:
        shown.add_row(*line)
    console.print(shown)
    chosen = ", ".join(f"{name} {count}" for name, count in report.chosen.items())
    console.print(f"- meta-learner: {report.method} (chosen: {chosen})", highlight=False)
    for note in report.notes:
        console.print(f"- {note}", markup=False, highlight=False, soft_wrap=True)
