"""What Ray's C++ and libraries write to the process's stdout and stderr, kept in a file.

The file descriptors are changed, since nothing else stops C++; so a command does this and never the
library. The file lies in the system's folder for temporary ones until the job has begun: one that
is refused leaves nothing in its output folder.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from tokenfocus_ray.storage import Store

#: Lines that are no reason to look into the file: of every pool of scorers that may be restarted,
#: and of every training on few cores.
HARMLESS = re.compile(
    r"core_worker\.cc:\d+: Actor with class name: .*constructor arguments in"
    r"|WARNING: \d+ PYTHON worker processes have been started on node"
)


class LogFile:
    """Takes the places of file descriptors 1 and 2.

    Attributes:
        out: Leads to where 1 led, as ``sys.stdout`` does meanwhile.
        err: Leads to where 2 led; ``sys.stderr`` goes to the file.
    """

    out: TextIO
    err: TextIO

    def __init__(self) -> None:
        self._kept: dict[int, int] = {}
        self._path = ""
        self._at: Store | None = None

    def open(self) -> None:
        """From now on the file takes what is written."""
        self.out, self.err, self._stdout = sys.stdout, sys.stderr, sys.stdout
        for stream in (self.out, self.err):
            stream.flush()
        try:
            self._kept = {number: os.dup(number) for number in (1, 2)}
        except OSError:  # closed by whoever started the command: there is nothing to keep clean
            return
        self.out, self.err = (_led_by(s, self._kept) for s in (self.out, self.err))
        handle, self._path = tempfile.mkstemp(prefix="tokenfocus-", suffix=".txt")
        self._switch(handle)
        sys.stdout = self.out
        self._had_faults = faulthandler.is_enabled()
        if self.err is not sys.stderr:
            faulthandler.enable(file=self._kept[2])  # a crash is told where the user sees it

    def begin(self, out: str) -> None:
        """Notes that a job has begun to write, and so goes on in its folder, if it can.

        Args:
            out: The output folder: of this machine at once, of a store at the end.
        """
        if self._at is not None or not self._kept:
            return
        from tokenfocus_ray.errors import OutputError
        from tokenfocus_ray.storage import Store

        store = Store.of(out if "://" in out else os.path.abspath(out)).child("__job", "log")
        with contextlib.suppress(OSError, OutputError):  # then it stays where it is
            numbers = [int(n[:-4]) for n in store.names() if n[:-4].isdigit()]
            at = store.child(f"{1 + max(numbers, default=0)}.txt")
            if at.is_local:
                self._move(at.root)
            self._at = at

    def _move(self, path: str) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o666)
        with open(self._path, "rb") as before:
            os.write(handle, before.read())
            self._switch(handle)
            os.write(1, before.read())  # what came in between
        os.unlink(self._path)
        self._path = path

    def _switch(self, handle: int) -> None:
        for number in self._kept:
            os.dup2(handle, number)
        os.close(handle)

    def taking_prints(self) -> AbstractContextManager[object]:
        """Takes what Python prints, too: Ray does so from a thread of its own."""
        if self._kept and self.out is not self._stdout:
            return contextlib.redirect_stdout(self._stdout)
        return contextlib.nullcontext()

    @property
    def worth_reading(self) -> str | None:
        """Where there is something to read that not every launch leaves."""
        if not self._kept:
            return None
        for stream in (self._stdout, sys.stderr):
            stream.flush()
        try:
            lines = Path(self._path).read_text(errors="replace").splitlines()
        except OSError:  # somebody deleted it, or its disk is gone
            return None
        if all(HARMLESS.search(line) or not line.strip() for line in lines):
            return None
        return self._path if self._at is None else self._at.uri

    def close(self, refused: bool = False) -> str | None:
        """All is as before.

        Args:
            refused: Whether an error says all; then a job that has not begun leaves no file.

        Returns:
            What :attr:`worth_reading` is then.
        """
        found = None if refused and self._at is None else self.worth_reading
        if not self._kept:
            return found
        sys.stdout = self._stdout
        for stream in (self.out, self.err, sys.stdout, sys.stderr):
            stream.flush()
        if self.err is not sys.stderr:
            faulthandler.enable(file=2) if self._had_faults else faulthandler.disable()
        for number, kept in self._kept.items():
            os.dup2(kept, number)
            os.close(kept)
        self._kept = {}
        return self._leave(found)

    def _leave(self, found: str | None) -> str | None:
        """Leaves the file where it belongs; one that nobody needs goes."""
        from tokenfocus_ray.errors import OutputError

        try:
            data = Path(self._path).read_bytes()
        except OSError:
            return None
        is_there = self._at is not None and self._at.is_local
        if self._at is not None and not self._at.is_local and data:
            try:
                self._at.write_bytes("", data)
            except OutputError:
                return found and self._path
        elif (is_there and data) or (self._at is None and found):
            return found
        os.unlink(self._path)
        if is_there:
            with contextlib.suppress(OSError):  # of earlier launches there are some
                os.rmdir(os.path.dirname(self._path))
        return found


def _led_by(stream: TextIO, kept: dict[int, int]) -> TextIO:
    """A stream to where one of the process's led; another, as tests have it, as it is."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return stream
    if number not in kept:
        return stream
    return open(
        kept[number], "w", buffering=1, encoding=stream.encoding, errors=stream.errors,
        closefd=False,
    )  # fmt: skip
