"""``evaluate``: score rows against labels, as a table on the terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from tokenfocus_ray.evaluation import EvaluationReport


def evaluate(scores: str, labels: str, json_out: str | None = None) -> EvaluationReport:
    """Measures how well scores follow labels and prints it.

    Args:
        scores: Parquet file or folder of score rows; local path or URI.
        labels: Parquet file or folder with the columns of
            :func:`tokenfocus_ray.evaluation.read_labels`, or EvalMuse's JSON.
        json_out: Local path to write the report to.

    Returns:
        The report that was printed.

    Raises:
        ManifestError: when either side cannot be read or they do not fit together.
        OutputError: when ``json_out`` cannot be written.
    """
    from tokenfocus_ray.errors import OutputError
    from tokenfocus_ray.evaluation import evaluate_scores
    from tokenfocus_ray.evaluation.report import NEEDED_SCORE_COLUMNS, SCORE_COLUMNS

    score_table = read_parquet(scores, SCORE_COLUMNS, NEEDED_SCORE_COLUMNS)
    label_table = read_labels_table(labels)
    report = evaluate_scores(score_table, label_table, scores_source=scores, labels_source=labels)
    print_report(report)
    if json_out is not None:
        try:
            Path(json_out).write_text(
                json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8"
            )
        except OSError as error:
            raise OutputError(f"cannot write {json_out}: {error}; choose a writable path") from None
    return report


def read_labels_table(labels: str) -> pa.Table:
    """Human labels from Parquet or EvalMuse's JSON, unchecked."""
    from tokenfocus_ray.datasets.evalmuse import read_evalmuse
    from tokenfocus_ray.evaluation.labels import LABEL_COLUMNS

    if labels.lower().endswith(".json"):
        return read_evalmuse(labels)
    return read_parquet(labels, LABEL_COLUMNS, ("total_scores",))


def read_parquet(path: str, columns: Iterable[str] | None, needed: Iterable[str]) -> pa.Table:
    """Some columns of a Parquet file, or of all Parquet files below a folder.

    Files and folders whose name starts with ``_`` or ``.`` are not data and are left out.

    Args:
        path: Local path or URI of a file or folder.
        columns: The columns to read, as far as they are there; None: all.
        needed: The columns without which there is no use in reading.

    Returns:
        The table; when a needed column is missing, all columns without a row, so that the message
        about it can name what was found.

    Raises:
        ManifestError: when there is nothing, or no Parquet, at ``path``.
    """
    import pyarrow as pa
    from pyarrow import dataset as ds
    from pyarrow import fs

    from tokenfocus_ray.errors import ManifestError

    try:
        if "://" in path:
            filesystem, root = fs.FileSystem.from_uri(path)
        else:
            filesystem, root = fs.LocalFileSystem(), str(Path(path).absolute())
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
            [part.physical_schema for part in parts], promote_options="permissive"
        )
        found = ds.dataset(files, schema=schema, filesystem=filesystem, format="parquet")
        names = found.schema.names
        if not set(needed) <= set(names):
            return found.schema.empty_table()
        return found.to_table(columns=[name for name in columns or names if name in names])
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{path}: cannot be read as Parquet ({error}); give Parquet") from None


def print_report(report: EvaluationReport) -> None:
    """Prints a report as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("measure", title=f"{report.n_scored} of {report.n_rows} rows scored")
    table.add_column("value", justify="right")
    table.add_column("over", justify="right")
    rows = f"{report.n_labelled} rows"
    elements = f"{report.n_elements} elements"
    for name, value, over in (
        ("SRCC", report.srcc, rows),
        ("PLCC (no fit)", report.plcc, rows),
        ("KRCC (tau-b)", report.krcc, rows),
        ("element accuracy", report.element_accuracy, elements),
        ("PLCC (official fit)", report.official.plcc, rows),
        ("PLCC (corrected fit)", report.corrected.plcc, rows),
        ("challenge score (official)", report.final_official, ""),
        ("challenge score (corrected)", report.final_corrected, ""),
    ):
        table.add_row(name, f"{value:.4f}", over)
    console.print(table)

    by_type = {k: (f"{v.accuracy:.4f}", str(v.n)) for k, v in report.by_element_type.items()}
    by_generator = {
        k: (f"{v.srcc:.4f}", f"{v.plcc:.4f}", f"{v.krcc:.4f}", str(v.n))
        for k, v in report.by_generator.items()
    }
    _print_groups(console, ("element type", "accuracy", "elements"), by_type)
    _print_groups(console, ("generator", "SRCC", "PLCC", "KRCC", "rows"), by_generator)
    for reason in report.reasons:
        console.print(f"- {reason}", markup=False, highlight=False, soft_wrap=True)
    for code, count in report.unscored.items():
        console.print(f"- unscored, {code}: {count}", markup=False, highlight=False, soft_wrap=True)


def _is_data(relative: str) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in relative.split("/"))
    return relative.endswith(".parquet") and not hidden


def _print_groups(
    console: Console, columns: tuple[str, ...], rows: Mapping[str, tuple[str, ...]]
) -> None:
    from rich.table import Table
    from rich.text import Text

    if rows:
        table = Table(columns[0])
        for name in columns[1:]:
            table.add_column(name, justify="right")
        for key, cells in rows.items():
            table.add_row(Text(key), *cells)  # names may hold brackets
        console.print(table)
