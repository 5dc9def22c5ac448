"""``tokenfocus evaluate``: options, one call, the report as tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenfocus_ray.cli.options import AnyTable, Encoding, Report, Target

if TYPE_CHECKING:
    from rich.console import Console

    from tokenfocus_ray import Evaluation
    from tokenfocus_ray.evaluation import Comparison, EvaluationReport


def evaluate(
    scores: Annotated[
        str | None, typer.Argument(help="Output folder of `tokenfocus score`.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Its human labels: a Parquet manifest, or EvalMuse .json."),
    ] = None,
    table: AnyTable = None,
    target: Target = None,
    group: Annotated[str | None, typer.Option(help="Its column of the prompt.")] = None,
    column: Annotated[
        str | None, typer.Option(help="What to measure: a column, or a member; SCORES have score.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Compare with a column, a member, or another output folder."),
    ] = None,
    label_range: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Lowest and highest possible label of the table."),
    ] = None,
    encoding: Encoding = None,
    plots: Annotated[str | None, typer.Option(help="Folder for plots, as PNG files.")] = None,
    json: Report = None,
) -> None:
    """Measure how well scores follow human labels, with intervals and comparisons."""
    evaluate_and_print(
        scores, labels, json, plots, table=table, target=target, group=group, column=column,
        against=against, label_range=label_range, encoding=encoding,
    )  # fmt: skip


def evaluate_and_print(
    scores: str | None,
    labels: str | None,
    json: str | None = None,
    plots: str | None = None,
    **given: Any,
) -> Evaluation:
    """Measures, prints the report, and writes it.

    Args:
        scores: See :func:`~tokenfocus_ray.evaluation.evaluate.evaluate_scores`.
        labels: Likewise.
        json: Where the report goes as JSON; None for nowhere.
        plots: Folder of the plots; None for none.
        **given: More of its arguments.
    """
    from tokenfocus_ray import evaluate_scores

    found = evaluate_scores(scores, labels, **given)
    print_report(found.report)
    if found.comparison is not None:
        print_comparison(found.comparison, found.column, str(found.against))
    if json is not None:
        found.write_json(json)
    for line in found.write_plots(plots) if plots is not None else ():
        print(line)
    return found


def print_report(report: EvaluationReport) -> None:
    """Prints a report as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("measure", title=f"{report.n_scored} of {report.n_rows} rows scored")
    for name in ("value", "95 % interval", "over"):
        table.add_column(name, justify="right")
    for one in report.figures:
        if one.n or not one.optional:
            over = f"{one.n} {one.unit}" if one.unit else ""
            table.add_row(one.title, _number(one.value), _between(one.low, one.high), over)
    console.print(table)

    by_type = {
        kind: (
            _number(v.accuracy), _between(v.accuracy_low, v.accuracy_high), _number(v.auc),
            _number(v.f1), str(v.n),
        )
        for kind, v in report.by_element_type.items()
    }  # fmt: skip
    by_generator = {
        name: (*(_number(x, 3) for x in (v.mean_score, v.mean_label, v.srcc, v.plcc, v.krcc)),
               str(v.n))
        for name, v in report.by_generator.items()
    }  # fmt: skip
    _print_groups(
        console, ("element type", "accuracy", "95 % interval", "AUC", "F1", "elements"), by_type
    )
    _print_groups(
        console, ("generator", "score", "label", "SRCC", "PLCC", "KRCC", "rows"), by_generator
    )
    _print_lines(console, report.reasons)
    _print_lines(console, (f"unscored, {code}: {n}" for code, n in report.unscored.items()))


def print_comparison(comparison: Comparison, first: str, second: str) -> None:
    """Prints how two columns compare."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    text = f"{first} against {second}: {comparison.n} rows, {comparison.n_groups} prompts"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    table = Table("")
    for name in ("first", "second", "difference", "95 % interval"):
        table.add_column(name, justify="right")
    for name in ("srcc", "plcc", "krcc"):
        found = getattr(comparison, name)
        table.add_row(
            name.upper(), _number(found.first), _number(found.second),
            f"{found.difference:+.4f}", _between(found.low, found.high, "+.4f"),
        )  # fmt: skip
    console.print(table)
    notes = [f"comparison: {comparison.reason}"] if comparison.reason else []
    if comparison.n_dropped:
        notes.append(f"comparison: {comparison.n_dropped} rows left out, without label or score")
    _print_lines(console, notes)


def _number(value: float, digits: int = 4) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _between(low: float = math.nan, high: float = math.nan, form: str = ".4f") -> str:
    return "" if math.isnan(low) else f"{low:{form}} .. {high:{form}}"


def _print_lines(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)


def _print_groups(
    console: Console, columns: Sequence[str], rows: Mapping[str, tuple[str, ...]]
) -> None:
    from rich.table import Table
    from rich.text import Text

    if rows:
        table = Table()
        table.add_column(columns[0], overflow="fold")  # long names often differ at their ends
        for name in columns[1:]:
            table.add_column(name, justify="right")
        for key, cells in rows.items():
            table.add_row(Text(key), *cells)  # names may hold brackets
        console.print(table)
