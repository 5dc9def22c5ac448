"""Score tables with images to make pages of, and pages made without Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.scores import metadata
from tokenfocus_ray.distributed.report import job
from tokenfocus_ray.schema import ELEMENT_TYPE, SCORE_SCHEMA

TWO = {"qwen": ["m0"], "internvl": ["m0"]}
MAKERS, KINDS = ("aurora", "birch", "cobalt"), ("object", "color", "counting")
SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("elements", pa.list_(ELEMENT_TYPE)),
        ("generator", pa.string()),
        ("image_uri", pa.string()),
        *SCORE_SCHEMA,
    ]
)


def rows(n: int, folder: Path | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of three generators and prompts for each three of them; every eleventh is unscored.

    Args:
        n: Number of rows.
        folder: Gets their images; None: there are none.
        seed: Of the scores.
    """
    chance = np.random.default_rng(seed)
    made = []
    for i in range(n):
        uri = f"/nowhere/{i}.png"
        if folder is not None:
            uri = str(folder / f"{i}.png")
            Image.new("RGB", (40, 30), (i * 37 % 256, i * 11 % 256, 90)).save(uri)
        members = np.clip(chance.normal(3.0, 0.7) + chance.normal(0, 0.2, 2), 1, 5)
        each = chance.random((2, len(KINDS)))
        is_bad = i % 11 == 5
        row: dict[str, Any] = {
            "sample_id": f"s{i:05d}",
            "prompt": f"prompt {i // 3} of a cat",
            "elements": [{"text": f"a {kind} {i}", "type": kind} for kind in KINDS],
            "generator": MAKERS[i % 3],
            "image_uri": uri,
            "status": "unscored" if is_bad else "ok",
            "error_code": "image_corrupt" if is_bad else None,
            "error_message": "the file is cut off; fetch it again" if is_bad else None,
            "score": float("nan") if is_bad else float(members.mean()),
            "member_scores": [] if is_bad else members.tolist(),
            "element_scores": [float("nan")] * 3 if is_bad else each.mean(axis=0).tolist(),
            "member_element_scores": [] if is_bad else each.tolist(),
        }
        made.append(row)
    return made


def write(found: Sequence[dict[str, Any]], path: Path, **more: Any) -> str:
    """Writes a score table, in row groups of 50; returns where."""
    table = pa.Table.from_pylist(list(found), schema=SCHEMA)
    for name, values in more.items():
        table = table.append_column(name, values)
    table = table.replace_schema_metadata(metadata(TWO))
    pq.write_table(table, path, row_group_size=50)
    return str(path)


def _run(task: Any, blocks: Sequence[pa.Table], *_: Any) -> Iterator[pa.Table]:
    yield from map(task, blocks)


@contextmanager
def without_ray() -> Iterator[None]:
    """Tasks are called one after another, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "_run", _run)
        patch.setattr(job, "ray_session", nullcontext)
        yield
