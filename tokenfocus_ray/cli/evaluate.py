"""``evaluate``: scores against labels, as a table on the terminal, as JSON and as plots."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from tokenfocus_ray.evaluation import Comparison, EvaluationReport


def evaluate(
    scores: str | None,
    labels: str | None,
    json_out: str | None = None,
    *,
    table: str | None = None,
    target: str | None = None,
    group: str | None = None,
    column: str | None = None,
    against: str | None = None,
    label_range: tuple[float, float] | None = None,
    plots: str | None = None,
) -> EvaluationReport:
    """Measures how well scores follow labels and prints it.

    Args:
        scores: Parquet file or folder of score rows; local path or URI.
        labels: Parquet file or folder with the columns of
            :func:`tokenfocus_ray.evaluation.read_labels`, or EvalMuse's JSON.
        json_out: Local path to write the report to.
        table: Instead of scores and labels, any table: see
            :func:`tokenfocus_ray.cli.columns.from_table`.
        target: Its column of the label, or a pattern of raters' columns.
        group: Its column of the prompt.
        column: What is measured; for score rows ``score`` unless given.
        against: What it is compared with; None for nothing.
        label_range: Of the table: lowest and highest possible label.
        plots: Local folder for plots; None for none.

    Returns:
        The report that was printed.

    Raises:
        ConfigError: neither scores with labels nor a table with target and column are given, or
            both.
        ManifestError: when something cannot be read, is missing or does not fit together.
        OutputError: when ``json_out`` or ``plots`` cannot be written.
    """
    from tokenfocus_ray.cli.columns import SCORE, from_scores, from_table
    from tokenfocus_ray.cli.stack import read_table
    from tokenfocus_ray.errors import ConfigError, OutputError
    from tokenfocus_ray.evaluation import compare
    from tokenfocus_ray.evaluation.plots import write_plots
    from tokenfocus_ray.evaluation.report import report_of

    if table is not None and target and column and scores is None and labels is None:
        found = from_table(
            read_table(table), table, target=target, column=column, against=against, group=group,
            label_range=label_range,
        )  # fmt: skip
    elif scores and labels and table is None and not (target or group or label_range):
        column = column or SCORE
        found = from_scores(scores, labels, column, against)
    else:
        raise ConfigError(
            "give either SCORES with --labels, or --table with --target and --column; --group and "
            "--label-range are for tables"
        )
    joined = found.joined
    report = report_of(joined, intervals=True)
    shown = report.to_dict() | {"column": column}
    print_report(report)
    if found.second is not None and against is not None:
        comparison = compare(joined.scores, found.second, joined.labels, joined.groups)
        shown |= {"against": against, "comparison": comparison.to_dict()}
        print_comparison(comparison, column, against)
    try:
        if json_out is not None:
            place, text = json_out, json.dumps(shown, indent=2, allow_nan=False)
            Path(json_out).write_text(text + "\n", encoding="utf-8")
        if plots is not None:
            place = plots
            for line in write_plots(plots, joined, report, found.members, column):
                print(line)
    except OSError as error:
        raise OutputError(f"cannot write {place}: {error}; choose a writable path") from None
    return report


def read_labels_table(labels: str) -> pa.Table:
    """Human labels from Parquet or EvalMuse's JSON, unchecked."""
    from tokenfocus_ray.datasets.evalmuse import read_evalmuse
    from tokenfocus_ray.evaluation.labels import LABEL_COLUMNS

    if labels.lower().endswith(".json"):
        return read_evalmuse(labels)
    return read_parquet(labels, LABEL_COLUMNS, ("total_scores",))


def read_parquet(
    path: str,
    columns: Iterable[str] | None,
    needed: Iterable[str],
    ids: Collection[str] | None = None,
) -> pa.Table:
    """Some columns of a Parquet file, or of all Parquet files below a folder.

    Files and folders whose name starts with ``_`` or ``.`` are not data and are left out.

    Args:
        path: Local path or URI of a file or folder.
        columns: The columns to read, as far as they are there; None: all.
        needed: The columns without which there is no use in reading.
        ids: Values of ``sample_id`` whose rows are read; None: all. The others are passed over a
            few at a time, so that a large table needs no more memory.

    Returns:
        The table; when a needed column is missing, all columns without a row, so that the message
        about it can name what was found.

    Raises:
        ManifestError: when there is nothing, or no Parquet, at ``path``.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import dataset as ds
    from pyarrow import fs

    from tokenfocus_ray.errors import ManifestError
    from tokenfocus_ray.storage import Store

    store = Store.of(path)
    filesystem, root = store.filesystem, store.root
    try:
        info = filesystem.get_file_info(root)
        if info.type == fs.FileType.Directory:
            below = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
            files = sorted(f.path for f in below if _is_data(f.path.removeprefix(root)))
        else:
            files = [root]
        if info.type == fs.FileType.NotFound or not files:
            raise ManifestError(f"{path}: no Parquet file there; check the path")
        parts = ds.dataset(files, filesystem=filesystem, format="parquet").get_fragments()
        # A column can be all null, so of null type, in one file and typed in the next.
        schema = pa.unify_schemas(
            [plain_schema(part.physical_schema) for part in parts], promote_options="permissive"
        )
        found = ds.dataset(files, schema=schema, filesystem=filesystem, format="parquet")
        names = found.schema.names
        if not set(needed) <= set(names):
            return found.schema.empty_table()
        scan = found.scanner([name for name in columns or names if name in names])
        if ids is None:
            return _valid(scan.to_table(), path)
        # not by the scanner, which cannot compare a file's statistics of views
        known = pa.array(list(ids), pa.string())
        some = [
            batch.filter(pc.is_in(batch["sample_id"].cast(pa.string()), known))
            for batch in scan.to_batches()
        ]
        kept = scan.projected_schema.with_metadata(schema.metadata)
        return _valid(pa.Table.from_batches(some, schema=kept), path)
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{path}: cannot be read as Parquet ({error}); give Parquet") from None


def _valid(table: pa.Table, path: str) -> pa.Table:
    """The table, if its text is UTF-8: Arrow does not look when it reads."""
    import pyarrow as pa

    from tokenfocus_ray.errors import ManifestError

    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            raise ManifestError(
                f"{path}: column {name!r} holds text that is not UTF-8; write it again as UTF-8, "
                f"or leave the column out"
            ) from None
    return table


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The same with text as text, however it is stored: Arrow cannot search or take views."""
    import pyarrow as pa

    for index, field in enumerate(schema):
        kind: Any = field.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_string_view(kind):
            kind = pa.string()
        elif pa.types.is_binary_view(kind):
            kind = pa.binary()
        schema = schema.set(index, field.with_type(kind))
    return schema


def print_report(report: EvaluationReport) -> None:
    """Prints a report as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("measure", title=f"{report.n_scored} of {report.n_rows} rows scored")
    for name in ("value", "95 % interval", "over"):
        table.add_column(name, justify="right")
    for label, key, value, over in _lines(report):
        table.add_row(label, _number(value), _between(*report.intervals.get(key, ())), over)
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


def _lines(report: EvaluationReport) -> list[tuple[str, str, float, str]]:
    """What is shown of a report: name, key of its interval, value, what it is over."""
    rows, elements = f"{report.n_labelled} rows", f"{report.n_elements} elements"
    untied = f"{report.n_pairs - report.n_pairs_tied} pairs"
    lines = [
        ("SRCC", "srcc", report.srcc, rows),
        ("PLCC (no fit)", "plcc", report.plcc, rows),
        ("PLCC (official fit)", "", report.official.plcc, rows),
        ("PLCC (corrected fit)", "", report.corrected.plcc, rows),
        ("KRCC (tau-b)", "krcc", report.krcc, rows),
        ("pairwise accuracy", "pairwise_accuracy", report.pairwise_accuracy, untied),
        ("pairwise accuracy, ties", "pairwise_accuracy_ties", report.pairwise_accuracy_ties,
         f"{report.n_pairs} pairs"),
        ("calibration error", "", report.calibration_error, rows),
    ]  # fmt: skip
    if report.n_intervals:
        over = f"{report.n_intervals} intervals"
        lines += [
            ("coverage of intervals", "interval_coverage", report.interval_coverage, over),
            ("width of intervals", "", report.interval_width, over),
        ]
    if report.n_elements:
        own = f"{report.n_elements_own} elements"
        lines += [
            ("element accuracy", "element_accuracy", report.element_accuracy, elements),
            *([("element accuracy, own", "element_accuracy_own", report.element_accuracy_own, own)]
              if report.n_elements_own else []),
            ("element AUC", "element_auc", report.element_auc, elements),
            ("element F1", "element_f1", report.element_f1, elements),
            ("challenge score (official)", "final_official", report.final_official, ""),
            ("challenge score (corrected)", "final_corrected", report.final_corrected, ""),
        ]  # fmt: skip
    return lines


def _number(value: float, digits: int = 4) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _between(low: float = math.nan, high: float = math.nan, form: str = ".4f") -> str:
    return "" if math.isnan(low) else f"{low:{form}} .. {high:{form}}"


def _print_lines(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)


def _is_data(relative: str) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in relative.split("/"))
    return relative.endswith(".parquet") and not hidden


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
