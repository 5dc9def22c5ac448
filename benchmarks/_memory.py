"""Seconds and memory of a process and all that it started."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import psutil


class Watch(threading.Thread):
    """Peak memory of a process and all that it started, in MiB.

    Private memory of each process, and of the object store the pages that were ever touched.
    """

    def __init__(self, process: psutil.Process, seconds: float = 1.0) -> None:
        super().__init__(daemon=True)
        self._seconds = seconds
        self._process, self.ended = process, threading.Event()
        self.peak = {"driver": 0.0, "workers": 0.0, "object store": 0.0}
        self.total = 0.0

    def run(self) -> None:
        """Looks once a second, or as often as was said."""
        while not self.ended.wait(self._seconds):
            now = dict.fromkeys(self.peak, 0.0)
            for process in [self._process, *self._process.children(recursive=True)]:
                try:
                    memory, name = process.memory_full_info(), process.name()
                except psutil.Error:
                    continue
                where = "driver" if process == self._process else "workers"
                now[where] += memory.uss / 2**20
                if name == "raylet":
                    now["object store"] = memory.shared / 2**20
            for where, value in now.items():
                self.peak[where] = max(self.peak[where], value)
            self.total = max(self.total, sum(now.values()))

    def shown(self) -> str:
        """The peaks in words."""
        return ", ".join(f"{where} {value:.0f}" for where, value in self.peak.items())


def measured(file: str, *job: str, seconds: float = 1.0) -> tuple[float, Watch]:
    """Runs a benchmark's own job in a process of its own.

    Args:
        file: Of the benchmark, which takes ``--job``.
        job: Its arguments.
        seconds: Between two looks at the memory.

    Returns:
        Seconds that it took, and its memory.
    """
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    command = [sys.executable, file, "--job", *job]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    watch = Watch(psutil.Process(process.pid), seconds)
    watch.start()
    code = process.wait()
    taken = time.perf_counter() - started
    watch.ended.set()
    watch.join()
    assert code == 0
    return taken, watch
