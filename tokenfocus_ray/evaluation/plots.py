"""A report as pictures: scores against labels, calibration, agreement of members, generators.

Colours are of Okabe and Ito's palette, and cividis, which the colour-blind can tell apart.

Legend: N rows, M members and the labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenfocus_ray.evaluation.challenge import logistic
from tokenfocus_ray.evaluation.correlation import srcc
from tokenfocus_ray.evaluation.join import Joined
from tokenfocus_ray.evaluation.reliability import labels_inside, tenths
from tokenfocus_ray.evaluation.report import EvaluationReport
from tokenfocus_ray.evaluation.resampling.bootstrap import interval
from tokenfocus_ray.evaluation.resampling.intervals import Resamples
from tokenfocus_ray.tables.columns import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORE_COLOUR, LABEL_COLOUR, QUIET = "#0072B2", "#D55E00", "#666666"
DPI = 150
_LABEL = "mean human label"


def write_plots(
    folder: str,
    joined: Joined,
    report: EvaluationReport,
    members: Mapping[str, FloatArray],
    column: str,
) -> list[str]:
    """Writes every plot for which there is data.

    Args:
        folder: Local; made if it is not there.
        joined: Scores and labels.
        report: Of them, with intervals.
        members: Name -> [N] scores of the same rows.
        column: Name of the scores.

    Returns:
        A line for what was written, and one for each plot that was left out and why.

    Raises:
        OSError: the folder cannot be written.
    """
    known_N = np.isfinite(joined.labels)
    too_few = None if known_N.any() else "no row has score and label"
    one_member = None if len(members) > 1 else "there is one member only, or its name is not known"
    unnamed = None if report.by_generator else "neither labels nor scores name generators"
    made: dict[str, tuple[str | None, Callable[[], Figure]]] = {
        "scatter.png": (too_few, lambda: scatter(joined, report, column)),
        "calibration.png": (too_few, lambda: calibration(joined, report, column)),
        "members.png": (one_member, lambda: agreement(members, joined.labels)),
        "generators.png": (too_few or unnamed, lambda: generators(joined, report, column)),
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    written, lines = [], []
    for name, (reason, draw) in made.items():
        if reason is None:
            draw().savefig(Path(folder) / name, dpi=DPI)
            written.append(name)
        else:
            lines.append(f"- {name} is left out: {reason}")
    return [f"- plots in {folder}: {', '.join(written) or 'none'}", *lines]


def scatter(joined: Joined, report: EvaluationReport, column: str) -> Figure:
    """Labels against scores, with the logistic that was fitted from score to label."""
    figure, (axes,) = _figure(6.4, 5.2)
    known_N = np.isfinite(joined.labels)
    x, y = joined.scores[known_N], joined.labels[known_N]
    alpha = float(np.clip(8 / math.sqrt(len(x)), 0.12, 0.6))
    axes.scatter(x, y, s=14, color=SCORE_COLOUR, alpha=alpha, linewidths=0, label="image")
    if report.corrected.fit is not None:
        line = np.linspace(x.min(), x.max(), 300)
        axes.plot(
            line, logistic(line, *report.corrected.fit), color=LABEL_COLOUR, lw=2.2,
            label="fitted logistic",
        )  # fmt: skip
    axes.set_xlabel(_score(column))
    axes.set_ylabel(_LABEL)
    title = (
        f"SRCC {report.srcc:.3f}   PLCC {report.plcc:.3f}   "
        f"PLCC after fit {report.corrected.plcc:.3f}   KRCC {report.krcc:.3f}"
    )
    _title(axes, f"Scores and labels, n = {len(x):,} images", title)
    for handle in _legend(figure, axes).legend_handles:
        handle.set_alpha(1)
    return figure


def calibration(joined: Joined, report: EvaluationReport, column: str) -> Figure:
    """Mean label by tenth of the scores, how many scores are where, and what intervals hold."""
    known_N = np.isfinite(joined.labels)
    x, y, groups = joined.scores[known_N], joined.labels[known_N], joined.groups[known_N]
    resamples = Resamples.of(joined)
    heights = [3.2, 1.1, *([1.4] if report.n_intervals else [])]
    figure, axes = _figure(6.4, 1.2 + sum(heights), heights)
    curve, counts = axes[:2]
    points: list[tuple[float, float, float, float]] = []
    for part in tenths(x):
        mean, ends = float(y[part].mean()), (math.nan, math.nan)
        if resamples is not None:
            ends = interval(resamples.shares(groups[part], y[part], np.ones(len(part))))
        points.append((float(x[part].mean()), mean, *ends))
    about = f"a tenth of the images (about {max(len(x) // 10, 1):,}), 95 % interval"
    _bars(curve, np.array(points), SCORE_COLOUR, about)
    detail = "scores are not on the labels' scale"
    if not math.isnan(report.calibration_error):
        low, high = max(x.min(), y.min()), min(x.max(), y.max())
        curve.plot([low, high], [low, high], "--", color=QUIET, lw=1.2, label="score = label")
        detail = f"mean distance of score and label {report.calibration_error:.3f}"
    _title(curve, f"Calibration, n = {len(x):,} images", detail)
    curve.set_ylabel(_LABEL)
    counts.hist(x, bins=30, color=SCORE_COLOUR, alpha=0.75)
    counts.set_ylabel("images")
    if report.n_intervals:
        inside_N, bounded_N = labels_inside(joined.lows, joined.highs, joined.labels)
        scores, inside = joined.scores[bounded_N], inside_N[bounded_N]
        rows = [(scores[part].mean(), inside[part].mean()) for part in tenths(scores)]
        axes[2].plot(*zip(*rows, strict=True), "o-", color=LABEL_COLOUR, ms=5)
        axes[2].axhline(report.interval_coverage, color=LABEL_COLOUR, lw=1, ls=":")
        axes[2].set_ylim(0, 1.05)
        axes[2].set_ylabel("share of labels\nin intervals")
        axes[2].text(
            0.01, 0.06, f"{report.interval_coverage:.3f} of n = {report.n_intervals:,} in all "
            f"(dotted), mean width {report.interval_width:.2f}",
            transform=axes[2].transAxes, color=QUIET, fontsize=9.5,
        )  # fmt: skip
    axes[-1].set_xlabel(_score(column))
    _legend(figure, curve)
    return figure


def agreement(members: Mapping[str, FloatArray], labels_N: FloatArray) -> Figure:
    """SRCC of each member with each, and with the labels."""
    columns = {**members, "human label": labels_N}
    names = [_short(name) for name in columns]
    values = list(columns.values())
    found_MM = np.array([[srcc(a, b) for b in values] for a in values])
    cells, longest = 0.62 * len(names), max(map(len, names))
    figure, (axes,) = _figure(cells + 0.085 * longest + 1.8, cells + 0.06 * longest + 1.3)
    low = float(np.floor(np.nanmin(found_MM) * 10) / 10) if np.isfinite(found_MM).any() else 0.0
    image = axes.imshow(found_MM, cmap="cividis", vmin=low, vmax=1)
    for (i, j), value in np.ndenumerate(found_MM):
        shown = "-" if math.isnan(value) else f"{value:.2f}"
        dark = math.isnan(value) or value < (low + 1) / 2
        axes.text(j, i, shown, ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    _title(axes, "Agreement of members", f"SRCC, n = {len(labels_N):,} images")
    figure.colorbar(image, ax=axes, shrink=0.8, label="SRCC")
    return figure


def generators(joined: Joined, report: EvaluationReport, column: str) -> Figure:
    """Mean score and mean label of each generator, the best score on top."""
    found = {k: v for k, v in report.by_generator.items() if v.n}
    ranked = sorted(found, key=lambda name: found[name].mean_score)
    one_scale = not math.isnan(report.calibration_error)
    width = 6.4 + 0.06 * max(map(len, map(_short, ranked)))
    figure, axes = _figure(
        width + (0 if one_scale else 1.5), 1.7 + 0.42 * len(ranked), columns=1 if one_scale else 2
    )
    sides = (
        (axes[0], "mean_score", SCORE_COLOUR, f"mean {_score(column)}", 0.12),
        (axes[-1], "mean_label", LABEL_COLOUR, _LABEL, -0.12),
    )
    for side, key, colour, text, shift in sides:
        ends = (key, f"{key}_low", f"{key}_high")
        rows = [
            (i + shift * one_scale, *(getattr(found[name], end) for end in ends))
            for i, name in enumerate(ranked)
        ]
        points = np.array(rows)
        _bars(side, points, colour, text, lying=True)
        side.set_xlabel(
            "score and label, 95 % intervals" if one_scale else f"{text}\n95 % intervals"
        )
    axes[0].set_yticks(range(len(ranked)), [f"{_short(n)}  (n = {found[n].n:,})" for n in ranked])
    axes[0].set_ylim(-0.6, len(ranked) - 0.4)
    n = sum(one.n for one in found.values())
    title = f"Generators by mean score, n = {n:,} images, {report.n_groups:,} prompts"
    figure.suptitle(title, fontsize=12, fontweight="bold")
    if one_scale:
        _legend(figure, axes[0])
    return figure


def _figure(
    width: float, height: float, heights: list[float] | None = None, columns: int = 1
) -> tuple[Figure, list[Any]]:
    """A figure in inches, and its axes: one above the other by heights, or side by side."""
    from matplotlib.figure import Figure  # slow, and needed for plots only

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(
        len(heights or [1]), columns, sharex=heights is not None, sharey=columns > 1,
        height_ratios=heights, squeeze=False,
    ).ravel()  # fmt: skip
    for one in axes:
        one.grid(color="#DDDDDD", lw=0.7)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def _bars(axes: Any, points: FloatArray, colour: str, label: str, *, lying: bool = False) -> None:
    """Points with intervals: columns of place, value, and the interval's ends."""
    place, value, low, high = points.T
    reach = np.nan_to_num(np.abs(np.stack([value - low, high - value])))
    xy = (value, place) if lying else (place, value)
    axes.errorbar(
        *xy, **{"xerr" if lying else "yerr": reach}, fmt="o", color=colour, ms=5, capsize=3,
        lw=1.4, label=label,
    )  # fmt: skip


def _legend(figure: Figure, axes: Any) -> Any:
    """Below the plot, where it hides no data."""
    handles, texts = axes.get_legend_handles_labels()
    return figure.legend(handles, texts, loc="outside lower center", ncols=2, frameon=False)


def _title(axes: Any, title: str, detail: str) -> None:
    axes.set_title(title, fontsize=12, fontweight="bold", loc="left", pad=22)
    axes.annotate(
        detail, (0, 1), xytext=(0, 6), xycoords="axes fraction", textcoords="offset points",
        color=QUIET, fontsize=9.5,
    )  # fmt: skip


def _score(column: str) -> str:
    return column if column == "score" else f"score ({_short(column)})"


def _short(name: str, most: int = 34) -> str:
    return name if len(name) <= most else f"{name[: most // 2 - 1]}...{name[-most // 2 + 2 :]}"
