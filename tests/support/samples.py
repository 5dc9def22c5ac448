"""Samples for tests: pictures drawn from a seed, prompts and elements of every length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.scorer import AlignmentScorer

#: The numbers of elements that every comparison covers: none, one, usual, very many.
ELEMENT_COUNTS = (0, 1, 6, 20)
#: (width, height): landscape, portrait, small and square, very wide.
SIZES = ((200, 150), (96, 333), (40, 40), (420, 90))
_PROMPTS = (
    "one red circle",
    "  two dogs\tand 17 cats, drawn in ink;\n\nbright colours  ",
    "Ein Gemälde: drei grüne Äpfel 🍏🍏🍏 auf einem Tisch",
    "a very long street scene, " * 8 + "at night",
)
_THINGS = ("red circle", "pig giants", "bright colours", "grüner Apfel", "3 cats", "left of")
_TYPES = ("object", "animal", "color", "", "counting", "spatial")


@dataclass(frozen=True)
class Sample:
    """What a user hands in for one score.

    Attributes:
        image_HWC: RGB uint8.
        prompt: The text prompt.
        elements: Labels, ``"pig giants (animal)"`` or without a type.
        prompt_type: ``"real"``, ``"synthetic"`` or None.
    """

    image_HWC: NDArray[np.uint8]
    prompt: str
    elements: tuple[str, ...] = ()
    prompt_type: str | None = None


def picture(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """A smooth gradient with noise: resizing it wrongly, or any swap of axes, changes it."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * f + p) + np.cos(y * g + p) for f, g, p in random.uniform(0, 0.2, (3, 3))]
    noise = random.uniform(-40, 40, (height, width, 3))
    return np.clip(128 + 50 * np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def labels(count: int) -> tuple[str, ...]:
    """Element labels; every sixth repeats an earlier one with another number."""
    names = [f"{_THINGS[i % 6]} {i // 6}" if i >= 6 else _THINGS[i] for i in range(count)]
    types = [_TYPES[i % 6] for i in range(count)]
    return tuple(f"{n} ({t})" if t else n for n, t in zip(names, types, strict=True))


def make_samples(
    counts: Sequence[int] = ELEMENT_COUNTS, sizes: Sequence[tuple[int, int]] = SIZES
) -> list[Sample]:
    """One sample for each number of elements, all different in image, prompt and type."""
    return [
        Sample(
            picture(*sizes[i % len(sizes)], seed=i),
            _PROMPTS[i % len(_PROMPTS)] + (f" no. {i}" if i >= len(_PROMPTS) else ""),
            labels(count),
            (None, "real", "synthetic")[i % 3],
        )
        for i, count in enumerate(counts)
    ]


def score(scorer: AlignmentScorer, samples: Sequence[Sample]) -> list[ScoreRow]:
    """Rows of samples through the public entry, from raw pixels on."""
    return scorer.score(
        [s.image_HWC for s in samples],
        [s.prompt for s in samples],
        [list(s.elements) for s in samples],
        [s.prompt_type for s in samples],
    )
