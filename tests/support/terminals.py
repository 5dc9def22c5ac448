"""Commands in a terminal of their own: what they write to it, and what a person then sees."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from tests.support.processes import ROOT, end, wait_for

#: Makes the terminal on its stdin the controlling one, so that Ctrl-C is a signal to its group.
_OWN = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
_PARTS = re.compile(r"\x1b\[(?P<codes>[?\d;]*)(?P<kind>[A-Za-z])|(?P<plain>[^\x1b])", re.DOTALL)


def seen(text: str, columns: int = 80) -> list[str]:
    """What stands on the screen, scrolled lines included, after something was written to it."""
    lines, row, column = [""], 0, 0
    for part in _PARTS.finditer(text):
        match part["kind"], part["plain"]:
            case "A", _:
                row = max(0, row - int(part["codes"] or 1))
            case "K", _:
                lines[row] = "" if part["codes"] == "2" else lines[row][:column]
            case None, "\r":
                column = 0
            case None, str(plain):
                if plain == "\n" or column == columns:
                    row, column = row + 1, 0 if column == columns else column
                    lines += [""] * (row + 1 - len(lines))
                if plain != "\n":
                    line = lines[row].ljust(column)
                    lines[row], column = line[:column] + plain + line[column + 1 :], column + 1
    return lines


class Typed:
    """A command that runs in a terminal.

    Attributes:
        text: All that it has written, with its control sequences.
    """

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process, self.text, self._terminal = process, "", terminal
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # its other side is closed
            while data := os.read(self._terminal, 65536):
                self.text += data.decode(errors="replace")

    def wait_for(self, pattern: str, seconds: float = 120.0) -> str:
        """Waits until something has been written."""
        found = wait_for(lambda: re.search(pattern, self.text) or self.process.poll(), seconds)
        assert isinstance(found, re.Match), self.text
        return str(found[0])

    def type(self, keys: str) -> None:
        """Types something."""
        os.write(self._terminal, keys.encode())

    def end(self, seconds: float = 120.0) -> int:
        """Waits for the end; returns the exit code."""
        code = self.process.wait(timeout=seconds)
        self._reader.join(timeout=10)
        return code

    @property
    def screen(self) -> list[str]:
        """What a person sees, without blank lines."""
        return [line.rstrip() for line in seen(self.text) if line.strip()]


@contextlib.contextmanager
def in_terminal(
    arguments: list[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    size: tuple[int, int] = (24, 80),
) -> Iterator[Typed]:
    """Runs Python in a terminal; nothing of it survives the block.

    Args:
        arguments: Of Python.
        folder: Where it runs.
        environment: More variables.
        size: Lines and columns.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    dropped = ("RAY_ADDRESS", "COLUMNS", "LINES", "NO_COLOR", "CI")
    own = {k: v for k, v in os.environ.items() if k not in dropped}
    process = subprocess.Popen(
        [sys.executable, "-c", _OWN, *arguments],
        cwd=folder,
        env=own | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **(environment or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Typed(process, ours)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            end(psutil.Process(process.pid))
        process.wait(timeout=60)
        os.close(ours)
