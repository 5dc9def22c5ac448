"""``tokenfocus select`` as it is called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tokenfocus_ray
from tests.support.selecting import row, table_of, write
from tokenfocus_ray import SelectSummary
from tokenfocus_ray.cli.app import app


def run(*arguments: str) -> tuple[int, str, str]:
    """In a process of its own: exit code, stdout and stderr."""
    root = Path(tokenfocus_ray.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "tokenfocus_ray.cli.app", "select", *arguments],
        capture_output=True,
        text=True,
        cwd=root,
    )
    return done.returncode, done.stdout, done.stderr


def test_what_rows_show_to_be_wrong_is_told(tmp_path: Path) -> None:
    """Though the folder was begun by then; the next try may write there."""
    rows = [row(0, 3.0, elements={"a dog": 0.9}), row(1, None)]
    scores, out = write(tmp_path / "s", table_of(rows)), str(tmp_path / "out")
    code, shown, error = run(scores, "--out", out, "--element-type", "animals")
    assert (code, shown) == (2, "")
    assert error.startswith(
        f"error: {scores}: no element is of the type 'animals'. Did you mean 'animal'? Known: "
        f"animal."
    )
    code, shown, error = run(scores, "--out", out, "--element-type", "animal")
    assert (code, error) == (0, "")
    assert shown.splitlines()[-2] == "dropped 1: 1 unscored:image_missing"
    assert shown.splitlines()[-1].startswith("rows=2 kept=1 dropped=1 seconds=")


def test_options_reach_the_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def select_scores(scores: str, out: str | None, selection: Any, **rest: Any) -> SelectSummary:
        seen.update(scores=scores, out=out, given=selection.given(), **rest)
        return SelectSummary(out, 3, 1, {"budget": 2}, images=1, not_copied=0, seconds=1.25)

    monkeypatch.setattr(tokenfocus_ray, "select_scores", select_scores)
    arguments = (
        "--out o --min-score 2 --min-low 1.5 --max-spread 1 --min-agreement .5 --elements-present "
        "--element-type a --element-type b --element c --element-threshold .4 --dependencies "
        "--best-of 2 --top .5 --balance generator --budget 9 --npy --uid u --copy-images "
        "--shard-size 7 --manifest m --manifest n --images i --map prompt=p"
    )
    result = CliRunner().invoke(app, ["select", "s", *arguments.split()])
    last = "rows=3 kept=1 dropped=2 images=1 not_copied=0 seconds=1.2 out=o\n"
    assert (result.exit_code, result.output) == (0, last)
    del seen["say"], seen["progress"]
    assert seen == {
        "scores": "s", "out": "o", "mapping": {"prompt": "p"}, "manifests": ["m", "n"],
        "images": "i", "npy": True, "uid": "u", "copy_images": True, "shard_size": 7,
        "given": {
            "min_score": 2.0, "min_low": 1.5, "max_spread": 1.0, "min_agreement": 0.5,
            "elements_present": True, "element_types": ["a", "b"], "elements": ["c"],
            "element_threshold": 0.4, "dependencies": True, "best_of": 2, "top": 0.5,
            "balance": "generator", "budget": 9,
        },
    }  # fmt: skip
    CliRunner().invoke(app, ["select", "s", "--out", "o", "--dry-run"])
    assert (seen["out"], seen["given"]) == (None, {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "give --out FOLDER for the result, or --dry-run to count only"),
        (
            "--dry-run --top 1.5 --budget 0",
            "options: top = 1.5: Input should be less than or equal to 1; budget = 0: Input should "
            "be greater than or equal to 1",
        ),
        (
            "--dry-run --min-agreement 0.5",
            "options: min_agreement needs min_score, which the members are to reach",
        ),
        (
            "--dry-run --dependencies",
            "options: dependencies needs elements_present, element_types or elements",
        ),
    ],
)
def test_criteria_that_do_not_fit(arguments: str, message: str) -> None:
    result = CliRunner().invoke(app, ["select", "s", *arguments.split()])
    assert str(result.exception) == message
