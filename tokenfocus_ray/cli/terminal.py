"""Where a command's lines go: the one display of a terminal, or line after line."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from tokenfocus_ray.cli import ends
from tokenfocus_ray.cli.log import LogFile
from tokenfocus_ray.errors import ConfigError, JobError, UserError
from tokenfocus_ray.progress import LOOKING, Progress, Watch, unwatched
from tokenfocus_ray.say import in_lines

if TYPE_CHECKING:
    from rich.live import Live

    from tokenfocus_ray.cli.display import Display

#: Frames a second.
FRAMES = 4.0
_OURS = logging.getLogger("tokenfocus_ray")


class Terminal:
    """What a command shows while it runs.

    In a terminal that is one display, above which lines scroll, and which is gone at the end; else
    lines. What others write to stdout and stderr goes to a file, see
    :mod:`~tokenfocus_ray.cli.log`.

    Args:
        out: The output folder, for that file; None: there is none, nor any need of it.
        quiet: Whether the last line is all.
        verbose: Whether Ray's own lines are shown too: then there is no display and no file.
        plain: Whether there is neither of them, wherever the lines go.
    """

    def __init__(
        self,
        out: str | None = None,
        *,
        quiet: bool = False,
        verbose: bool = False,
        plain: bool = False,
    ) -> None:
        if quiet and verbose:
            raise ConfigError("--quiet and --verbose: give one of them")
        self.quiet, self.verbose, self._plain = quiet, verbose, plain
        self._folder = None if verbose or plain else out
        self._out, self._err = sys.stdout, sys.stderr
        self._log = LogFile()
        self._lines: Watch = unwatched
        self._live: Live | None = None
        self._display: Display | None = None

    def __enter__(self) -> Terminal:
        if self._folder is not None:
            self._log.open()
            self._out, self._err = self._log.out, self._log.err
        if self.quiet:
            sys.stdout = open(os.devnull, "w")
        self._handler = _Warnings(self)
        _OURS.addHandler(self._handler)
        return self

    def __exit__(
        self, kind: object, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _OURS.removeHandler(self._handler)
        if self.quiet:
            sys.stdout.close()
            sys.stdout = self._out
        # what kept Ray from starting may stand in the file alone
        refused = isinstance(error, UserError) and not isinstance(error, JobError)
        log = None if self._folder is None else self._log.close(refused)
        if isinstance(error, Exception) and log is not None:
            error.add_note(f"what Ray and libraries wrote: {log}")

    def say(self, line: str) -> None:
        """Shows a line: above the display, if that is there."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif not self.quiet:
            print(line, file=self._out, flush=True)

    def warn(self, line: str) -> None:
        """Shows what is for the user, though no part of the output."""
        if self._live is not None:
            self.say(line)
        else:
            print(line, file=self._err, flush=True)

    def watch(self, progress: Progress) -> None:
        """Shows where the job stands."""
        if self._folder is not None and progress.stage != LOOKING:
            self._log.begin(self._folder)
        if self._display is not None:
            self._display.tell(progress)
        else:
            self._lines(progress)

    @contextmanager
    def showing(self, stage: str, *, ray: bool = True) -> Iterator[None]:
        """Shows the progress of a job for as long as the block runs.

        Args:
            stage: What it begins with.
            ray: Whether the job needs Ray.
        """
        with self._log.taking_prints(), self._shown(stage, ray):
            yield

    @contextmanager
    def _shown(self, stage: str, ray: bool) -> Iterator[None]:
        if self.quiet:
            yield
        elif self.verbose and ray:
            from tokenfocus_ray import ray_session

            self._lines = in_lines(self.say)
            with ray_session(verbose=True):  # which the job joins
                yield
        elif self.verbose or self._plain or not self._out.isatty():
            self._lines = in_lines(self.say)
            yield
        else:
            with self._drawn(stage):
                yield

    @contextmanager
    def _drawn(self, stage: str) -> Iterator[None]:
        from rich.live import Live

        from tokenfocus_ray.cli.display import Display, Screen

        self._display = Display(stage)
        self._live = Live(
            self._display, console=Screen(file=self._out), refresh_per_second=FRAMES,
            transient=True,
            redirect_stdout=self._folder is None, redirect_stderr=self._folder is None,
        )  # fmt: skip
        try:
            with self._live, ends.when_stopping(self._display.stop):
                yield
        finally:
            self._live = self._display = None

    def last(self, line: str) -> None:
        """Shows the last line, which a script can read, and which names the file of others' lines.

        Args:
            line: Ends with the output folder.
        """
        log = self._log.worth_reading
        if log is not None:
            head, out, folder = line.partition(" out=")
            line = f"{head} log={log}{out}{folder}"
        print(line, file=self._out, flush=True)


class _Warnings(logging.Handler):
    """Shows what this package's own loggers say, which is for the user and not for a file."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.WARNING)
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.warn(self.format(record))
