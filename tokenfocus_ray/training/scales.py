"""Ratings on another scale than the levels': an error, not rows left out one by one.

Of ratings 0..4 on levels 1..5 only the rows with a 0 would be missed, and the others trained on
shifted by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenfocus_ray.errors import ManifestError
from tokenfocus_ray.schema import is_other_scale
from tokenfocus_ray.scoring.levels import LevelVocabulary


def check_scales(
    rows: Sequence[Mapping[str, Any]], levels: tuple[LevelVocabulary, LevelVocabulary], where: str
) -> None:
    """Refuses ratings that are on another scale than the levels'.

    Args:
        rows: Of the manifest, with ``total_scores`` and ``element_labels`` where it has them.
        levels: Of the total and of the element questions.
        where: The manifest, for messages.

    Raises:
        ManifestError: with the range of the ratings, and the levels that would fit it.
    """
    for column, vocabulary in zip(("total_scores", "element_labels"), levels, strict=True):
        low, high = min(vocabulary.values), max(vocabulary.values)
        rated = [(i, found) for i, r in enumerate(rows) if (found := [*_ratings(r.get(column))])]
        outside = [i for i, found in rated if not low <= min(found) <= max(found) <= high]
        if not is_other_scale(len(outside), len(rated)):
            continue
        seen = [rating for _, found in rated for rating in found]
        remedy = f"map them to {low:g}..{high:g}: element scores are thresholded at 0.5"
        if column == "total_scores":
            remedy = f"give total_levels: {_fitting(seen, vocabulary)}"
        raise ManifestError(
            f"{where}: {len(outside)} of {len(rated)} rows have {column} outside {low:g}.."
            f"{high:g}, the first of them row {outside[0]}; all ratings lie in "
            f"{min(seen):g}..{max(seen):g}. If that is their scale, {remedy}; else correct or drop "
            f"those rows"
        )


def _ratings(value: Any) -> Iterator[float]:
    """Finite numbers in nested lists; what is no number is told row by row."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _ratings(item)
    elif isinstance(value, (int, float)) and math.isfinite(value):
        yield float(value)


def _fitting(seen: Sequence[float], levels: LevelVocabulary) -> str:
    """Levels for ratings: the digits they are, else the words as they stand, evenly spaced.

    >>> words = LevelVocabulary(("bad", "fair", "good"), (1.0, 2.0, 3.0))
    >>> _fitting([0, 2, 1], words), _fitting([1, 2.5, 10], words)
    ('{"0": 0, "1": 1, "2": 2}', '{"bad": 1, "fair": 5.5, "good": 10}')
    """
    low, high = min(seen), max(seen)
    if 0 <= low < high <= 9 and all(rating.is_integer() for rating in map(float, seen)):
        pairs = [(str(value), float(value)) for value in range(int(low), int(high) + 1)]
    else:
        high = max(high, low + 1)
        ranked = [word for _, word in sorted(zip(levels.values, levels.words, strict=True))]
        step = (high - low) / (len(ranked) - 1)
        pairs = [(word, low + i * step) for i, word in enumerate(ranked)]
    return "{" + ", ".join(f'"{word}": {value:g}' for word, value in pairs) + "}"
