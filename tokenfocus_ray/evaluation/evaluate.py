"""Scores against human labels, wherever they lie: one call for all that can be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenfocus_ray.datasets.row_table import read_table
from tokenfocus_ray.errors import ConfigError, OutputError
from tokenfocus_ray.evaluation.measured import SCORE, Measured, from_scores, from_table
from tokenfocus_ray.evaluation.report import EvaluationReport, report_of
from tokenfocus_ray.evaluation.resampling.compare import Comparison, compare
from tokenfocus_ray.storage import Store

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a column follows human labels.

    Attributes:
        column: What was measured.
        report: Of it.
        against: What it was compared with; None for nothing.
        comparison: With that.
        measured: The numbers, row by row.
    """

    column: str
    report: EvaluationReport
    against: str | None
    comparison: Comparison | None
    measured: Measured

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON knows them; None for what has no value."""
        found = self.report.to_dict() | {"column": self.column}
        if self.comparison is not None:
            found |= {"against": self.against, "comparison": self.comparison.to_dict()}
        return found

    def write_json(self, path: str) -> None:
        """Writes :meth:`to_dict` to a file, local or ``s3://``.

        Raises:
            OutputError: the file cannot be written.
        """
        Store.of(path).write_json("", self.to_dict())

    def write_plots(self, folder: str) -> Sequence[str]:
        """Writes every plot for which there is data, as PNG.

        Args:
            folder: Local; made if it is not there.

        Returns:
            A line for what was written, and one for each plot that was left out and why.

        Raises:
            OutputError: the folder cannot be written.
        """
        from tokenfocus_ray.evaluation.plots import write_plots

        found = self.measured
        try:
            return write_plots(folder, found.joined, self.report, found.members, self.column)
        except OSError as error:
            raise OutputError(f"cannot write {folder}: {error}; choose a writable path") from None


def evaluate_scores(
    scores: str | None = None,
    labels: str | None = None,
    *,
    table: str | None = None,
    target: str | None = None,
    group: str | None = None,
    column: str | None = None,
    against: str | None = None,
    label_range: tuple[float, float] | None = None,
    encoding: str | None = None,
) -> Evaluation:
    """Measures how well scores follow human labels, with 95 % intervals.

    Args:
        scores: Output folder of ``score_manifest``, or a Parquet file of score rows; local or
            ``s3://``.
        labels: Parquet file or folder with the columns of
            :func:`~tokenfocus_ray.evaluation.labels.read_labels`, or EvalMuse's JSON.
        table: Instead of scores and labels, any table: see
            :func:`~tokenfocus_ray.evaluation.measured.from_table`.
        target: Its column of the label, or a pattern of raters' columns.
        group: Its column of the prompt.
        column: What is measured; for score rows ``score`` unless given.
        against: What it is compared with; None for nothing.
        label_range: Of the table: lowest and highest possible label.
        encoding: Of labels and tables that are text, without a byte order mark; None: UTF-8.

    Raises:
        ConfigError: neither scores with labels nor a table with target and column are given, or
            both.
        ManifestError: something cannot be read, is missing or does not fit together.
    """
    if table is not None and target and column and scores is None and labels is None:
        found = from_table(
            read_table(table, encoding), table, target=target, column=column, against=against,
            group=group, label_range=label_range,
        )  # fmt: skip
    elif scores and labels and table is None and not (target or group or label_range):
        column = column or SCORE
        found = from_scores(scores, labels, column, against, encoding)
    else:
        raise ConfigError(
            "give either SCORES with --labels, or --table with --target and --column; --group and "
            "--label-range are for tables"
        )
    joined, comparison = found.joined, None
    if found.second is not None:
        comparison = compare(joined.scores, found.second, joined.labels, joined.groups)
    return Evaluation(column, report_of(joined, intervals=True), against, comparison, found)
