"""Small tables for the stages of a scoring job, and what becomes of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.datasets.manifest import find_columns
from tokenfocus_ray.scoring.prepare import PrepareStage
from tokenfocus_ray.scoring.wire import prepared_column

CONFIG = ScoringConfig(backbone="tiny-qwen2_5_vl")
SPEC = loading.image_spec(registry.resolve(CONFIG.backbone))
PROMPT = "one red circle on snow"
_RNG = np.random.default_rng(0)
PIXELS = [_RNG.integers(0, 256, size=(48, 64, 3), dtype=np.uint8) for _ in range(3)]
ELEMENT = pa.struct([("text", pa.string()), ("type", pa.string())])


def png(pixels: np.ndarray[Any, Any] = PIXELS[0]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def prepare(
    table: pa.Table, base: Path | str = "/", mapping: dict[str, str] | None = None
) -> pa.Table:
    columns = find_columns(table.column_names, mapping or {}, "m")
    return PrepareStage(columns, {0: SPEC}, str(base))(table)


def images_of(table: pa.Table, backbone: int = 0) -> list[Any]:
    """What became of each row's image."""
    return table[prepared_column(backbone)].to_pylist()


def structs(*items: dict[str, Any] | None) -> pa.Array[Any]:
    return pa.array(items, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def sample_table(**more: Any) -> pa.Table:
    return pa.table(
        {
            "prompt": [PROMPT, "two blue stars, a very much longer prompt", None],
            "image": [png(pixels) for pixels in PIXELS],
            "elements": pa.array(
                [[{"text": "circle", "type": "object"}], None, [{"text": "ring", "type": None}]],
                pa.list_(ELEMENT),
            ),
            "prompt_type": ["real", None, "synthetic"],
            **more,
        }
    )
