"""``stack``: a table of scores and human labels -> an ensemble, and how good it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from tokenfocus_ray.config import StackConfig
    from tokenfocus_ray.ensemble.judge import StackReport


def stack(
    scores: Sequence[str],
    labels: str | None,
    table: str | None,
    *,
    target: str | None,
    features: Sequence[str],
    group: str | None,
    config: StackConfig,
    out: str | None,
    json_out: str | None,
) -> StackReport:
    """Fits an ensemble on a table, prints how good it is, and writes it.

    Args:
        scores: Output folders of `tokenfocus score`; none with ``table``.
        labels: Their human labels, as for `tokenfocus evaluate`.
        table: Parquet file or folder, ``.csv``, ``.tsv`` or ``.jsonl``; local or ``s3://``.
        target: See :func:`tokenfocus_ray.ensemble.table.read_stack_table`.
        features: Likewise.
        group: Likewise.
        config: How a stacker is chosen and judged.
        out: Folder of the bundle; None writes none.
        json_out: Where the report goes as JSON; None for nowhere.

    Raises:
        ConfigError: neither scores with labels nor a table with a target are given, or both.
        ManifestError: the table cannot be read, or there is too little to learn from.
        OutputError: the bundle or the report cannot be written.
    """
    from rich.progress import Progress

    from tokenfocus_ray.ensemble.join import GROUP, TARGET
    from tokenfocus_ray.ensemble.judge import fit_ensemble
    from tokenfocus_ray.ensemble.table import read_stack_table
    from tokenfocus_ray.errors import ConfigError
    from tokenfocus_ray.storage import Store

    if table is not None and not scores and labels is None and target is not None and features:
        where, read = table, read_table(table)
    elif scores and labels is not None and table is None and target is None and group is None:
        where, read = " + ".join(scores), labelled(scores, labels)
        target, group, features = TARGET, GROUP, features or ("m_*",)
    else:
        raise ConfigError(
            "give either SCORES... with --labels, or --table with --target and --features"
        )
    found = read_stack_table(
        read, target=target, features=features, group=group, label_range=config.label_range,
        where=where,
    )  # fmt: skip
    with Progress(transient=True) as bar:
        task = bar.add_task("folds", total=None)
        ensemble, report = fit_ensemble(
            found, config, lambda done, total: bar.update(task, completed=done, total=total)
        )  # fmt: skip
    print_report(report)
    if out is not None:
        ensemble.save(out)
    if json_out is not None:
        text = json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n"
        Store.of(json_out).write_bytes("", text.encode())
    return report


def labelled(scores: Sequence[str], labels: str) -> pa.Table:
    """Score tables joined with their labels."""
    from tokenfocus_ray.cli.evaluate import read_labels_table, read_parquet
    from tokenfocus_ray.ensemble.join import join_labels
    from tokenfocus_ray.evaluation.labels import read_labels

    tables = {where: read_parquet(where, None, ()) for where in scores}
    return join_labels(tables, read_labels(read_labels_table(labels), labels))


def read_table(path: str) -> pa.Table:
    """A table of scores, in any of the forms that are read whole."""
    from pathlib import PurePosixPath

    from tokenfocus_ray.cli.evaluate import read_parquet
    from tokenfocus_ray.datasets.manifest import read_small
    from tokenfocus_ray.storage import Store

    if PurePosixPath(path).suffix in (".csv", ".tsv", ".jsonl"):
        return read_small(Store.of(path))
    return read_parquet(path, None, ())


def print_report(report: StackReport) -> None:
    """Prints a report as a table, and a line for each note."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    shown = Table(
        "measure",
        title=f"{report.n_rows} rows, {report.n_groups} groups, {len(report.features)} columns; "
        f"{report.folds} folds, mean of {report.seeds} rounds",
    )
    shown.add_column("out of fold", justify="right")
    shown.add_column("95 % interval", justify="right")
    between = f"{report.difference_low:+.4f} .. {report.difference_high:+.4f}"
    for name, value, interval in (
        ("SRCC", f"{report.srcc:.4f}", f"{report.srcc_low:.4f} .. {report.srcc_high:.4f}"),
        ("PLCC", f"{report.plcc:.4f}", ""),
        ("KRCC", f"{report.krcc:.4f}", ""),
        (f"SRCC of {report.best_single}", f"{report.best_single_srcc:.4f}", ""),
        ("difference", f"{report.difference:+.4f}", between),
        ("SRCC, calibrated", f"{report.calibrated_srcc:.4f}", ""),
        ("calibration error", f"{report.calibration_error:.4f}", ""),
        (f"coverage of {report.coverage:.0%} intervals", f"{report.measured_coverage:.3f}", ""),
        ("half an interval", f"{report.radius:.3f}", ""),
    ):
        shown.add_row(name, value, interval)
    console.print(shown)
    chosen = ", ".join(f"{name} {count}" for name, count in report.chosen.items())
    console.print(f"- meta-learner: {report.method} (chosen: {chosen})", highlight=False)
    for note in report.notes:
        console.print(f"- {note}", markup=False, highlight=False, soft_wrap=True)
