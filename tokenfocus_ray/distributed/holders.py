"""Who holds an output folder: a launch's process as a record, in words, and whether it lives."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

#: Files of this process's launches; one that is not among them could not be deleted at its end.
OWN_LEASES: set[str] = set()


class Life(Enum):
    """What is known of whoever wrote a file."""

    ALIVE = "works"
    DEAD = "ended without giving it up"
    GONE = "gave it up"
    UNKNOWN = "runs elsewhere"


def launch_record(command: str) -> dict[str, Any]:
    """This process's launch of a command."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    begun = now()
    return {
        "command": command,
        "host": socket.gethostname(),
        "user": user,
        "ray_job": _ray_job(),
        "machine": _machine(),
        "pid": os.getpid(),
        "process": _process(os.getpid()),
        "since": begun,
        "heartbeat": begun,
        "beats": 0,
    }


def describe(record: Mapping[str, Any]) -> str:
    """A launch in words."""
    if not record:
        return "an unknown launch"
    job = f", Ray job {record['ray_job']}" if record.get("ray_job") else ""
    return (
        f"another launch (tokenfocus {record.get('command')} on {record.get('host')}, process "
        f"{record.get('pid')}, user {record.get('user')}{job}, since {record.get('since')}, last "
        f"heartbeat {record.get('heartbeat')})"
    )


def life_of(name: str, record: Mapping[str, Any]) -> Life:
    """What is known at once of whoever wrote a file."""
    if name in OWN_LEASES:
        return Life.ALIVE
    machine, pid = _machine(), record.get("pid")
    if machine is None or record.get("machine") != machine or not isinstance(pid, int) or pid < 1:
        return Life.UNKNOWN
    if pid == os.getpid() and record.get("process") == _process(pid):
        return Life.DEAD  # ended, though its process goes on
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return Life.DEAD
    except PermissionError:  # another user's
        pass
    process = _process(pid)
    if process is None:
        return Life.UNKNOWN
    return Life.ALIVE if process == record.get("process") else Life.DEAD


def _machine() -> str | None:
    """One boot of one machine, and whose processes are seen of it; None where there is no way."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _process(pid: int) -> str | None:
    """When a process started; empty where it has ended, None where that is not to be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in ("Z", "X") else fields[19]


def _ray_job() -> str | None:
    """What ``ray job stop`` takes, in a job that was submitted."""
    with suppress(ValueError, KeyError, TypeError):
        submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
        return str(submitted["metadata"]["job_submission_id"])
    return None


def now() -> str:
    """The time, for messages."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
