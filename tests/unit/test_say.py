"""The lines that say where a job stands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.clock import Clock
from tokenfocus_ray.progress import MemberProgress, Progress
from tokenfocus_ray.say import in_lines, merging_line, scoring_line


def test_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = Clock(monkeypatch), list[str]()
    watch = in_lines(said.append)
    for seconds, new in ((11, 0), (0, 2), (9, 4), (2, 6), (1, 8), (10, 10)):
        clock.now += seconds
        watch(Progress("merging", new, 20, new=new))
        watch(Progress("looking at the images", new, 20, "images", new=new))
    assert said == [f"{n} rows in this launch" for n in (2, 6, 10)]


def test_a_line_for_each_record_of_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    said = list[str]()
    watch = in_lines(said.append)
    a = MemberProgress("a", 20, "running", 5, 0.5, value=0.25, measured=5, step_seconds=0.5, eta=30)
    b = MemberProgress("b", 20)
    later = replace(a, step=7, eta=None)
    for members in ((b,), (a, b), (a, replace(b, state="running", step=2, loss=2.0)), (later, b)):
        watch(Progress("training", members=members))
    watch(Progress("training", members=(replace(later, state="finished", step=9),)))
    assert said == [
        "a: step 5/20 loss 0.500 validation SRCC 0.250 0.50 s a step, at most 0.5 min left",
        "b: step 2/20 loss 2.000",
        "a: step 7/20 loss 0.500 0.50 s a step",
    ]


def test_lines_of_scoring() -> None:
    first = Progress("scoring", 4, 2000, new=4, codes={"ok": 4})
    assert scoring_line(first) == "4 rows in this launch, 1,996 of 2,000 left"
    codes = {"ok": 8, "prompt_empty": 1, "image_corrupt": 3}
    more = replace(first, done=12, new=12, part="qwen", rate=2.0, eta=994.0, codes=codes)
    assert scoring_line(more) == (
        "qwen: 12 rows in this launch, 2.0 rows/s, 1.5 images/s, 1,988 of 2,000 left, about "
        "16.6 min; unscored: image_corrupt 3, prompt_empty 1"
    )
    assert scoring_line(replace(more, total=None, eta=None, part="")) == (
        "12 rows in this launch, 2.0 rows/s, 1.5 images/s; unscored: image_corrupt 3, "
        "prompt_empty 1"
    )


def test_a_line_of_merging() -> None:
    found = Progress("merging", 70_000, 90_000, new=65_536, rate=12_345.6)
    assert merging_line(found) == "65,536 rows in this launch, 12,346 rows/s"
