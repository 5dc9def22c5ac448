"""One figure is one function: report, JSON, intervals, reasons and the printed table follow."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.support.scores import random_scores
from tokenfocus_ray.cli.evaluate import print_report
from tokenfocus_ray.evaluation import evaluate_tables, report
from tokenfocus_ray.evaluation.figures import FIGURES
from tokenfocus_ray.evaluation.figures.figure import Evidence, Figure

DOCS = Path(__file__).parents[3] / "docs" / "evaluation.md"


def test_the_figure_of_the_docs_is_in_all_that_a_report_gives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, section = DOCS.read_text().partition("## Another figure\n")
    code = [
        line[4:] for line in section.partition("\n## ")[0].splitlines() if line[:4] in ("", "    ")
    ]
    names: dict[str, object] = {}
    lines = ["from __future__ import annotations", "import math", "import numpy as np",
             "from tokenfocus_ray.evaluation.figures.figure import Figure"]  # fmt: skip
    exec("\n".join([*lines, *code]), names)
    monkeypatch.setattr(report, "FIGURES", (*FIGURES, names["mean_difference"]))
    scores, labels = random_scores({"q": ["m0"]}, 40)
    found = evaluate_tables(scores, labels, intervals=True)
    ratings: list[Any] = labels["total_scores"].to_pylist()
    means = [sum(own) / len(own) for own in ratings]
    totals: list[Any] = scores["score"].to_pylist()
    expected = sum(totals) / 40 - sum(means) / 40
    assert found.mean_difference == pytest.approx(expected, abs=1e-10)
    plain = found.to_dict()
    assert plain["mean_difference_low"] < plain["mean_difference"] < plain["mean_difference_high"]
    print_report(found)
    assert f"score less label            │ {expected:.4f}" in capsys.readouterr().out

    unscored, _ = random_scores({"q": ["m0"]}, 8, unscored=range(8))
    assert (
        "score less label: no row has score and label" in evaluate_tables(unscored, labels).reasons
    )


def test_what_several_figures_need_is_made_once() -> None:
    made = []

    def make(rows: Evidence) -> float:
        made.append(rows)
        return 7.0

    from tests.unit.evaluation.resampling.test_intervals import joined

    rows = Evidence(joined())
    assert [rows.once(make), rows.once(make), len(made)] == [7.0, 7.0, 1]
    one = Figure("a", "A", math.nan, 0, interval=rows.interval(lambda rows, resamples: None))
    assert one.interval is None
    assert math.isnan(one.low)


def test_a_report_can_be_copied_and_sent_elsewhere() -> None:
    scores, labels = random_scores({"q": ["m0"]}, 20)
    found = evaluate_tables(scores, labels)
    for other in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert other.to_dict() == found.to_dict()
    with pytest.raises(AttributeError) as caught:
        _ = found.srrc
    assert str(caught.value) == "'EvaluationReport' object has no attribute 'srrc'"
