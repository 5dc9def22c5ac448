"""Where the lines of a command go, and where those of others."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from tests.support.processes import ROOT
from tests.support.terminals import in_terminal
from tokenfocus_ray.cli.terminal import Terminal
from tokenfocus_ray.errors import ConfigError, JobError, UserError
from tokenfocus_ray.progress import LOOKING, Progress
from tokenfocus_ray.storage import Store

MANY = "(raylet) WARNING: 8 PYTHON worker processes have been started on node: 1 with address: 1"
NOISE = (
    "[2026 E 1 1] core_worker.cc:2465: Actor with class name: 'A' and ID: '1' has constructor "
    "arguments in the object store"
)
SCRIPT = f"""
import faulthandler, os, sys, time
from tokenfocus_ray.cli.ends import run
from tokenfocus_ray.cli.terminal import Terminal
from tokenfocus_ray.progress import Progress

def job(terminal):
    terminal.say("5 of 9 rows are there already")
    os.write(2, b"{NOISE}\\n")
    terminal.watch(Progress("scoring", 5, 9))
    os.write(1, b"C++ speaks\\n")
    print("a library speaks", file=sys.stderr)
    print("(raylet) WARNING: Ray prints")
    sys.stdout.flush()
    terminal.watch(Progress("scoring", 9, 9, new=4, rate=1.5, eta=0.0, codes={{"ok": 4}}))

def command():
    with Terminal("out") as terminal:
        with terminal.showing("starting"):
            job(terminal)
            END
        terminal.last("rows=9 seconds=1.0 out=out")

sys.exit(run(command, goes_on=True))
"""


def script(end: str = "pass") -> list[str]:
    return ["-c", SCRIPT.replace("END", end)]


def run(folder: Path, end: str = "pass") -> subprocess.CompletedProcess[str]:
    """The script in a process whose stdout and stderr are its own."""
    (folder / "tmp").mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp")}
    command = [sys.executable, *script(end)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_outside_of_a_terminal_lines_as_ever_and_others_in_a_file(tmp_path: Path) -> None:
    done = run(tmp_path)
    log = tmp_path / "out" / "__job" / "log" / "1.txt"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (f"5 of 9 rows are there already\nrows=9 seconds=1.0 log={log} out=out\n")
    assert (
        log.read_text() == f"{NOISE}\nC++ speaks\na library speaks\n(raylet) WARNING: Ray prints\n"
    )
    assert list((tmp_path / "tmp").iterdir()) == []
    run(tmp_path)
    assert sorted(path.name for path in log.parent.iterdir()) == ["1.txt", "2.txt"]


def test_what_was_not_foreseen_is_told_on_stderr_with_the_file(tmp_path: Path) -> None:
    done = run(tmp_path, "raise KeyError('rows')")
    assert done.returncode == 1
    first, *_, cause, note, last = done.stderr.splitlines()
    assert first == "Traceback (most recent call last):"
    assert cause == "KeyError: 'rows'"
    assert note == f"what Ray and libraries wrote: {tmp_path}/out/__job/log/1.txt"
    assert last.startswith("error: KeyError, which was not foreseen; what is written is kept: ")


def test_a_crash_is_told_on_stderr(tmp_path: Path) -> None:
    done = run(tmp_path, "faulthandler._sigsegv()")
    assert done.returncode < 0
    assert done.stderr.startswith("Fatal Python error: Segmentation fault")
    assert "C++ speaks" in (tmp_path / "out" / "__job" / "log" / "1.txt").read_text()


def test_in_a_terminal_one_display_that_is_gone_at_the_end(tmp_path: Path) -> None:
    with in_terminal(script("time.sleep(1)"), tmp_path) as typed:
        typed.wait_for("starting")
        assert typed.end() == 0
    log = tmp_path / "out" / "__job" / "log" / "1.txt"
    there, *last = typed.screen
    assert there == "5 of 9 rows are there already"
    assert "".join(last) == f"rows=9 seconds=1.0 log={log} out=out"
    for part in ("━", "9/9 rows", "1.5 rows/s", "ETA 0:00:00", "4 scored"):
        assert part in typed.text
    for part in ("C++ speaks", "a library speaks", "raylet", "core_worker", "\x1b[?25l"):
        assert part not in typed.text


def test_ctrl_c_in_a_terminal_leaves_one_line(tmp_path: Path) -> None:
    with in_terminal(script("time.sleep(60)"), tmp_path) as typed:
        typed.wait_for("9/9 rows")
        typed.type("\x03")
        assert typed.end() == 130
    assert typed.screen == [
        "5 of 9 rows are there already", "stopped; launch the same command again to go on",
    ]  # fmt: skip


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def end(out: Path, error: Exception, *, begun: bool, text: str = "help\n") -> str:
    """What is noted of an error of a command during which something else wrote a text."""
    try:
        with Terminal(str(out)) as terminal:
            os.write(2, text.encode())
            terminal.watch(Progress(LOOKING, 0, 9))
            if begun:
                terminal.watch(Progress("training", 0, 9))
            raise error
    except UserError:
        return "".join(getattr(error, "__notes__", []))


def test_a_job_that_is_refused_leaves_nothing(temporary: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert end(out, ConfigError("no"), begun=False) == ""
    assert end(out, JobError("Ray did not start"), begun=False, text=f"{NOISE}\n\n{MANY}\n") == ""
    assert list(temporary.iterdir()) == []
    note = end(out, JobError("Ray did not start"), begun=False)
    (path,) = temporary.iterdir()
    assert note == f"what Ray and libraries wrote: {path}"
    assert path.read_text() == "help\n"
    assert not out.exists()


def test_a_file_with_nothing_in_it_goes(temporary: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert end(out, ConfigError("no"), begun=True, text="") == ""
    assert list((out / "__job").iterdir()) == []


def test_a_folder_that_takes_no_file(temporary: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("a file in the way")
    note = end(out, JobError("no"), begun=True)
    assert note == f"what Ray and libraries wrote: {next(temporary.iterdir())}"


def test_a_file_that_somebody_deleted_hides_no_error(temporary: Path, tmp_path: Path) -> None:
    error = JobError("what befell it")

    def fail() -> None:
        with Terminal(str(tmp_path / "out")):
            os.write(2, b"help\n")
            for path in temporary.iterdir():
                path.unlink()
            raise error

    with pytest.raises(JobError) as caught:
        fail()
    assert caught.value is error


def test_a_folder_in_a_store_gets_the_file_at_the_end(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bucket" / "out" / "__job" / "log").mkdir(parents=True)
    remote = SubTreeFileSystem(str(tmp_path / "bucket"), LocalFileSystem())
    monkeypatch.setattr(Store, "of", lambda uri: Store(uri, remote, "out"))
    with Terminal("s3://bucket/out") as terminal:
        os.write(2, b"help\n")
        terminal.watch(Progress("scoring", 0, 9))
        assert len(list(temporary.iterdir())) == 1
        terminal.last("rows=9 out=s3://bucket/out")
    assert (tmp_path / "bucket/out/__job/log/1.txt").read_text() == "help\n"
    assert list(temporary.iterdir()) == []


def test_quiet_is_the_last_line_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Terminal(str(tmp_path / "out"), quiet=True) as terminal:
        with terminal.showing("starting"):
            terminal.say("starts")
            terminal.watch(Progress("scoring", 1, 9, new=1))
        print("a table")
        os.write(1, b"C++\n")
        terminal.last("rows=9 out=out")
    log = tmp_path / "out" / "__job" / "log" / "1.txt"
    assert capfd.readouterr() == (f"rows=9 log={log} out=out\n", "")
    print("after")
    assert capfd.readouterr().out == "after\n"


def test_verbose_keeps_nothing_aside(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Terminal(str(tmp_path / "out"), verbose=True) as terminal:
        with terminal.showing("starting", ray=False):
            terminal.say("starts")
            terminal.watch(Progress("scoring", 1, 9))
            os.write(1, b"C++\n")
        terminal.last("rows=9 out=out")
    assert capfd.readouterr() == ("starts\nC++\nrows=9 out=out\n", "")
    assert not (tmp_path / "out").exists()


def test_quiet_and_verbose_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Terminal("out", quiet=True, verbose=True)
    assert str(caught.value) == "--quiet and --verbose: give one of them"


def test_our_own_warnings_are_for_the_user(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("tokenfocus_ray.backbones.registry")
    with Terminal(str(tmp_path / "out")):
        logger.warning("its chat template differs")
    assert capfd.readouterr() == ("", "its chat template differs\n")
