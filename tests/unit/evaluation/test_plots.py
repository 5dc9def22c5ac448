from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from tokenfocus_ray.evaluation.join import Elements, Joined
from tokenfocus_ray.evaluation.plots import (
    agreement,
    calibration,
    generators,
    scatter,
    write_plots,
)
from tokenfocus_ray.evaluation.report import report_of


def joined(n: int = 80, *, intervals: bool = False) -> Joined:
    generator = np.random.default_rng(0)
    labels = generator.integers(3, 16, size=n) / 3
    scores = labels + generator.normal(size=n)
    reach = 1.0 if intervals else math.nan
    names = ("vendor/a-model-with-a-very-long-name-1.0-experimental", "short", "$odd_name$", None)
    return Joined(
        n_rows=n, n_duplicates=0, unscored={}, n_unlabelled=0, n_labels=n, n_labels_without_row=0,
        keys=tuple(map(str, range(n))), scores=scores, labels=labels, groups=np.arange(n) // 4,
        generators=tuple(names[i % 4] for i in range(n)), lows=scores - reach,
        highs=scores + reach, elements=Elements.of([]), on_scale=True,
    )  # fmt: skip


def pictures(folder: Path) -> list[str]:
    """Names; fails unless each is a PNG with something on it."""
    for path in folder.iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert len(image.convert("RGB").getcolors(1 << 20) or ()) > 20
    return sorted(path.name for path in folder.iterdir())


def test_all_plots(tmp_path: Path) -> None:
    whole = joined(intervals=True)
    members = {f"member-{i}": whole.scores + i for i in range(3)}
    folder = tmp_path / "made" / "plots"
    lines = write_plots(str(folder), whole, report_of(whole, intervals=True), members, "score")
    assert lines == [
        f"- plots in {folder}: scatter.png, calibration.png, members.png, generators.png"
    ]
    assert pictures(folder) == [
        "calibration.png", "generators.png", "members.png", "scatter.png"
    ]  # fmt: skip


def boxes(texts: Iterable[Text]) -> list[Bbox]:
    """Where texts stand, in pixels."""
    return [text.get_window_extent() for text in texts if text.get_text()]


def check_layout(figure: Figure) -> None:
    """Nothing is cut off at the edge, and no name runs into the next."""
    canvas: Any = FigureCanvasAgg(figure)  # its stub has no types
    canvas.draw()
    inked, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert (min(inked.x0, inked.y0) > -0.02, inked.x1 - width < 0.02, inked.y1 - height < 0.02) == (
        True, True, True
    ), inked  # fmt: skip
    for axes in figure.axes:
        rows = sorted(boxes(axes.get_yticklabels()), key=lambda box: box.y0)
        assert all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(rows))


@pytest.mark.parametrize("n", [1, 3, 12])
def test_members_fit_into_their_plot(n: int) -> None:
    """Each figure into its cell, each name beside its row, however long or many they are."""
    whole = joined()
    names = [f"{'a-long-name-of-a-member-' * (i % 2)}{i}" for i in range(n)]
    figure = agreement(dict.fromkeys(names, whole.scores), whole.labels)
    check_layout(figure)
    axes = figure.axes[0]
    cell = axes.get_window_extent().width / (n + 1)
    figures = [text for text in axes.texts if not text.get_text().startswith("SRCC")]
    assert len(figures) == (n + 1) ** 2
    assert max(box.width for box in boxes(figures)) < cell


@pytest.mark.parametrize("on_scale", [True, False])
@pytest.mark.parametrize("makers", [1, 4, 25])
def test_generators_fit_into_their_plot(makers: int, on_scale: bool) -> None:
    names = [f"{'vendor/a-model-with-a-very-long-name-' * (i % 2)}{i}" for i in range(makers)]
    whole = dataclasses.replace(
        joined(100), generators=tuple(names[i % makers] for i in range(100)), on_scale=on_scale
    )
    if not on_scale:
        whole = dataclasses.replace(whole, scores=whole.scores * 100)
    figure = generators(whole, report_of(whole, intervals=True), "score")
    check_layout(figure)
    assert len(figure.axes) == 1 + (not on_scale)
    assert len(boxes(figure.axes[0].get_yticklabels())) == makers


@pytest.mark.parametrize("intervals", [True, False])
def test_calibration_has_a_part_for_intervals(intervals: bool) -> None:
    whole = joined(intervals=intervals)
    report = report_of(whole, intervals=True)
    figure = calibration(whole, report, "score")
    check_layout(figure)
    check_layout(scatter(whole, report, "score"))
    heights = [axes.get_window_extent().height for axes in figure.axes]
    assert len(heights) == 2 + intervals
    assert heights[0] > 2 * max(heights[1:])


def test_plots_without_data_are_left_out_and_told(tmp_path: Path) -> None:
    whole = dataclasses.replace(joined(), generators=(None,) * 80)
    report = report_of(whole, intervals=True)
    assert write_plots(str(tmp_path), whole, report, {}, "score") == [
        f"- plots in {tmp_path}: scatter.png, calibration.png",
        "- members.png is left out: there is one member only, or its name is not known",
        "- generators.png is left out: neither labels nor scores name generators",
    ]
    assert pictures(tmp_path) == ["calibration.png", "scatter.png"]
    whole = dataclasses.replace(joined(), labels=np.full(80, math.nan))
    folder = tmp_path / "none"
    assert write_plots(str(folder), whole, report_of(whole), {}, "score") == [
        f"- plots in {folder}: none",
        "- scatter.png is left out: no row has score and label",
        "- calibration.png is left out: no row has score and label",
        "- members.png is left out: there is one member only, or its name is not known",
        "- generators.png is left out: no row has score and label",
    ]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 3, 5])
def test_few_rows_equal_scores_and_another_scale(tmp_path: Path, n: int) -> None:
    whole = joined(n)
    if n > 3:
        whole = dataclasses.replace(whole, scores=np.full(n, 0.5), on_scale=False)
    members = {"a": whole.scores, "b": whole.scores}
    write_plots(str(tmp_path), whole, report_of(whole, intervals=True), members, "m_other")
    assert len(pictures(tmp_path)) == 4


def test_matplotlib_waits_for_plots() -> None:
    script = (
        "import sys, tokenfocus_ray.evaluation.plots\n"
        "heavy = {'matplotlib', 'torch', 'ray'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
