"""How a command ends: its exit code, and the one line that says why.

0 is done; 2 what the user can put right; 1 what was not foreseen, with its traceback; 130 SIGINT
(Ctrl-C) and 143 SIGTERM, which Kubernetes, Slurm and ``ray job stop`` send.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import typer

from tokenfocus_ray.errors import TokenFocusError

#: Seconds in which a stopped command shuts down. What sent the signal kills after 30 by default.
STOP_SECONDS = 20.0
_AGAIN = "launch the same command again to go on"
_told: list[Callable[[], None]] = []


class Stopped(BaseException):
    """A signal asked the process to end. No ``Exception``: nobody's to handle but :func:`run`'s."""


@contextmanager
def when_stopping(tell: Callable[[], None]) -> Iterator[None]:
    """Has something called as soon as a signal asks the command in the block to end."""
    _told.append(tell)
    try:
        yield
    finally:
        _told.remove(tell)


def run(command: Callable[[], Any], *, goes_on: bool) -> int:
    """Runs a command to its end, whatever that is.

    Args:
        command: What to run.
        goes_on: Whether the same command, launched again, goes on where this one ended.

    Returns:
        The exit code.
    """
    code = 0
    with _Signals() as signals:
        try:
            command()
        except Stopped:
            pass
        except KeyboardInterrupt:  # some library has put Python's own handler back
            signals.came = signal.SIGINT
        except SystemExit as end:
            code = _code(end)
        except Exception as error:
            if not signals.came:  # else it is of what was shut down
                code = _failed(error, goes_on)
        if signals.came:
            code = _say(f"stopped; {_AGAIN}" if goes_on else "stopped", 128 + signals.came)
    return code


class _Signals:
    """Raises the first SIGINT or SIGTERM in the main thread; the second ends the process.

    Attributes:
        came: Number of the first; 0 until then.
    """

    def __init__(self) -> None:
        self.came = 0
        self._before: dict[int, Any] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:  # as in the background of a script
                    self._before[number] = before
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if self._timer is not None:
            self._timer.cancel()

    def _handle(self, number: int, frame: FrameType | None) -> NoReturn:
        if self.came:
            os._exit(128 + number)
        self.came = number
        # what cannot shut down, say since its cluster was stopped too, ends all the same
        self._timer = threading.Timer(STOP_SECONDS, os._exit, (128 + number,))
        self._timer.daemon = True
        self._timer.start()
        for tell in _told:
            tell()
        raise Stopped


def _failed(error: Exception, goes_on: bool) -> int:
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    if isinstance(error, TokenFocusError):
        return _say(f"error: {error}{notes}", 2)
    from tokenfocus_ray.distributed.ray_errors import user_error_in

    if (own := user_error_in(error)) is not None:
        return _say(f"error: {own}{notes}", 2)
    traceback.print_exception(error)
    again = f"; what is written is kept: {_AGAIN}" if goes_on else ""
    return _say(
        f"error: {type(error).__name__}, which was not foreseen{again}. If it comes again, please "
        f"report the lines above",
        1,
    )


def _code(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    return _say(str(end.code), 1)


def _say(line: str, code: int) -> int:
    typer.secho(line, fg=typer.colors.RED, err=True)
    return code
