"""How a long job tells whoever waits for it how far it is: a line at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

from tokenfocus_ray.progress import MemberProgress, Progress, Watch

#: Takes a line of progress.
Say = Callable[[str], object]

#: Seconds between lines, but for those of members.
LINE_SECONDS = 10.0


def silent(line: str) -> None:
    """For a caller who wants no lines."""


def in_lines(say: Say) -> Watch:
    """Says where a job stands: every ten seconds, and of members each record.

    Args:
        say: Takes lines.
    """
    said, steps = time.monotonic(), dict[str, int]()

    def watch(progress: Progress) -> None:
        nonlocal said
        for member in progress.members:
            is_new = member.step > steps.get(member.name, 0)
            if is_new and member.state == "running" and member.loss is not None:
                steps[member.name] = member.step
                say(f"{member.name}: {member_line(member)}")
        line_of = _LINES.get(progress.stage)
        if line_of and progress.new and time.monotonic() - said > LINE_SECONDS:
            said = time.monotonic()
            say(line_of(progress))

    return watch


def scoring_line(progress: Progress) -> str:
    """Where scoring stands, in a line.

    >>> scoring_line(Progress("scoring", 30, 90, new=20, rate=2.0, eta=30.0, codes={"ok": 20}))
    '20 rows in this launch, 2.0 rows/s, 2.0 images/s, 60 of 90 left, about 0.5 min'
    """
    text = f"{progress.new:,} rows in this launch"
    if progress.rate is not None:
        no_image = sum(n for c, n in progress.codes.items() if c.startswith("image_"))
        images = progress.rate * (progress.new - no_image) / progress.new if progress.new else 0.0
        text += f", {progress.rate:.1f} rows/s, {images:.1f} images/s"
    if progress.part:
        text = f"{progress.part}: {text}"
    if progress.total is not None:
        text += f", {progress.total - progress.done:,} of {progress.total:,} left"
    if progress.eta is not None:
        text += f", about {progress.eta / 60:.1f} min"
    bad = ", ".join(f"{code} {n}" for code, n in progress.unscored.items())
    return text + (f"; unscored: {bad}" if bad else "")


def merging_line(progress: Progress) -> str:
    """Where merging stands, in a line."""
    rate = "" if progress.rate is None else f", {progress.rate:,.0f} rows/s"
    return f"{progress.new:,} rows in this launch{rate}"


def reading_line(progress: Progress) -> str:
    """Where reading a table stands, in a line."""
    rate = "" if progress.rate is None else f", {progress.rate:,.0f} rows/s"
    of = "" if progress.total is None else f" of {progress.total:,}"
    return f"{progress.new:,}{of} rows read{rate}"


def writing_line(progress: Progress) -> str:
    """Where an export stands, in a line.

    >>> writing_line(Progress("writing", 1200, unit="pairs", new=1200, rate=60.0))
    '1,200 pairs written, 60 pairs/s'
    """
    rate = "" if progress.rate is None else f", {progress.rate:,.0f} {progress.unit}/s"
    return f"{progress.done:,} {progress.unit} written{rate}"


def member_line(member: MemberProgress) -> str:
    """How the training of a member goes, in a line.

    >>> member_line(MemberProgress("a", 24, "running", 12, 1.25, value=0.5, measured=12))
    'step 12/24 loss 1.250 validation SRCC 0.500'
    """
    text = f"step {member.step}/{member.n_steps} loss {member.loss:.3f}"
    if member.value is not None and member.measured == member.step:
        text += f" validation {member.figure} {member.value:.3f}"
    if member.step_seconds is not None:
        text += f" {member.step_seconds:.2f} s a step"
    if member.eta is not None:
        text += f", at most {member.eta / 60:.1f} min left"
    return text


def decomposing_line(progress: Progress) -> str:
    """Where making elements stands, in a line.

    >>> decomposing_line(Progress("decomposing", 30, 90, "prompts", new=20, rate=2.0, eta=30.0))
    '30 of 90 prompts decomposed, 2.0 prompts/s, about 0.5 min'
    """
    text = f"{progress.done:,} of {progress.total or 0:,} prompts decomposed"
    if progress.rate is not None:
        text += f", {progress.rate:,.1f} prompts/s"
    if progress.eta is not None:
        text += f", about {progress.eta / 60:.1f} min"
    return f"{text}; {progress.part}" if progress.part else text


_LINES = {
    "scoring": scoring_line,
    "merging": merging_line,
    "importing": merging_line,
    "decomposing": decomposing_line,
    "reading": reading_line,
    "writing": writing_line,
}
