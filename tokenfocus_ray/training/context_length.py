"""Which samples do not fit a backbone's context, found before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tokenfocus_ray.backbones import loading
from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.config import TrainConfig
from tokenfocus_ray.errors import RowError
from tokenfocus_ray.schema import parse_elements
from tokenfocus_ray.scoring.scorer import AlignmentScorer

#: More than markup, headings and the wording of a question take.
MARKUP_TOKENS = 200


_NO_PIXELS = np.zeros((1, 1, 1, 3), np.uint8)


def beyond_context(
    config: TrainConfig,
    sources: Mapping[str, Source],
    samples: Sequence[Mapping[str, Any]],
    sizes: Mapping[int, tuple[int, int]],
) -> dict[int, RowError]:
    """Samples whose questions do not fit a backbone's context; training would fail on them.

    Args:
        config: The fan-out.
        sources: What each of its backbones was resolved to.
        samples: Rows of :data:`~tokenfocus_ray.training.samples.SAMPLES`.
        sizes: Row of the manifest -> width and height of its image in pixels.

    Returns:
        Row of the manifest -> why.
    """
    found: dict[int, RowError] = {}
    for name, run in config.backbones.items():
        backbone = loading.skeleton(sources[name])
        spec = loading.image_spec(sources[name], run.max_visual_tokens)
        packer = AlignmentScorer(backbone, config.scoring(name)).packer
        for row in samples:
            elements = tuple(parse_elements(row["elements"]) or ())
            width, height = sizes[row["row"]]
            plan = spec.plan(width, height)
            # a token has a byte at the least, so what is short in bytes fits
            texts = [str(row["prompt"]), *(e.label() for e in elements)]
            most = sum(len(t.encode()) + 1 for t in texts) + max(len(t.encode()) for t in texts)
            if plan.n_visual_tokens + most + MARKUP_TOKENS <= backbone.context_length:
                continue
            image = PreparedImage(_NO_PIXELS, plan.n_visual_tokens, plan.grid, width, height)
            try:
                packer.pack(0, image, row["prompt"], elements, row["prompt_type"], 1 << 40)
            except RowError as error:
                found[row["row"]] = error
    return found
