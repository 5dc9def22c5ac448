from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokenfocus_ray.evaluation.join import Elements, Joined
from tokenfocus_ray.evaluation.plots import DPI, write_plots
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


def sizes(folder: Path) -> dict[str, tuple[float, float]]:
    """Name -> width and height in inches; fails unless it is a PNG with something on it."""
    found = {}
    for path in folder.iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert len(image.convert("RGB").getcolors(1 << 20) or ()) > 20
            found[path.name] = image.width / DPI, image.height / DPI
    return found


def test_all_plots(tmp_path: Path) -> None:
    whole = joined(intervals=True)
    members = {f"member-{i}": whole.scores + i for i in range(3)}
    folder = tmp_path / "made" / "plots"
    lines = write_plots(str(folder), whole, report_of(whole, intervals=True), members, "score")
    assert lines == [
        f"- plots in {folder}: scatter.png, calibration.png, members.png, generators.png"
    ]
    found = sizes(folder)
    assert found["scatter.png"] == (6.4, 5.2)
    assert found["calibration.png"] == pytest.approx((6.4, 1.2 + 3.2 + 1.1 + 1.4), abs=0.01)
    cells, longest = 4 * 0.62, len("human label")
    expected = (cells + 0.085 * longest + 1.8, cells + 0.06 * longest + 1.3)
    assert found["members.png"] == pytest.approx(expected, abs=0.01)
    assert found["generators.png"] == pytest.approx((6.4 + 0.06 * 34, 1.7 + 3 * 0.42), abs=0.01)


def test_plots_without_data_are_left_out_and_told(tmp_path: Path) -> None:
    whole = dataclasses.replace(joined(), generators=(None,) * 80)
    report = report_of(whole, intervals=True)
    assert write_plots(str(tmp_path), whole, report, {}, "score") == [
        f"- plots in {tmp_path}: scatter.png, calibration.png",
        "- members.png is left out: there is one member only, or its name is not known",
        "- generators.png is left out: neither labels nor scores name generators",
    ]
    assert sorted(sizes(tmp_path)) == ["calibration.png", "scatter.png"]
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
    assert len(sizes(tmp_path)) == 4


def test_matplotlib_waits_for_plots() -> None:
    script = (
        "import sys, tokenfocus_ray.evaluation.plots\n"
        "heavy = {'matplotlib', 'torch', 'ray'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
