"""A member's metrics, as JSON lines and for TensorBoard."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokenfocus_ray.distributed.train.member_job import METRICS_FILE
from tokenfocus_ray.errors import OutputError
from tokenfocus_ray.say import Say, silent
from tokenfocus_ray.storage import Store

#: Seconds between writes of the metrics, and steps between records of them.
METRICS_SECONDS, METRICS_STEPS = 5.0, 5


def plain_number(value: float) -> float | None:
    """A number as JSON knows it; None for what is not finite."""
    return float(value) if np.isfinite(value) else None


def read_metrics(folder: Store, say: Say = silent) -> list[dict[str, Any]]:
    """A member's records so far, for whoever watches; none of a file that is cut or foreign.

    Nothing depends on it: a member that goes on has its records from its checkpoint, and writes
    the file anew.

    Args:
        folder: The member's.
        say: Takes a line about such a file.
    """
    try:
        data = folder.read_bytes(METRICS_FILE)
    except (OSError, OutputError):
        return []
    try:
        records = [json.loads(line) for line in data.decode().splitlines()]
        odd = next((i for i, record in enumerate(records) if not _is_record(record)), None)
        problem = None if odd is None else f"line {odd + 1} is no record of a step"
    except (ValueError, RecursionError) as error:
        problem = str(error)
    if problem is None:
        return records
    uri = folder.child(METRICS_FILE).uri
    say(f"{uri!r} is not what training wrote ({problem}); the member writes it anew")
    return []


def _is_record(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    numbers = (value.get("step"), value.get("seconds"), value.get("loss", 0.0) or 0.0)
    return all(isinstance(number, (int, float)) for number in numbers)


def write_metrics(folder: Store, records: Sequence[dict[str, Any]], tensorboard: bool) -> None:
    """Metrics as JSON lines, and as one TensorBoard file, both anew.

    A restarted member drops what it is about to repeat, so neither can be appended to; and object
    storage cannot append.

    Args:
        folder: The member's folder.
        records: One mapping a record, with ``step``.
        tensorboard: Whether to write that file too.
    """
    lines = [json.dumps({k: _plain(v) for k, v in record.items()}) for record in records]
    folder.write_bytes(METRICS_FILE, ("\n".join(lines) + "\n").encode())
    if not tensorboard:
        return
    from tensorboardX import SummaryWriter

    with tempfile.TemporaryDirectory() as local:
        with SummaryWriter(local) as writer:
            for record in records:
                for name, value in record.items():
                    if name not in ("step", "seconds") and _plain(value) is not None:
                        writer.add_scalar(name, value, record["step"], record.get("seconds"))
        (events,) = Path(local).iterdir()
        folder.write_bytes("tensorboard/events.out.tfevents.0", events.read_bytes())


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
