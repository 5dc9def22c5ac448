"""Commands in processes of their own that tests kill, with all that they started."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]


def wait_for(what: Callable[[], Any], seconds: float = 600.0) -> Any:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise TimeoutError(f"waited {seconds} s")


@contextlib.contextmanager
def in_background(what: Callable[[], Any]) -> Iterator[list[Any]]:
    """Runs a function beside the block; at its end the result is listed, or the error raised."""
    results: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(what)
        yield results
        results.append(future.result(timeout=60))


@contextlib.contextmanager
def driver(
    arguments: list[str],
    folder: Path,
    address: str | None = None,
    module: str = "tokenfocus_ray.cli.app",
) -> Iterator[subprocess.Popen[str]]:
    """The command, which writes to ``output.txt``; nothing of it survives the block.

    Args:
        arguments: Of the command.
        folder: Where it runs.
        address: Of a Ray cluster; by default it starts a session of its own.
        module: What runs.
    """
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    if address:
        environment["RAY_ADDRESS"] = address
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            end(psutil.Process(process.pid))
        process.wait(timeout=60)


def end(process: psutil.Process) -> None:
    """Kills a process, the one first, and then all that it started."""
    family = process.children(recursive=True)
    process.kill()
    # Ray's own end with their driver; what does not is ended here
    _, alive = psutil.wait_procs(family, timeout=5)
    for other in alive:
        with contextlib.suppress(psutil.Error):
            other.kill()
    psutil.wait_procs(alive, timeout=30)


def stop(process: subprocess.Popen[str], number: int, seconds: float = 60.0) -> int:
    """Sends a process a signal, once; returns its exit code when nothing that it started is left.

    Args:
        process: Which.
        number: Of the signal.
        seconds: How long to wait.
    """
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    code = process.wait(timeout=seconds)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, [other.cmdline() for other in alive]
    return code


def titled(title: str, root: int | None = None) -> list[psutil.Process]:
    """Processes whose title starts so: of those that ``root`` started, or of all."""
    every = psutil.Process(root).children(recursive=True) if root else psutil.process_iter()
    found = []
    for process in every:
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[:1] and process.cmdline()[0].startswith(title):
                found.append(process)
    return found
