"""What a person sees of a job, at 80 columns."""

from __future__ import annotations

import os
import pty
from dataclasses import replace

import pytest
from rich.console import Console

from tests.support.clock import Clock
from tests.support.terminals import seen
from tokenfocus_ray.cli.display import Display, Screen
from tokenfocus_ray.progress import MemberProgress, Progress


def drawing(progress: Progress, height: int = 24) -> list[str]:
    """Its lines, bars as they are."""
    display = Display("starting")
    display.tell(progress)
    return lines_of(display, height)


def lines_of(display: Display, height: int = 24) -> list[str]:
    with open(os.devnull, "w") as nowhere:
        console = Console(
            record=True, width=80, height=height, file=nowhere, force_terminal=True,
            color_system="256",
        )  # fmt: skip
        console.print(display)
    lines = console.export_text().splitlines()
    assert all(len(line) <= 80 for line in lines)
    return [line.rstrip() for line in lines]


def test_before_anything_is_known_the_seconds_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    display = Display("starting")
    clock.now += 75
    (line,) = lines_of(display)
    assert line[1:] == " starting 0:01:15"
    display.stop()
    (line,) = lines_of(display)
    assert line[1:] == " stopping: what was started is shut down"


def test_scoring() -> None:
    codes = {"ok": 800, "prompt_empty": 4, "image_corrupt": 30}
    whole = Progress("scoring", 1234, 10_000, new=834, rate=45.61, eta=192.0, codes=codes)
    bar, rows = drawing(whole)
    assert bar == f"scoring  {'━' * 2}╸{'━' * 21}   1,234/10,000 rows   45.6 rows/s  ETA 0:03:12"
    assert rows == "800 scored, 34 unscored: image_corrupt 30, prompt_empty 4; 400 were there"


def test_scoring_before_the_first_pieces() -> None:
    bar, rows = drawing(Progress("scoring", 0, 96))
    assert bar.startswith("scoring  ━")
    assert bar.endswith("   0/96 rows      - rows/s  ETA -:--:--")
    assert rows == "0 scored, 0 unscored"


def test_one_of_several_backbones_over_shards() -> None:
    """Nobody knows how many rows are in them."""
    codes = {"ok": 1234}
    found = Progress("scoring", 1234, None, part="qwen", new=1234, rate=200.0, codes=codes)
    bar, rows = drawing(found)
    assert bar.startswith("scoring qwen  ━")
    assert bar.endswith("  1,234 rows    200 rows/s  ETA -:--:--")
    assert rows == "1,234 scored, 0 unscored"


def test_seconds_that_are_left_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    display = Display("starting")
    display.tell(Progress("merging", 5, 10, new=5, rate=0.0312, eta=64.0))
    clock.now += 4
    (line,) = lines_of(display)
    assert line.endswith("   5/10 rows  0.031 rows/s  ETA 0:01:00")
    clock.now += 400
    assert lines_of(display)[0].endswith("ETA 0:00:00")


MEMBERS = (
    MemberProgress("qwen-bag0", 240, "finished", 200, 0.9, value=0.612, measured=200),
    MemberProgress("qwen-bag1", 240, "running", 12, 1.234, value=0.5, measured=8, eta=191.0),
    MemberProgress("internvl-bag0", 240),
)


def test_training() -> None:
    bar, *table = drawing(
        Progress("training", 212, 680, "steps", rate=4.2, eta=754, members=MEMBERS)
    )
    assert bar.startswith("training  ━")
    assert bar.endswith("  212/680 steps    4.2 steps/s  ETA 0:12:34")
    assert [line.split() for line in table] == [
        ["member", "state", "step", "loss", "SRCC", "ETA", "at", "most"],
        ["qwen-bag0", "finished", "200/240", "0.900", "0.612"],
        ["qwen-bag1", "running", "12/240", "1.234", "0.500", "0:03:11"],
        ["internvl-bag0", "waiting", "0/240"],
    ]


def test_more_members_than_lines() -> None:
    """Those at work are shown, and the others counted."""
    many = tuple(replace(m, name=f"{m.name}-{i}") for i in range(4) for m in MEMBERS)
    lines = drawing(Progress("training", 1, 9, "steps", members=many), height=12)
    assert len(lines) == 8
    assert sum("running" in line for line in lines) == 5 - 1
    assert lines[-1] == "and 3 waiting, 4 finished"


def test_members_with_different_figures() -> None:
    other = MemberProgress("b", 9, figure="loss")
    lines = drawing(Progress("training", 1, 9, "steps", members=(MEMBERS[0], other)))
    assert "validation" in lines[1]


def test_a_screen_is_as_wide_as_its_own_terminal_and_keeps_its_cursor() -> None:
    """Where neither stdin nor stdout leads to one."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 132, 0, 0))
    with open(theirs, "w") as stream, os.fdopen(ours, "rb"):
        screen = Screen(file=stream)
        assert (screen.width, screen.height) == (132, 30)
        assert screen.is_terminal
        assert not screen.show_cursor(False)


def test_what_is_seen_after_a_frame_is_drawn_over_another() -> None:
    assert seen("a\r\nbb\r\x1b[2K\x1b[1A\x1b[2Kc\x1b[1md\r\n") == ["cd", ""]
    assert seen("123456", columns=4) == ["1234", "56"]
