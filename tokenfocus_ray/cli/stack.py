"""``stack``: scores and human labels -> an ensemble, and how good it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from tokenfocus_ray.config import StackConfig
    from tokenfocus_ray.ensemble.calibrated import CalibratedStack
    from tokenfocus_ray.ensemble.judge import StackReport
    from tokenfocus_ray.ensemble.table import StackTable


@dataclass(frozen=True, slots=True)
class StackInput:
    """What is stacked.

    Attributes:
        where: For messages.
        total: Table of scores and labels.
        elements: Likewise, a row an element; None where there are none.
        target: Column of the label.
        group: Column of the prompt.
        features: Names or patterns of the columns of ``total``.
        backbones: See :class:`~tokenfocus_ray.ensemble.bundle.Ensemble`.
    """

    where: str
    total: pa.Table
    elements: pa.Table | None
    target: str
    group: str | None
    features: tuple[str, ...]
    backbones: dict[str, Any] = field(default_factory=dict)


def stack(
    scores: Sequence[str],
    labels: str | None = None,
    table: str | None = None,
    *,
    target: str | None = None,
    features: Sequence[str] = (),
    group: str | None = None,
    config: StackConfig,
    out: str | None,
    json_out: str | None = None,
) -> tuple[StackReport, StackReport | None]:
    """Fits an ensemble, prints how good it is, and writes it.

    Args:
        scores: Output folders of `tokenfocus score`, or one of `tokenfocus train`; none with
            ``table``.
        labels: Human labels of the former, as for `tokenfocus evaluate`.
        table: Parquet file or folder, ``.csv``, ``.tsv`` or ``.jsonl``; local or ``s3://``.
        target: See :func:`tokenfocus_ray.ensemble.table.read_stack_table`.
        features: Likewise.
        group: Likewise.
        config: How a stacker is chosen and judged.
        out: Folder of the bundle; None writes none.
        json_out: Where the report goes as JSON; None for nowhere.

    Returns:
        The report for the total, and for the elements where there are any.

    Raises:
        ConfigError: neither scores with labels nor a table with a target are given, or both.
        ManifestError: the table cannot be read, or there is too little to learn from.
        OutputError: the bundle or the report cannot be written.
    """
    from rich.console import Console

    from tokenfocus_ray.ensemble.bundle import Ensemble
    from tokenfocus_ray.ensemble.table import read_stack_table
    from tokenfocus_ray.errors import ConfigError
    from tokenfocus_ray.storage import Store

    if table is not None and not scores and labels is None and target is not None and features:
        given = StackInput(table, read_table(table), None, target, group, tuple(features))
    elif scores and table is None and target is None and group is None:
        given = read_run(scores) if labels is None else read_scores(scores, labels)
    else:
        raise ConfigError(
            "give either SCORES... with --labels, or the folder of a training run, or --table with "
            "--target and --features"
        )
    found = read_stack_table(
        given.total, target=given.target, features=features or given.features, group=given.group,
        label_range=config.label_range, where=given.where,
    )  # fmt: skip
    total, report = _fit("total", found, config)
    elements, element_report = _fit_elements(given, config)
    console = Console()
    print_report(console, report, "rows")
    if element_report is not None:
        print_report(console, element_report, "elements")
    if out is not None:
        Ensemble(total, elements, given.backbones).save(out)
    if json_out is not None:
        values = report.to_dict() | {"elements": element_report and element_report.to_dict()}
        text = json.dumps(values, indent=2, allow_nan=False) + "\n"
        Store.of(json_out).write_bytes("", text.encode())
    return report, element_report


def _fit(
    name: str, table: StackTable, config: StackConfig, *, elements: bool = False
) -> tuple[CalibratedStack, StackReport]:
    from rich.progress import Progress

    from tokenfocus_ray.ensemble.judge import fit_calibrated

    with Progress(transient=True) as bar:
        task = bar.add_task(f"{name}: folds", total=None)
        return fit_calibrated(
            table, config, lambda done, total: bar.update(task, completed=done, total=total),
            elements=elements,
        )  # fmt: skip


def _fit_elements(
    given: StackInput, config: StackConfig
) -> tuple[CalibratedStack | None, StackReport | None]:
    """Elements likewise; none where they have no labels, or too little to learn from."""
    from tokenfocus_ray.ensemble.table import read_stack_table
    from tokenfocus_ray.errors import ManifestError

    if given.elements is None or not given.elements.num_rows:
        return None, None
    try:
        found = read_stack_table(
            given.elements, target=given.target, features=["e_*"], group=given.group,
            label_range=(0.0, 1.0), where=f"{given.where}: elements", min_features=1,
        )  # fmt: skip
        return _fit("elements", found, config, elements=True)
    except ManifestError as error:
        print(f"elements are not stacked: {error}")
        return None, None


def read_scores(scores: Sequence[str], labels: str) -> StackInput:
    """Score tables joined with their labels."""
    from tokenfocus_ray.cli.evaluate import read_labels_table, read_parquet
    from tokenfocus_ray.ensemble.columns import Members, text_metadata
    from tokenfocus_ray.ensemble.join import GROUP, TARGET, join_labels
    from tokenfocus_ray.errors import ManifestError, shown
    from tokenfocus_ray.evaluation.labels import read_labels, scale_of

    bare = read_parquet(scores[0], None, [""])  # its names, without a row
    known = read_labels(read_labels_table(labels), labels, scale_of(bare.schema))
    tables = {where: read_parquet(where, None, ("sample_id",), ids=known) for where in scores}
    joined = join_labels(tables, known)
    backbones: dict[str, Any] = {}
    for where, table in tables.items():
        names = list(Members.of(table.schema, where).backbones)
        text = text_metadata(table.schema).get("tokenfocus.config", "")
        try:
            config = json.loads(text)
            configs = (
                {n: json.loads(config[n]) for n in names} if len(names) > 1 else {names[0]: config}
            )
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ManifestError(
                f"{where}: the table's metadata says {shown(text)} of how it was scored; give the "
                f"output of `tokenfocus score` as it was written"
            ) from None
        identity = _identity(where)
        for name, one in configs.items():
            own = {k.removeprefix(f"{name}."): v for k, v in identity.items()
                   if k.startswith(f"{name}.")} if len(names) > 1 else identity  # fmt: skip
            backbones[name] = {"config": one, "identity": own}
    _check_backbones(backbones, "the tables' metadata")
    return StackInput(
        " + ".join(scores), joined.total, joined.elements, TARGET, GROUP, joined.features, backbones
    )


def _identity(scores: str) -> dict[str, Any]:
    """What a scoring job recorded of what it scored with; nothing of a lone file."""
    from tokenfocus_ray.storage import Store

    folder = Store.of(scores)
    if not folder.exists("__job/job.json"):
        return {}
    record = folder.read_record("__job/job.json")
    return {
        k: v
        for k, v in record.items()
        if not k.startswith("input.") and k not in ("commit_rows", "ensemble")
    }


def read_run(scores: Sequence[str]) -> StackInput:
    """The out-of-fold predictions of a training run, with its members."""
    from tokenfocus_ray.cli.evaluate import read_parquet
    from tokenfocus_ray.ensemble.join import GROUP, TARGET, join_out_of_fold
    from tokenfocus_ray.errors import ConfigError
    from tokenfocus_ray.storage import Store

    (run, *more) = scores
    folder = Store.of(run)
    if more or not (folder.exists("oof.parquet") and folder.exists("summary.json")):
        raise ConfigError(
            f"{' '.join(scores)}: without --labels, give the one folder of a finished training "
            f"run, which has an oof.parquet; with score tables, give --labels"
        )
    joined = join_out_of_fold(read_parquet(f"{run}/oof.parquet", None, ()), run)
    backbones = folder.read_record("summary.json").get("backbones") or {}
    _check_backbones(backbones, f"{run}/summary.json")
    for one in backbones.values():
        adapters = one["config"].get("adapters", {})
        place = folder.root if folder.is_local else folder.uri
        one["config"]["adapters"] = {n: f"{place}/{below}" for n, below in adapters.items()}
    return StackInput(run, joined.total, joined.elements, TARGET, GROUP, joined.features, backbones)


def _check_backbones(backbones: Any, where: str) -> None:
    from tokenfocus_ray.ensemble.stored import Broken, check_backbones
    from tokenfocus_ray.errors import ManifestError

    try:
        check_backbones(backbones)
    except Broken as error:
        raise ManifestError(
            f"{where}: {error}; give what tokenfocus wrote, as it was written"
        ) from None


def read_table(path: str) -> pa.Table:
    """A table of scores, in any of the forms that are read whole."""
    from pathlib import PurePosixPath

    from tokenfocus_ray.cli.evaluate import read_parquet
    from tokenfocus_ray.datasets.text_tables import read_small
    from tokenfocus_ray.storage import Store

    if PurePosixPath(path).suffix in (".csv", ".tsv", ".jsonl"):
        return read_small(Store.of(path))
    return read_parquet(path, None, ())


def print_report(console: Any, report: StackReport, what: str) -> None:
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
