"""What an export of pairs is asked for, and what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenfocus_ray.errors import ConfigError, did_you_mean
from tokenfocus_ray.exports.formats import FORMATS
from tokenfocus_ray.exports.formats.base import Format
from tokenfocus_ray.exports.pairing import REASONS, Rules

#: Tasks for people, where no number is asked for.
LIMIT = 100


@dataclass(frozen=True, slots=True)
class PairsSummary:
    """What a finished export did.

    Attributes:
        out: The output folder.
        format: Of the records.
        unit: What these are: ``pairs``, ``rankings``, ``rewards`` or ``tasks``.
        written: How many there are.
        counts: Of pairs: ``candidates`` (two scored images of one prompt), ``pairs`` (those that
            are written) and why the others are not, which add up to the candidates; of prompts:
            ``prompts`` and ``alone`` (those with one scored image).
        rows: Of the score table.
        unscored: Rows without a score, by reason.
        seconds: Wall time of this launch.
    """

    out: str
    format: str
    unit: str
    written: int
    counts: Mapping[str, int]
    rows: int
    unscored: Mapping[str, int]
    seconds: float

    @property
    def reasons(self) -> dict[str, int]:
        """Why two images of one prompt are no pair -> how many of them."""
        others = ("candidates", "pairs", "prompts", "alone")
        return {name: n for name, n in self.counts.items() if n and name not in others}

    def line(self) -> str:
        """The final line, which a script can read."""
        paired = f" candidates={self.counts['candidates']}" if "candidates" in self.counts else ""
        return (
            f"{self.unit}={self.written}{paired} rows={self.rows} "
            f"unscored={sum(self.unscored.values())} seconds={self.seconds:.1f} out={self.out}"
        )

    def lines(self) -> list[str]:
        """What became of all rows and pairs, for people."""
        found = []
        if self.unscored:
            codes = ", ".join(f"{code} {n:,}" for code, n in sorted(self.unscored.items()))
            found.append(f"{sum(self.unscored.values()):,} rows have no score: {codes}")
        if "candidates" in self.counts:
            found.append(
                f"{self.counts['prompts']:,} prompts, {self.counts['alone']:,} of them with one "
                f"scored image; {self.counts['candidates']:,} pairs of images of one prompt, "
                f"{self.counts['pairs']:,} of them kept"
            )
            why = {**REASONS}
            found += [
                f"{n:,} are no pair: {why.get(name, 'an image cannot be read')} ({name})"
                for name, n in self.reasons.items()
            ]
        return found


def check_options(format: str, rules: Rules, limit: int | None) -> Format:
    """The format of that name, for which these options mean something.

    Raises:
        ConfigError: there is no such format, or an option is of others only.
    """
    if (found := FORMATS.get(format)) is None:
        raise ConfigError(f"--format {format!r}: no such format. {did_you_mean(format, FORMATS)}")
    of_pairs: dict[str, Any] = {
        "--min-margin": rules.min_margin > 0,
        "--min-confidence": rules.min_confidence is not None,
        "--majority": rules.majority,
        "--per-prompt": rules.per_prompt is not None,
    }
    given = [name for name, is_given in of_pairs.items() if is_given]
    if found.unit in ("rewards", "tasks") and given:
        raise ConfigError(
            f"{given[0]}: --format {format} is of single images, not of pairs; leave it out"
        )
    if limit is not None and found.unit != "tasks":
        raise ConfigError(
            "--limit: is for --format label-studio only; --per-prompt limits the pairs of a prompt"
        )
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit}: wanted 1 or more")
    if found.unit == "rankings" and rules.per_prompt == 1:
        raise ConfigError("--per-prompt 1: a ranking needs two images or more")
    return found
