"""Where a job stands, drawn for a terminal."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence

from rich.console import (
    Console,
    ConsoleDimensions,
    ConsoleOptions,
    Group,
    RenderableType,
    RenderResult,
)
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Column, Table
from rich.text import Text

from tokenfocus_ray.progress import MemberProgress, Progress

#: Lines around those of members.
_AROUND = 6
_ORDER = ("running", "failed", "waiting", "finished")
_STYLES = {"running": "cyan", "failed": "red", "finished": "green", "waiting": "dim"}


class Screen(Console):
    """The terminal that a stream leads to, whose cursor no way of ending can lose."""

    def show_cursor(self, show: bool = True) -> bool:
        """Leaves it as it is: a process that is killed could not bring it back."""
        return False

    @property  # type: ignore[misc]  # nothing sets it
    def size(self) -> ConsoleDimensions:
        """Of the stream's own terminal; the standard ones may lead to a file by now."""
        try:
            return ConsoleDimensions(*os.get_terminal_size(self.file.fileno()))
        except (OSError, ValueError):
            return super().size


class Display:
    """What is redrawn: the latest progress, with seconds that pass.

    Args:
        stage: What is being done until there is any.
    """

    def __init__(self, stage: str) -> None:
        self.progress = Progress(stage)
        self._stopping = False
        self._told = self._started = time.monotonic()
        self._spinner = Spinner("dots")

    def tell(self, progress: Progress) -> None:
        """Takes where the job stands now."""
        self.progress, self._told = progress, time.monotonic()

    def stop(self) -> None:
        """Says from now on that the job is being shut down."""
        self._stopping = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draws it."""
        now = time.monotonic()
        if self._stopping:
            yield waiting_line("stopping: what was started is shut down", None, self._spinner)
        elif self.progress.total is None and not self.progress.done:
            yield waiting_line(self.progress.stage, now - self._started, self._spinner)
        else:
            yield drawn(self.progress, now - self._told, console.height)


def waiting_line(stage: str, seconds: float | None, spinner: Spinner) -> RenderableType:
    """A stage of which it is not known how long it takes."""
    line = Table.grid(Column(no_wrap=True), Column(no_wrap=True), padding=(0, 1))
    line.add_row(spinner, stage, *([Text(clock(seconds), "dim")] if seconds is not None else []))
    return line


def drawn(progress: Progress, ago: float, height: int) -> RenderableType:
    """A bar with rate and ETA, and below it rows by code, or a line a member.

    Args:
        progress: Where the job stands.
        ago: Seconds since that was so.
        height: Lines of the terminal.
    """
    lines: list[RenderableType] = [_bar_line(progress, ago)]
    if progress.stage == "scoring":
        lines.append(_codes_line(progress))
    if progress.members:
        lines.append(_members_table(progress.members, ago, max(3, height - _AROUND)))
    return Group(*lines)


def clock(seconds: float | None) -> str:
    """Hours, minutes and seconds.

    >>> clock(3725), clock(None)
    ('1:02:05', '-:--:--')
    """
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _bar_line(progress: Progress, ago: float) -> Table:
    line = Table.grid(
        Column(no_wrap=True),
        Column(ratio=1),
        *(Column(no_wrap=True, justify="right") for _ in range(3)),
        padding=(0, 2, 0, 0),
        expand=True,
    )
    total = progress.total
    # of one width, so that the bar does not jump
    whole = "" if total is None else f"/{total:,}"
    count = f"{progress.done:>{max(0, len(whole) - 1)},}{whole}"
    rate = "-" if progress.rate is None else rounded(progress.rate)
    bar = ProgressBar(
        total, progress.done, pulse=total is None, complete_style="cyan", finished_style="green"
    )
    name = f"{progress.stage} {progress.part}".strip()
    line.add_row(
        Text(name, "bold", overflow="ellipsis"),
        bar,
        f"{count} {progress.unit}",
        f"{rate:>5} {progress.unit}/s",
        f"ETA {clock(_left(progress.eta, ago))}",
    )
    return line


def rounded(rate: float) -> str:
    """Three figures or so.

    >>> rounded(0.0312), rounded(4.26), rounded(12345.6)
    ('0.031', '4.3', '12,346')
    """
    return f"{rate:.3f}" if rate < 0.1 else f"{rate:.1f}" if rate < 100 else f"{rate:,.0f}"


def _left(eta: float | None, ago: float) -> float | None:
    return None if eta is None else max(0.0, eta - ago)


def _codes_line(progress: Progress) -> Text:
    bad = progress.unscored
    text = Text.assemble(
        (f"{progress.scored:,} scored", "green"),
        ", ",
        (f"{sum(bad.values()):,} unscored", "yellow" if bad else ""),
        ": " * bool(bad) + ", ".join(f"{code} {n:,}" for code, n in bad.items()),
        "" if progress.done == progress.new else f"; {progress.done - progress.new:,} were there",
    )
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _members_table(members: Sequence[MemberProgress], ago: float, most: int) -> RenderableType:
    """The members in order; of more than fit, those at work first, and how many others."""
    shown = list(members)
    if len(members) > most:
        first = sorted(members, key=lambda m: _ORDER.index(m.state))[: most - 1]
        shown = [member for member in members if member in first]
    figures = {member.figure for member in members}
    figure = figures.pop() if len(figures) == 1 else "validation"
    table = Table(
        Column("member", no_wrap=True, overflow="ellipsis", ratio=1),
        Column("state", no_wrap=True),
        *(
            Column(name, justify="right", no_wrap=True)
            for name in ("step", "loss", figure, "ETA at most")
        ),
        box=None,
        expand=True,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for m in shown:
        eta = clock(_left(m.eta, ago)) if m.state == "running" else ""
        table.add_row(
            m.name,
            Text(m.state, _STYLES[m.state]),
            f"{m.step:,}/{m.n_steps:,}",
            "" if m.loss is None else f"{m.loss:.3f}",
            "" if m.value is None else f"{m.value:.3f}",
            eta,
        )
    if len(shown) == len(members):
        return table
    others: Counter[str] = Counter(m.state for m in members if m not in shown)
    text = ", ".join(f"{others[state]} {state}" for state in _ORDER if others[state])
    return Group(table, Text(f"and {text}", "dim"))
