"""Every end of a command: its exit code and its last line."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.processes import ROOT
from tokenfocus_ray.cli.ends import Stopped, run
from tokenfocus_ray.errors import ConfigError

AGAIN = "launch the same command again to go on"


def end(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(10)  # the signal ends it


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("goes_on", [True, False])
def test_a_signal_ends_with_its_code_and_one_line(
    number: int, code: int, goes_on: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    assert run(lambda: end(number), goes_on=goes_on) == code
    line = f"stopped; {AGAIN}\n" if goes_on else "stopped\n"
    assert capsys.readouterr() == ("", line)
    assert signal.getsignal(number) == before


def test_what_breaks_while_stopping_is_not_the_news(capsys: pytest.CaptureFixture[str]) -> None:
    """A cluster that got the signal too fails in its own ways."""

    def command() -> None:
        try:
            end(signal.SIGTERM)
        except Stopped as stopped:
            raise RuntimeError("the raylet is gone") from stopped

    assert run(command, goes_on=True) == 143
    assert capsys.readouterr() == ("", f"stopped; {AGAIN}\n")


def test_ignored_signals_stay_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a job that a script starts in its background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(lambda: os.kill(os.getpid(), signal.SIGINT), goes_on=True) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """Also a command that does not come to its end after the first."""
    (tmp_path / "stuck.py").write_text(
        "import sys, time\n"
        "from tokenfocus_ray.cli.ends import Stopped, run\n"
        "def stuck():\n"
        "    for line in ('ready', 'stopping'):\n"
        "        try:\n"
        "            print(line, flush=True)\n"
        "            time.sleep(60)\n"
        "        except Stopped:\n"
        "            pass\n"
        "sys.exit(run(stuck, goes_on=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "stuck.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as lines:
        assert lines.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert lines.readline() == "stopping\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143


def failing(error: Exception) -> NoReturn:
    raise error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("batch_size = -1"), "error: batch_size = -1"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "plots/a.png"),
            "error: No space left on device: 'plots/a.png'; free space on its disk, or choose "
            "another",
        ),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), "report.json"),
            "error: Permission denied: 'report.json'; check its permissions, or choose another "
            "folder",
        ),
    ],
    ids=["ours", "disk", "permission"],
)
def test_what_the_user_can_put_right_ends_in_one_line(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda: failing(error), goes_on=True) == 2
    assert capsys.readouterr() == ("", f"{line}\n")


@pytest.mark.parametrize("goes_on", [True, False])
def test_what_was_not_foreseen_keeps_its_traceback(
    goes_on: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda: failing(KeyError("rows")), goes_on=goes_on) == 1
    first, *_, cause, last = capsys.readouterr().err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert cause == "KeyError: 'rows'"
    kept = f"; what is written is kept: {AGAIN}" if goes_on else ""
    assert last == (
        f"error: KeyError, which was not foreseen{kept}. If it comes again, please report the "
        f"lines above"
    )
